//! What it costs, counted by etcd itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure::backend::Store as _;
use tenure::lease::{Acquired, Drift, Hint, Released, Timing};
use tenure::time::{BootClock, Clock as _};

use super::etcd_server::{Etcd, Setup, Version};
use super::node::{Node, Start};
use super::recorder::Recorder;
use super::{bid, claim, election, next, store, win};

fn node(etcd: &Etcd, id: &str, timing: Timing) -> Node {
    Node::start(Start {
        id: id.parse().unwrap(),
        backend: store(etcd).election(&"e".parse().unwrap()),
        timing,
        floor: None,
        recorder: Arc::new(Recorder::default()),
    })
}

/// A leader sends one keep-alive a renewal, and reads the record along, for this etcd may
/// answer keep-alives without leading (etcd#15247); each follower reads the record once a
/// TTL, and nothing else.
#[tokio::test]
async fn a_calm_election_costs_what_is_told() {
    const RENEWALS: u64 = 12;
    let etcd = Etcd::single(Version::V3_5);
    let ttl = Duration::from_secs(2);
    let (renew_every, call) = (ttl / 5, ttl / 5);
    let timing = Timing::new(ttl, renew_every, call, Duration::ZERO, Drift::ONE_PERCENT).unwrap();
    let leader = node(&etcd, "leader", timing);
    let epoch = leader.until_leads().await;
    let followers = [node(&etcd, "one", timing), node(&etcd, "two", timing)];
    for follower in &followers {
        follower.until_knows(epoch).await;
    }
    let renewed = |snapshot: &tenure::machine::Snapshot| snapshot.tenure.unwrap().renewed_at;
    let first = renewed(
        &leader
            .until("led", |snapshot| snapshot.tenure.is_some())
            .await,
    );
    // The first keep-alive on a stream reads the record along.
    leader
        .until("renewed", |snapshot| {
            renewed(snapshot) > first + renew_every
        })
        .await;
    let count = || {
        [
            "Range",
            "Txn",
            "LeaseGrant",
            "LeaseTimeToLive",
            "LeaseRevoke",
        ]
        .map(|method| etcd.handled(0, method))
    };
    let (before, kept_before) = (count(), etcd.received(0, "LeaseKeepAlive"));
    let begun = BootClock.now();
    let mut last = begun;
    for _ in 0..RENEWALS {
        let snapshot = leader
            .until("renewed", |snapshot| renewed(snapshot) > last)
            .await;
        last = renewed(&snapshot);
    }
    let (after, kept) = (count(), etcd.received(0, "LeaseKeepAlive") - kept_before);
    let spent: Vec<u64> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    let ttls = BootClock.now().since(begun).as_secs_f64() / ttl.as_secs_f64();
    println!("{spent:?} and {kept} keep-alives in {ttls:.1} TTLs");
    assert!(
        (RENEWALS..=RENEWALS + 1).contains(&kept),
        "{kept} keep-alives"
    );
    let [reads, writes @ ..] = spent.as_slice() else {
        unreachable!()
    };
    assert!(writes.iter().all(|count| *count == 0), "{spent:?}");
    #[allow(clippy::cast_precision_loss)]
    let reads = *reads as f64;
    #[allow(clippy::cast_precision_loss)]
    let most = (ttls + 1.0) * 2.0 + (kept as f64);
    assert!(
        reads <= most,
        "{reads} reads with {kept} renewals, by two followers in {ttls:.1} TTLs"
    );
    assert_eq!(leader.leads(), Some(epoch));
}

/// Twice the requests, and not more, also where something else in etcd changes all the time.
#[tokio::test]
async fn a_busy_etcd_costs_a_read_a_renewal() {
    let etcd = Etcd::single(Version::V3_5);
    let one = election(&store(&etcd), "e");
    let epoch = win(&one, 1).await;
    one.renew(&claim(1, epoch)).await.unwrap();
    let before = etcd.handled(0, "Range");
    for round in 0..5 {
        etcd.put("somebody/else", &round.to_string());
        one.renew(&claim(1, epoch)).await.unwrap();
        one.renew(&claim(1, epoch)).await.unwrap();
    }
    assert_eq!(etcd.handled(0, "Range") - before, 10);
}

#[tokio::test]
async fn a_lease_is_rounded_to_what_etcd_grants() {
    let mut setup = Setup::of(Version::V3_4, 1);
    setup.election_timeout = Duration::from_secs(1);
    let etcd = Etcd::start(setup);
    let one = election(&store(&etcd), "e");
    for (asked, granted) in [(100, 2), (1000, 2), (2000, 2), (2001, 3), (4900, 5)] {
        let mut bid = bid(1);
        bid.ttl = Duration::from_millis(asked);
        let Ok(Acquired::Won { epoch, left }) = one.acquire(&bid).await else {
            panic!("not won");
        };
        assert_eq!(left, Duration::from_secs(granted), "asked for {asked} ms");
        let (holder, _) = one.observe().await.unwrap().holder.unwrap();
        assert_eq!(holder.ttl, bid.ttl);
        let released = one.release(&claim(1, epoch), None).await;
        assert_eq!(released, Ok(Released::Released));
    }
}

/// From the release to the next grant: at most four times one write, which is what a
/// release is to etcd.
#[tokio::test]
async fn a_handover_takes_a_few_writes() {
    let etcd = Etcd::single(Version::V3_5);
    let (one, two) = (store(&etcd), store(&etcd));
    let sides = [election(&one, "e"), election(&two, "e")];
    let mut streams = [sides[0].changes(), sides[1].changes()];
    for hints in &mut streams {
        assert!(matches!(next(hints).await, Hint::Present(_)));
    }
    let (mut took, mut writes) = (Vec::new(), Vec::new());
    let mut epoch = win(&sides[0], 1).await;
    for round in 0..100 {
        let (from, to) = (round % 2, (round + 1) % 2);
        let gone = claim(from as u128 + 1, epoch);
        let begun = Instant::now();
        let wait = async {
            while !matches!(next(&mut streams[to]).await, Hint::Ended { epoch: ended, .. } if ended == epoch)
            {
            }
            let won = win(&sides[to], to as u128 + 1).await;
            (won, begun.elapsed())
        };
        let release = async {
            let released = sides[from].release(&gone, None).await;
            (released, begun.elapsed())
        };
        let ((released, write), (next_epoch, handover)) = tokio::join!(release, wait);
        assert_eq!(released, Ok(Released::Released));
        assert!(next_epoch > epoch);
        took.push(handover);
        writes.push(write);
        epoch = next_epoch;
    }
    took.sort();
    writes.sort();
    let (handover, write) = (took[took.len() / 2], writes[writes.len() / 2]);
    println!(
        "handover: median {handover:?}, 95 % within {:?}; one write: median {write:?}",
        took[took.len() * 95 / 100]
    );
    assert!(
        handover <= write * 4 + Duration::from_millis(2),
        "{handover:?} for {write:?}"
    );
}
