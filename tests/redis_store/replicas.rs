//! `--redis-wait`: what too few replicas have does not count.

use tenure::lease::{
    Acquired, CheckpointWrite, CheckpointWritten, Observed, SessionId, StoreError,
};

use super::redis_server::RedisServer;
use super::sentinel_set::{SentinelSet, Shape, caught_up, heard};
use super::{CALL, bid, claim, election, store_at, store_that_waits, until, win};
use std::time::{Duration, Instant};

fn pair() -> (RedisServer, RedisServer) {
    let master = RedisServer::start_with(&["--save", "", "--repl-diskless-sync-delay", "0"]);
    let port = master.port().to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    caught_up(&replica);
    heard(&master, 1);
    (master, replica)
}

fn write(epoch: tenure::lease::Epoch) -> CheckpointWrite {
    CheckpointWrite {
        epoch,
        session: SessionId::from_bits(1),
        expected: None,
        bytes: vec![1],
    }
}

#[tokio::test]
async fn a_grant_that_no_replica_has_is_given_back() {
    let (master, replica) = pair();
    let store = store_that_waits(&master.url(), 1);
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    assert_eq!(
        replica.command(&["EXISTS", "tenure:{e}:leader"]).number(),
        1
    );
    let written = one.write_checkpoint(&write(epoch)).await;
    assert!(
        matches!(written, Ok(CheckpointWritten::Written(_))),
        "{written:?}"
    );
    one.release(&claim(1, epoch), None).await.unwrap();

    // It stays connected, and acknowledges nothing.
    replica.pause();
    let begun = Instant::now();
    let error = one.acquire(&bid(1)).await.unwrap_err();
    assert!(
        begun.elapsed() < CALL,
        "the caller would have given up: {:?}",
        begun.elapsed()
    );
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    let Observed {
        epoch: newest,
        holder,
    } = one.observe().await.unwrap();
    assert_eq!(holder, None, "the grant was kept");
    assert!(newest > Some(epoch), "its epoch is spent");
    replica.resume();
    let again = until(
        || async { one.acquire(&bid(1)).await },
        |answer| matches!(answer, Ok(Acquired::Won { .. })),
    );
    assert!(matches!(again.await, Ok(Acquired::Won { epoch, .. }) if Some(epoch) > newest));
}

#[tokio::test]
async fn a_checkpoint_that_no_replica_has_is_not_sure() {
    let (master, replica) = pair();
    let store = store_that_waits(&master.url(), 1);
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    replica.pause();
    let error = one.write_checkpoint(&write(epoch)).await.unwrap_err();
    assert!(matches!(error, StoreError::Indeterminate(_)), "{error}");
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    // Renewals and looks do not wait.
    assert!(one.renew(&claim(1, epoch)).await.is_ok());
    replica.resume();
}

/// A master that asks for replicas takes a write for as long as it has missed none for its
/// max-lag. One of them may have been promoted meanwhile, and have a leader: a grant counts
/// only once as many as it asks for have it.
#[tokio::test]
async fn a_grant_waits_for_the_replicas_that_the_master_asks_for() {
    let set = SentinelSet::of(Shape {
        replicas: 1,
        min_replicas: 1,
        // Nobody is promoted here.
        down_after: Duration::from_secs(600),
        ..Shape::default()
    });
    let store = store_at(&set.url());
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    one.release(&claim(1, epoch), None).await.unwrap();
    set.servers[1].pause();
    let error = one.acquire(&bid(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("0 of 1 replicas") && told.contains("min-replicas-to-write 1"),
        "{told}"
    );
    assert_eq!(one.observe().await.unwrap().holder, None);
    set.servers[1].resume();
    let again = until(
        || async { one.acquire(&bid(1)).await },
        |answer| matches!(answer, Ok(Acquired::Won { .. })),
    );
    assert!(again.await.is_ok());
}

/// More than there are: told by the numbers, and nothing is held meanwhile.
#[tokio::test]
async fn more_replicas_than_there_are() {
    let (master, _replica) = pair();
    let store = store_that_waits(&master.url(), 2);
    let one = election(&store, "e");
    let error = one.acquire(&bid(1)).await.unwrap_err();
    assert!(error.to_string().contains("1 of 2 replicas"), "{error}");
    assert_eq!(one.observe().await.unwrap().holder, None);
}
