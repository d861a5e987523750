//! The etcd store against real servers: what it writes, what it costs, how it fails.

#![cfg(feature = "etcd")]
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/etcd.rs"]
mod etcd_server;
#[path = "support/node.rs"]
mod node;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/recorder.rs"]
mod recorder;

#[path = "etcd_store/cost.rs"]
mod cost;
#[path = "etcd_store/faults.rs"]
mod faults;
#[path = "etcd_store/handover.rs"]
mod handover;
#[path = "etcd_store/login.rs"]
mod login;
#[path = "etcd_store/meddling.rs"]
mod meddling;
#[path = "etcd_store/refusals.rs"]
mod refusals;
#[path = "etcd_store/stalled_disk.rs"]
mod stalled_disk;
#[path = "etcd_store/tls.rs"]
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcd_server::{Etcd, Version};
use futures_util::StreamExt as _;
use tenure::backend::etcd::{EtcdOptions, EtcdStore};
use tenure::backend::{Backend, Hints, Store};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Epoch, Hint,
    Observed, Profile, Released, Renewed, SessionId,
};
use tenure::time::{BootClock, within};
use tenure::wire::CredentialFiles;

/// A loaded machine takes its time, and so does an etcd that syncs to a disk.
const CALL: Duration = Duration::from_secs(2);
const TTL: Duration = Duration::from_secs(30);
/// Nothing here should take as long.
const BOUND: Duration = Duration::from_secs(30);

fn store_with(url: &str, call_timeout: Duration, password: Option<PathBuf>) -> EtcdStore {
    let options = EtcdOptions {
        target: url.parse().unwrap(),
        credentials: CredentialFiles {
            password,
            ..CredentialFiles::default()
        },
        call_timeout,
    };
    EtcdStore::open(options, Arc::new(BootClock)).unwrap()
}

fn store_at(url: &str) -> EtcdStore {
    store_with(url, CALL, None)
}

fn store(etcd: &Etcd) -> EtcdStore {
    store_at(&etcd.url())
}

fn election(store: &EtcdStore, name: &str) -> Arc<dyn Backend> {
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
        hold: Duration::from_secs(2),
    }
}

fn claim(session: u128, epoch: Epoch) -> Claim {
    Claim {
        epoch,
        session: SessionId::from_bits(session),
        ttl: TTL,
        hold: Duration::from_secs(2),
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
    let mut last = None;
    let work = async {
        loop {
            let answer = ask().await;
            if accept(&answer) {
                return answer;
            }
            last = Some(answer);
            tenure::time::pause(Duration::from_millis(5)).await;
        }
    };
    match within(BOUND, work).await {
        Some(answer) => answer,
        None => panic!("it never happened, only {last:?}"),
    }
}

async fn next(hints: &mut Hints) -> Hint {
    within(BOUND, hints.next())
        .await
        .expect("no hint came")
        .expect("the stream ended")
}

#[tokio::test]
async fn a_tenure_from_grant_to_release() {
    let etcd = Etcd::single(Version::V3_4);
    let store = store(&etcd);
    let (a, b) = (election(&store, "e"), election(&store, "e"));
    let epoch = win(&a, 1).await;
    assert_eq!(win(&a, 1).await, epoch, "a lost answer found another grant");
    let Ok(Acquired::Held { holder, left }) = b.acquire(&bid(2)).await else {
        panic!("the second candidate was not held");
    };
    assert_eq!(holder.profile, bid(1).profile);
    assert_eq!((holder.epoch, holder.ttl, left), (epoch, TTL, TTL));
    assert_eq!(
        a.renew(&claim(1, epoch)).await,
        Ok(Renewed::Kept { left: TTL })
    );
    assert!(matches!(
        b.renew(&claim(2, epoch)).await,
        Ok(Renewed::Lost(Some(_)))
    ));
    checkpoint(&a, &b, epoch).await;

    // The second time as well: the first answer may have been lost.
    for _ in 0..2 {
        let released = a.release(&claim(1, epoch), None).await;
        assert_eq!(released, Ok(Released::Released));
    }
    let other = b.release(&claim(2, epoch), None).await;
    assert_eq!(other, Ok(Released::NotHeld));
    assert!(win(&b, 2).await > epoch);
}

async fn checkpoint(a: &Arc<dyn Backend>, b: &Arc<dyn Backend>, epoch: Epoch) {
    let mut write = CheckpointWrite {
        epoch,
        session: SessionId::from_bits(1),
        expected: None,
        bytes: (0..=255).cycle().take(64 * 1024).collect(),
    };
    let Ok(CheckpointWritten::Written(first)) = a.write_checkpoint(&write).await else {
        panic!("the checkpoint was not written");
    };
    let refused = CheckpointWritten::Mismatch {
        revision: Some(first),
    };
    assert_eq!(a.write_checkpoint(&write).await, Ok(refused));
    write.expected = Some(first);
    write.bytes.reverse();
    assert!(matches!(
        a.write_checkpoint(&write).await,
        Ok(CheckpointWritten::Written(_))
    ));
    let Ok(CheckpointRead::Present(checkpoint)) = b.read_checkpoint().await else {
        panic!("the checkpoint is gone");
    };
    assert_eq!(checkpoint.bytes, write.bytes);
}

#[tokio::test]
async fn an_operator_can_read_what_stands_there() {
    let etcd = Etcd::single(Version::V3_5);
    let store = store(&etcd);
    let one = election(&store, "orders");
    let epoch = win(&one, 1).await;
    let session = SessionId::from_bits(1);
    let owner = Some(format!("{epoch}:{session}"));
    assert_eq!(etcd.get("tenure/orders/leader"), owner);
    assert_eq!(etcd.get("tenure/orders/lease"), owner);
    let state = || -> serde_json::Value {
        serde_json::from_str(&etcd.get("tenure/orders/state").unwrap()).unwrap()
    };
    assert_eq!(state()["epoch"], epoch.get());
    assert_eq!(state()["profile"]["node"], "node-1");
    assert_eq!(state()["ended"], false);
    let prefer = "node-2".parse().unwrap();
    one.release(&claim(1, epoch), Some(&prefer)).await.unwrap();
    assert_eq!(etcd.get("tenure/orders/leader"), None);
    assert_eq!(etcd.get("tenure/orders/lease"), None);
    assert_eq!(state()["ended"], true);
    assert_eq!(state()["prefer"], "node-2");
}

#[tokio::test]
async fn hints_begin_with_the_present_and_name_the_preferred() {
    let etcd = Etcd::single(Version::V3_5);
    let (one, two) = (store(&etcd), store(&etcd));
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
async fn a_listener_that_races_a_release_hears_of_it() {
    let etcd = Etcd::single(Version::V3_5);
    let (one, two) = (store(&etcd), store(&etcd));
    let a = election(&one, "e");
    for round in 0..60 {
        let epoch = win(&a, 1).await;
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
        let release = async {
            tenure::time::pause(Duration::from_micros(round * 100)).await;
            a.release(&gone, None).await
        };
        let ((), released) = tokio::join!(listen, release);
        assert_eq!(released, Ok(Released::Released));
    }
}

#[tokio::test]
async fn everything_ends_with_the_store() {
    let etcd = Etcd::single(Version::V3_5);
    let store = store(&etcd);
    let elections: Vec<_> = (0..20)
        .map(|at| election(&store, &format!("e{at}")))
        .collect();
    let mut streams: Vec<_> = elections.iter().map(|one| one.changes()).collect();
    for hints in &mut streams {
        assert!(matches!(next(hints).await, Hint::Present(_)));
    }
    for one in &elections {
        win(one, 1).await;
    }
    assert_eq!(etcd.connections(), 1);
    drop((streams, elections, store));
    until(|| async { etcd.connections() }, |left| *left == 0).await;
}
