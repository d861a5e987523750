//! Redis 6.2, the oldest version that is taken: what it does otherwise than 7.

use std::sync::Arc;

use tenure::backend::{Answer, Store as _};
use tenure::lease::{
    Acquired, CheckpointRead, CheckpointWrite, CheckpointWritten, Hint, Released, Renewed,
    SessionId, StoreError,
};

use super::logged::Lines;
use super::redis_server::RedisServer;
use super::sentinel_set::{caught_up, heard, url_of, wait_for};
use super::{bid, claim, election, next, store, store_at, until, win};

const NO_DISK: &[&str] = &["--save", "", "--appendonly", "no"];

#[tokio::test]
async fn a_whole_tenure() {
    let server = RedisServer::start_oldest(NO_DISK);
    let store = store(&server);
    let one = election(&store, "e");
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let epoch = win(&one, 1).await;
    assert_eq!(next(&mut hints).await, Hint::Began(epoch));
    assert!(matches!(
        one.acquire(&bid(2)).await,
        Ok(Acquired::Held { .. })
    ));
    let kept = one.renew(&claim(1, epoch)).await;
    assert!(matches!(kept, Ok(Renewed::Kept { .. })), "{kept:?}");
    let write = CheckpointWrite {
        epoch,
        session: SessionId::from_bits(1),
        expected: None,
        bytes: vec![0, 255],
    };
    let written = one.write_checkpoint(&write).await;
    assert!(
        matches!(written, Ok(CheckpointWritten::Written(_))),
        "{written:?}"
    );
    let read = one.read_checkpoint().await;
    assert!(
        matches!(&read, Ok(CheckpointRead::Present(found)) if found.bytes == [0, 255]),
        "{read:?}"
    );
    let released = one.release(&claim(1, epoch), None).await;
    assert_eq!(released, Ok(Released::Released));
    assert!(matches!(next(&mut hints).await, Hint::Ended { epoch: ended, .. } if ended == epoch));
    assert!(win(&one, 2).await > epoch);
}

/// It wraps what refuses a script's command; a demoted master is left all the same.
#[tokio::test]
async fn a_demoted_master_is_told_as_one() {
    let server = RedisServer::start_oldest(NO_DISK);
    let store = store(&server);
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = one.renew(&claim(1, epoch)).await.unwrap_err();
    assert!(!error.may_have_happened(), "{error:?}");
    assert!(error.to_string().contains("read-only replica"), "{error}");
    // The connection was given up: the next one is asked who it is.
    let again = claim(1, epoch);
    let refused = until(
        || one.renew(&again),
        |answer| matches!(answer, Err(StoreError::Misconfigured(_))),
    );
    assert!(refused.await.is_err());
    server.command(&["REPLICAOF", "NO", "ONE"]);
    let kept = until(|| one.renew(&again), Result::is_ok);
    assert!(kept.await.is_ok());
}

/// Its scripts write without any replica, whatever is set: nothing is promised by that.
#[tokio::test]
async fn what_it_does_not_heed_is_not_counted_on() {
    let (told, _guard) = Lines::gather();
    let setting = [
        "--min-replicas-to-write",
        "1",
        "--min-replicas-max-lag",
        "2",
    ];
    let master = RedisServer::start_oldest(&[NO_DISK, &setting].concat());
    let port = master.port().to_string();
    let replica = RedisServer::start_oldest(&["--replicaof", "127.0.0.1", &port]);
    caught_up(&replica);
    heard(&master, 1);
    let sentinel = RedisServer::start_sentinel(&format!(
        "sentinel monitor mymaster 127.0.0.1 {port} 1\n\
         sentinel down-after-milliseconds mymaster 600000\n"
    ));
    let store = Arc::new(store_at(&url_of(&[sentinel.port()])));
    let Answer::If(condition) = store.guarantees().one_leader else {
        panic!("no condition");
    };
    assert!(condition.contains("Redis 7"), "{condition}");
    let one = election(&store, "e");
    drop(replica);
    wait_for("no replica", || {
        let info = master.command(&["INFO", "replication"]).text().to_owned();
        info.contains("connected_slaves:0").then_some(())
    });
    // It grants, and is not waited for.
    win(&one, 1).await;
    let told = || async { told.text() };
    until(told, |text| text.contains("update to Redis 7")).await;
}
