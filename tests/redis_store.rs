//! The Redis store against real servers: one connection, its faults, its wake-ups.

#![cfg(feature = "redis")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/redis.rs"]
mod redis_server;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use redis_server::{RedisServer, Reply, free_port};
use tenure::backend::redis::RedisStore;
use tenure::backend::{Backend, Hints, Store};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Epoch, Hint,
    HoldReason, Observed, Profile, Released, Renewed, SessionId, StoreError,
};
use tenure::time::{BootClock, within};

const CALL: Duration = Duration::from_millis(400);
const TTL: Duration = Duration::from_secs(30);
/// Nothing here should take as long.
const BOUND: Duration = Duration::from_secs(20);

fn store_at(url: &str) -> RedisStore {
    RedisStore::new(url.parse().unwrap(), CALL, Arc::new(BootClock))
}

fn store(server: &RedisServer) -> RedisStore {
    store_at(&server.url())
}

fn election(store: &RedisStore, name: &str) -> Arc<dyn Backend> {
    store.election(&name.parse().unwrap())
}

fn bid(session: u128) -> Bid {
    Bid {
        session: SessionId::from_bits(session),
        profile: Profile {
            node: format!("node-{session}").parse().unwrap(),
            url: Some("http://127.0.0.1:8080".to_owned()),
            metadata: vec![0, 255, 10],
        },
        ttl: TTL,
        floor: None,
        incumbent: false,
        hold: Duration::from_millis(200),
    }
}

fn claim(session: u128, epoch: Epoch) -> Claim {
    Claim {
        epoch,
        session: SessionId::from_bits(session),
        ttl: TTL,
        hold: Duration::from_millis(200),
    }
}

async fn win(election: &Arc<dyn Backend>, session: u128) -> Epoch {
    match election.acquire(&bid(session)).await {
        Ok(Acquired::Won { epoch, .. }) => epoch,
        other => panic!("not won: {other:?}"),
    }
}

/// Asks until `accept` takes the answer.
async fn until<T, F, A>(ask: A, accept: impl Fn(&T) -> bool) -> T
where
    A: Fn() -> F,
    F: Future<Output = T>,
    T: std::fmt::Debug,
{
    let work = async {
        loop {
            let answer = ask().await;
            if accept(&answer) {
                return answer;
            }
            tenure::time::pause(Duration::from_millis(2)).await;
        }
    };
    within(BOUND, work).await.expect("it never happened")
}

async fn next(hints: &mut Hints) -> Hint {
    within(BOUND, hints.next())
        .await
        .expect("no hint came")
        .expect("the stream ended")
}

fn clients(server: &RedisServer) -> usize {
    let list = server.command(&["CLIENT", "LIST"]);
    list.text()
        .lines()
        .filter(|line| line.contains("lib-name=tenure") || line.contains("resp=3"))
        .count()
}

#[tokio::test]
async fn a_tenure_from_grant_to_release() {
    let server = RedisServer::start();
    let store = store(&server);
    let (a, b) = (election(&store, "e"), election(&store, "e"));
    let epoch = win(&a, 1).await;
    assert_eq!(win(&a, 1).await, epoch, "a lost answer found another grant");
    let Ok(Acquired::Held { holder, left }) = b.acquire(&bid(2)).await else {
        panic!("the second candidate was not held");
    };
    assert_eq!(holder.profile, bid(1).profile);
    assert_eq!((holder.epoch, holder.ttl), (epoch, TTL));
    assert!(left <= TTL && left > TTL - BOUND, "{left:?}");
    let kept = a.renew(&claim(1, epoch)).await.unwrap();
    assert_eq!(kept, Renewed::Kept { left: TTL });
    assert!(matches!(
        b.renew(&claim(2, epoch)).await,
        Ok(Renewed::Lost(Some(_)))
    ));

    let mut bytes: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    let mut write = CheckpointWrite {
        epoch,
        session: SessionId::from_bits(1),
        expected: None,
        bytes: bytes.clone(),
    };
    let Ok(CheckpointWritten::Written(first)) = a.write_checkpoint(&write).await else {
        panic!("the checkpoint was not written");
    };
    assert_eq!(
        a.write_checkpoint(&write).await,
        Ok(CheckpointWritten::Mismatch {
            revision: Some(first)
        })
    );
    write.expected = Some(first);
    bytes.reverse();
    write.bytes = bytes.clone();
    assert!(matches!(
        a.write_checkpoint(&write).await,
        Ok(CheckpointWritten::Written(_))
    ));

    assert_eq!(
        a.release(&claim(1, epoch), None).await,
        Ok(Released::Released)
    );
    assert_eq!(
        a.release(&claim(1, epoch), None).await,
        Ok(Released::Released)
    );
    assert_eq!(
        b.release(&claim(2, epoch), None).await,
        Ok(Released::NotHeld)
    );
    assert!(win(&b, 2).await > epoch);
    let Ok(CheckpointRead::Present(checkpoint)) = b.read_checkpoint().await else {
        panic!("the checkpoint is gone");
    };
    assert_eq!(checkpoint.bytes, bytes);
    assert!(matches!(
        a.write_checkpoint(&write).await,
        Ok(CheckpointWritten::Stale { .. })
    ));
}

#[tokio::test]
async fn hints_begin_with_the_present_and_name_the_preferred() {
    let server = RedisServer::start();
    let (one, two) = (store(&server), store(&server));
    let (a, b) = (election(&one, "e"), election(&two, "e"));
    let mut hints = b.changes();
    assert_eq!(next(&mut hints).await, Hint::Present(Observed::default()));
    let epoch = win(&a, 1).await;
    assert_eq!(next(&mut hints).await, Hint::Began(epoch));
    let prefer = "a node - with spaces".parse().unwrap();
    a.release(&claim(1, epoch), Some(&prefer)).await.unwrap();
    let prefer = Some(prefer);
    assert_eq!(next(&mut hints).await, Hint::Ended { epoch, prefer });
    let mut late = b.changes();
    let Hint::Present(observed) = next(&mut late).await else {
        panic!("a later stream does not begin with the present");
    };
    assert_eq!((observed.epoch, observed.holder), (Some(epoch), None));
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
    let dropped = within(CALL * 9 / 10, one.acquire(&asked)).await;
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
async fn a_hundred_elections_share_one_connection() {
    let server = RedisServer::start();
    let store = store(&server);
    let elections: Vec<_> = (0..100)
        .map(|at| election(&store, &format!("e{at}")))
        .collect();
    let mut streams: Vec<_> = elections.iter().map(|one| one.changes()).collect();
    for hints in &mut streams {
        assert!(matches!(next(hints).await, Hint::Present(_)));
    }
    let wins = elections.iter().map(|one| win(one, 1));
    let epochs = futures_util::future::join_all(wins).await;
    for (hints, epoch) in streams.iter_mut().zip(epochs) {
        assert_eq!(next(hints).await, Hint::Began(epoch));
    }
    assert_eq!(clients(&server), 1);
    let channels = || server.command(&["PUBSUB", "CHANNELS", "tenure:*"]);
    assert_eq!(channels().list().len(), 100);
    streams.truncate(3);
    until(|| async { channels().list().len() }, |left| *left == 3).await;
    drop((streams, elections, store));
    until(|| async { clients(&server) }, |left| *left == 0).await;
}

#[tokio::test]
async fn a_listener_that_races_a_release_hears_of_it() {
    let server = RedisServer::start();
    let (one, two) = (store(&server), store(&server));
    let a = election(&one, "e");
    for round in 0..200 {
        let epoch = win(&a, 1).await;
        // A new election each time: a subscription of its own.
        let b = election(&two, "e");
        let gone = claim(1, epoch);
        let listen = async {
            let mut hints = b.changes();
            loop {
                match next(&mut hints).await {
                    Hint::Present(observed) if observed.holder.is_none() => return,
                    Hint::Ended { epoch: ended, .. } if ended == epoch => return,
                    _ => {}
                }
            }
        };
        let spread = Duration::from_micros(round * 3);
        let release = async {
            let begun = Instant::now();
            while begun.elapsed() < spread {
                tokio::task::yield_now().await;
            }
            a.release(&gone, None).await
        };
        let ((), released) = tokio::join!(listen, release);
        assert_eq!(released, Ok(Released::Released));
    }
}

#[tokio::test]
async fn a_handover_takes_a_few_round_trips() {
    let server = RedisServer::start();
    let (one, two) = (store(&server), store(&server));
    let sides = [election(&one, "e"), election(&two, "e")];
    let mut streams = [sides[0].changes(), sides[1].changes()];
    for hints in &mut streams {
        assert!(matches!(next(hints).await, Hint::Present(_)));
    }
    let mut took = Vec::new();
    let mut epoch = win(&sides[0], 1).await;
    for round in 0..200 {
        let (from, to) = (round % 2, (round + 1) % 2);
        let gone = claim(from as u128 + 1, epoch);
        let begun = Instant::now();
        let wait = async {
            while !matches!(next(&mut streams[to]).await, Hint::Ended { epoch: ended, .. } if ended == epoch)
            {
            }
            win(&sides[to], to as u128 + 1).await
        };
        let (released, next_epoch) = tokio::join!(sides[from].release(&gone, None), wait);
        took.push(begun.elapsed());
        assert_eq!(released, Ok(Released::Released));
        assert!(next_epoch > epoch);
        epoch = next_epoch;
    }
    took.sort();
    let (median, slow) = (took[took.len() / 2], took[took.len() * 95 / 100]);
    println!("handover: median {median:?}, 95 % within {slow:?}");
    assert!(median < Duration::from_millis(20), "median {median:?}");
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

/// Answers `answer` to whatever is sent, and closes; or stays silent.
fn stranger(answer: Option<&'static [u8]>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 512]);
            match answer {
                Some(answer) => drop(stream.write_all(answer)),
                None => kept.push(stream),
            }
        }
    });
    port
}

async fn refusal(url: &str) -> StoreError {
    let store = store_at(url);
    let one = election(&store, "e");
    within(BOUND, one.acquire(&bid(1)))
        .await
        .expect("no answer")
        .expect_err("it was taken")
}

#[tokio::test]
async fn what_is_no_redis_is_named() {
    let http = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".as_slice();
    for (answer, named, sure) in [
        (Some(http), "HTTP server", true),
        (Some(b"<!DOCTYPE HTML>".as_slice()), "HTTP server", true),
        (
            Some(b"\x15\x03\x01\x00\x02\x02\x16".as_slice()),
            "TLS",
            true,
        ),
        (Some(b"SSH-2.0-OpenSSH_9\r\n".as_slice()), "SSH-2.0", true),
        (Some(b"".as_slice()), "closed the connection", false),
    ] {
        let port = stranger(answer);
        let error = refusal(&format!("redis://127.0.0.1:{port}")).await;
        let text = error.to_string();
        assert!(
            text.contains(named) && text.contains(&port.to_string()),
            "{text}"
        );
        assert_eq!(
            matches!(error, StoreError::Misconfigured(_)),
            sure,
            "{text}"
        );
    }
    let silent = refusal(&format!("redis://127.0.0.1:{}", stranger(None))).await;
    assert!(matches!(silent, StoreError::Unavailable(_)), "{silent}");
    let nobody = refusal(&format!("redis://127.0.0.1:{}", free_port())).await;
    assert!(
        nobody.to_string().contains("is a Redis running"),
        "{nobody}"
    );
    let nowhere = refusal("redis://no-such-host.invalid").await;
    assert!(matches!(nowhere, StoreError::Unavailable(_)), "{nowhere}");
}

#[tokio::test]
async fn a_redis_that_cannot_serve_is_told_apart() {
    let locked = RedisServer::start();
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", locked.port());
    assert!(
        refusal(&format!("{}/99", url("")))
            .await
            .to_string()
            .contains("no such database")
    );
    locked.command(&[
        "ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all", "-eval", "-evalsha",
    ]);
    locked.command(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let error = refusal(&url("")).await;
    assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    assert!(error.to_string().contains("wants a password"), "{error}");
    let error = refusal(&url(":wrong@")).await.to_string();
    assert!(
        error.contains("refuses the user or the password"),
        "{error}"
    );
    assert!(!error.contains("wrong@"), "{error}");
    let error = refusal(&url("app:s3cret@")).await.to_string();
    assert!(
        error.contains("lacks a right") && error.contains("evalsha"),
        "{error}"
    );
    let open = store_at(&url(":hunter2@"));
    win(&election(&open, "e"), 1).await;

    let nowhere = free_port().to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &nowhere]);
    let error = refusal(&replica.url()).await.to_string();
    assert!(error.contains("replica"), "{error}");
    let cluster = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let error = refusal(&cluster.url()).await.to_string();
    assert!(error.contains("Cluster"), "{error}");
}

#[tokio::test]
async fn without_the_right_to_subscribe_it_still_works() {
    let server = RedisServer::start();
    let rights = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">x",
        "~tenure:*",
        "resetchannels",
        "+@all",
    ];
    assert_eq!(server.command(&rights), Reply::Text("OK".to_owned()));
    let store = store_at(&format!("redis://app:x@127.0.0.1:{}", server.port()));
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let released = one.release(&claim(1, epoch), None).await;
    assert_eq!(released, Ok(Released::Released));
}

#[tokio::test]
async fn a_lease_or_hold_out_of_range_is_refused_before_it_is_sent() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    for wrong in [Duration::ZERO, Duration::MAX] {
        let mut asked = bid(1);
        asked.ttl = wrong;
        let error = one.acquire(&asked).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    }
    assert_eq!(one.observe().await.unwrap(), Observed::default());
}
