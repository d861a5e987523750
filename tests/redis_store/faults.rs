//! What a server does wrong while it is used.

use std::time::{Duration, Instant};

use tenure::lease::{Acquired, Bid, Hint, HoldReason, Observed, Renewed, StoreError};
use tenure::time::within;

use super::ports::free_port;
use super::redis_server::RedisServer;
use super::{CALL, TTL, bid, claim, election, next, store, until, win};

/// The key of a leader that is gone outlives its lease by as much as the server's clock was set
/// back: for the next bidder it ends a TTL from then.
#[tokio::test]
async fn a_clock_that_was_set_back_keeps_no_dead_leader() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    let short = |session| Bid {
        ttl: Duration::from_millis(400),
        ..bid(session)
    };
    let Ok(Acquired::Won { epoch, .. }) = one.acquire(&short(1)).await else {
        panic!("not won");
    };
    // As it stands after a step of an hour.
    let left = 3_600_000.to_string();
    server.command(&["PEXPIRE", "tenure:{e}:leader", &left]);
    let at = server
        .command(&["PEXPIRETIME", "tenure:{e}:leader"])
        .number();
    server.command(&["HSET", "tenure:{e}:state", "expires_ms", &at.to_string()]);
    let next = short(2);
    let won = until(
        || one.acquire(&next),
        |answer| matches!(answer, Ok(Acquired::Won { .. })),
    );
    assert!(matches!(won.await, Ok(Acquired::Won { epoch: next, .. }) if next > epoch));
}

#[tokio::test]
async fn a_cut_is_told_at_once_and_healed_without_help() {
    let mut server = RedisServer::start_durable();
    let store = store(&server);
    let elections: Vec<_> = (0..3)
        .map(|at| election(&store, &format!("e{at}")))
        .collect();
    let mut streams: Vec<_> = elections.iter().map(|one| one.changes()).collect();
    for hints in &mut streams {
        assert!(matches!(next(hints).await, Hint::Present(_)));
    }
    let epoch = win(&elections[0], 1).await;
    assert_eq!(next(&mut streams[0]).await, Hint::Began(epoch));
    server.kill();
    for hints in &mut streams {
        assert_eq!(next(hints).await, Hint::Gap);
    }
    let refused = until(
        || elections[0].observe(),
        |answer| matches!(answer, Err(error) if !error.may_have_happened()),
    )
    .await
    .unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    server.start_again();
    for (at, hints) in streams.iter_mut().enumerate() {
        let Hint::Present(observed) = next(hints).await else {
            panic!("no state after the gap");
        };
        assert_eq!(observed.epoch, (at == 0).then_some(epoch));
    }
    // The lease survived, but another start of the server answers: its holder may
    // go on, and nobody else is granted one without a hold.
    let kept = elections[0].renew(&claim(1, epoch)).await;
    assert_eq!(kept, Ok(Renewed::Kept { left: TTL }));
    // Wake-ups flow again, too.
    let second = win(&elections[1], 1).await;
    assert_eq!(next(&mut streams[1]).await, Hint::Began(second));
}

#[tokio::test]
async fn another_start_of_the_server_is_not_trusted_at_once() {
    let mut server = RedisServer::start_durable();
    let store = store(&server);
    let one = election(&store, "e");
    let mut short = bid(1);
    short.ttl = Duration::from_millis(50);
    let Ok(Acquired::Won { epoch, .. }) = one.acquire(&short).await else {
        panic!("not won");
    };
    server.kill();
    server.start_again();
    let free = |answer: &Result<Observed, StoreError>| matches!(answer, Ok(observed) if observed.holder.is_none());
    until(|| one.observe(), free).await.unwrap();
    let Ok(Acquired::Hold { why, .. }) = one.acquire(&bid(2)).await else {
        panic!("granted at once");
    };
    assert_eq!(why, HoldReason::ServerChanged);
    let asked = bid(2);
    let won = until(
        || one.acquire(&asked),
        |answer| matches!(answer, Ok(Acquired::Won { .. })),
    );
    assert!(matches!(won.await, Ok(Acquired::Won { epoch: next, .. }) if next > epoch));
}

#[tokio::test]
async fn a_server_that_hangs_costs_no_more_than_a_call() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    server.pause();
    for _ in 0..4 {
        let begun = Instant::now();
        let error = one.renew(&claim(1, epoch)).await.unwrap_err();
        let took = begun.elapsed();
        assert!(took < CALL * 2, "{took:?}: {error}");
        tenure::time::pause(Duration::from_millis(20)).await;
    }
    assert_eq!(next(&mut hints).await, Hint::Gap);
    server.resume();
    let kept = until(
        || async { one.renew(&claim(1, epoch)).await },
        Result::is_ok,
    );
    assert_eq!(kept.await, Ok(Renewed::Kept { left: TTL }));
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
}

#[tokio::test]
async fn a_caller_that_gives_up_ends_the_dead_connection() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    win(&one, 1).await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    server.pause();
    // As the sidecar does it: the call is dropped before its own timeout.
    let asked = bid(1);
    let dropped = within(CALL * 4 / 5, one.acquire(&asked)).await;
    assert_eq!(dropped, None);
    assert_eq!(next(&mut hints).await, Hint::Gap);
    server.resume();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
}

#[tokio::test]
async fn scripts_that_were_flushed_are_sent_again() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    for _ in 0..3 {
        server.command(&["SCRIPT", "FLUSH"]);
        let kept = one.renew(&claim(1, epoch)).await;
        assert_eq!(kept, Ok(Renewed::Kept { left: TTL }));
        assert!(one.observe().await.unwrap().holder.is_some());
    }
}

#[tokio::test]
async fn a_demoted_master_is_left_and_taken_again() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    let nowhere = free_port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &nowhere]);
    let told = until(
        || async { one.renew(&claim(1, epoch)).await },
        |answer| matches!(answer, Err(error) if error.to_string().contains("replica")),
    )
    .await
    .unwrap_err();
    assert!(!told.may_have_happened(), "{told}");
    let told = until(
        || one.observe(),
        |answer| matches!(answer, Err(StoreError::Misconfigured(_))),
    )
    .await
    .unwrap_err();
    assert!(told.to_string().contains(&nowhere), "{told}");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    let kept = until(
        || async { one.renew(&claim(1, epoch)).await },
        Result::is_ok,
    );
    assert_eq!(kept.await, Ok(Renewed::Kept { left: TTL }));
}

#[tokio::test]
async fn a_full_store_says_so_and_recovers() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    assert!(one.observe().await.is_ok());
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let told = one.acquire(&bid(1)).await.unwrap_err();
    assert!(told.to_string().contains("maxmemory"), "{told}");
    assert!(!told.may_have_happened());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    win(&one, 1).await;
}

#[tokio::test]
async fn a_broken_record_is_told_with_its_repair() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    win(&one, 1).await;
    server.command(&["HSET", "tenure:{e}:state", "record", "{nonsense"]);
    let told = one.acquire(&bid(2)).await.unwrap_err();
    assert!(matches!(told, StoreError::Corrupt(_)), "{told}");
    server.command(&["SET", "tenure:{e}:state", "x"]);
    let told = one.acquire(&bid(2)).await.unwrap_err();
    let StoreError::Corrupt(text) = told else {
        panic!("{told}");
    };
    assert!(
        text.contains("tenure:{e}:state") && text.contains("DEL"),
        "{text}"
    );
}
