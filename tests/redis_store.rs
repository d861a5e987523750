//! The Redis store against real servers: one connection, its faults, its wake-ups.

#![cfg(feature = "redis")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/cluster_server.rs"]
mod cluster_server;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "support/redis_tls.rs"]
mod redis_tls;
#[path = "support/sentinel_set.rs"]
mod sentinel_set;

#[path = "redis_store/faults.rs"]
mod faults;
#[path = "redis_store/logged.rs"]
mod logged;
#[path = "redis_store/oldest.rs"]
mod oldest;
#[path = "redis_store/refusals.rs"]
mod refusals;
#[path = "redis_store/replicas.rs"]
mod replicas;
#[path = "redis_store/rights.rs"]
mod rights;
#[path = "redis_store/tls.rs"]
mod tls;
#[path = "redis_store/tls_topologies.rs"]
mod tls_topologies;
#[path = "redis_store/topologies.rs"]
mod topologies;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use redis_server::RedisServer;
use tenure::backend::redis::{RedisOptions, RedisStore};
use tenure::backend::{Backend, Hints, Store};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Epoch, Hint,
    Observed, Profile, Released, Renewed, SessionId,
};
use tenure::time::{BootClock, within};
use tenure::wire::CredentialFiles;

/// A loaded machine takes its time to connect, and each request has this long once.
const CALL: Duration = Duration::from_secs(2);
const TTL: Duration = Duration::from_secs(30);
/// Nothing here should take as long.
const BOUND: Duration = Duration::from_secs(20);

fn store_at(url: &str) -> RedisStore {
    store_that_waits(url, 0)
}

/// One whose grants and checkpoints so many replicas must acknowledge.
fn store_that_waits(url: &str, wait: u8) -> RedisStore {
    let options = RedisOptions {
        target: url.parse().unwrap(),
        credentials: CredentialFiles::default(),
        call_timeout: CALL,
        wait,
    };
    RedisStore::open(options, Arc::new(BootClock)).unwrap()
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
