//! What members do wrong while they are used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure::backend::Store as _;
use tenure::lease::{Drift, Hint, Renewed, StoreError, Timing};
use tenure::time::pause;

use super::etcd_server::{Etcd, Version};
use super::node::{Node, Start};
use super::recorder::Recorder;
use super::{TTL, bid, claim, election, next, store, store_with, until, win};

/// Short enough that a member that hangs costs several calls within a lease.
const QUICK: Duration = Duration::from_millis(600);

pub fn raft_leader(etcd: &Etcd) -> usize {
    let of = |at: usize| {
        let text = etcd.etcdctl(at, &["endpoint", "status", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        let status = &status[0]["Status"];
        (
            status["header"]["member_id"].clone(),
            status["leader"].clone(),
        )
    };
    (0..etcd.len())
        .find(|at| {
            let (own, leader) = of(*at);
            own == leader
        })
        .expect("no member leads")
}

/// The address of all members, with that one first.
pub fn url_with_first(etcd: &Etcd, first: usize) -> String {
    let order = (0..etcd.len()).map(|at| (first + at) % etcd.len());
    let places: Vec<_> = order
        .map(|at| format!("127.0.0.1:{}", etcd.port(at)))
        .collect();
    format!("etcd://{}", places.join(","))
}

pub fn node(url: &str, id: &str, recorder: &Arc<Recorder>) -> Node {
    let ttl = Duration::from_secs(5);
    let timing = Timing::new(ttl, ttl / 5, QUICK, Duration::ZERO, Drift::ONE_PERCENT);
    Node::start(Start {
        id: id.parse().unwrap(),
        backend: store_with(url, QUICK, None).election(&"e".parse().unwrap()),
        timing: timing.unwrap(),
        floor: None,
        recorder: Arc::clone(recorder),
    })
}

/// Whichever member is stopped, and however it fails, the leader goes on under the same
/// epoch by way of the others, and so do the followers.
#[tokio::test]
async fn a_member_that_hangs_costs_no_lease() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = Etcd::cluster(version);
        let recorder = Arc::default();
        let first = (raft_leader(&etcd) + 1) % etcd.len();
        let leader = node(&url_with_first(&etcd, first), "leader", &recorder);
        let epoch = leader.until_leads().await;
        let follower = node(&url_with_first(&etcd, first), "follower", &recorder);
        follower.until_knows(epoch).await;
        etcd.pause(first);
        let begun = Instant::now();
        // Two TTLs: a lease that is not renewed would be over.
        while begun.elapsed() < Duration::from_secs(10) {
            assert_eq!(
                leader.leads(),
                Some(epoch),
                "{version:?}: the lease was lost"
            );
            pause(Duration::from_millis(20)).await;
        }
        // The follower hears of the end by way of another member.
        leader.step_down(TTL, None);
        let released = Instant::now();
        assert!(follower.until_leads().await > epoch);
        let took = released.elapsed();
        assert!(
            took < Duration::from_secs(2),
            "{version:?}: heard after {took:?}"
        );
        etcd.resume(first);
        recorder.check();
    }
}

#[tokio::test]
async fn a_killed_member_costs_no_lease() {
    let mut etcd = Etcd::cluster(Version::V3_5);
    let recorder = Arc::default();
    let first = raft_leader(&etcd);
    let leader = node(&url_with_first(&etcd, first), "leader", &recorder);
    let epoch = leader.until_leads().await;
    etcd.kill(first);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        assert_eq!(leader.leads(), Some(epoch), "the lease was lost");
        pause(Duration::from_millis(20)).await;
    }
    recorder.check();
}

/// The member that leads the cluster stands still for longer than a lease, and goes on
/// as if nothing had been (etcd#15247): no two nodes lead at once, and no epoch goes
/// back. Whether the leader keeps its lease depends on how soon the others elect.
#[tokio::test]
async fn a_stuck_leader_of_the_cluster_makes_no_two_leaders() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = Etcd::cluster(version);
        let recorder = Arc::default();
        let stuck = raft_leader(&etcd);
        let nodes = ["one", "two"].map(|id| node(&url_with_first(&etcd, stuck), id, &recorder));
        let led = || nodes.iter().find_map(Node::leads);
        let first = until(|| async { led() }, Option::is_some).await;
        etcd.pause(stuck);
        pause(Duration::from_secs(7)).await;
        etcd.resume(stuck);
        let last = until(|| async { led() }, Option::is_some).await;
        assert!(last >= first, "{last:?} after {first:?}");
        pause(Duration::from_secs(2)).await;
        recorder.check();
    }
}

/// Without most of the members nothing is certain, and it is said; with them it heals.
#[tokio::test]
async fn a_lost_quorum_is_told_and_heals() {
    for version in [Version::V3_4, Version::V3_5] {
        let mut etcd = Etcd::cluster(version);
        let store = store(&etcd);
        let one = election(&store, "e");
        let epoch = win(&one, 1).await;
        let mut hints = one.changes();
        assert!(matches!(next(&mut hints).await, Hint::Present(_)));
        etcd.kill(1);
        etcd.kill(2);
        let asked = bid(2);
        let told = until(
            || one.acquire(&asked),
            |answer| matches!(answer, Err(error) if error.to_string().contains("no leader")),
        );
        let told = told.await.unwrap_err();
        assert!(matches!(told, StoreError::Unavailable(_)), "{told}");
        assert_eq!(next(&mut hints).await, Hint::Gap);
        etcd.start_again_together(&[1, 2]);
        let kept = until(
            || async { one.renew(&claim(1, epoch)).await },
            Result::is_ok,
        );
        assert!(matches!(kept.await, Ok(Renewed::Kept { .. })));
        assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    }
}

#[tokio::test]
async fn a_server_that_hangs_costs_no_more_than_a_call() {
    let etcd = Etcd::single(Version::V3_4);
    let store = store_with(&etcd.url(), QUICK, None);
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    etcd.pause(0);
    for _ in 0..4 {
        let begun = Instant::now();
        let error = one.renew(&claim(1, epoch)).await.unwrap_err();
        let took = begun.elapsed();
        assert!(took < QUICK * 2, "{took:?}: {error}");
        pause(Duration::from_millis(20)).await;
    }
    assert_eq!(next(&mut hints).await, Hint::Gap);
    etcd.resume(0);
    let kept = until(
        || async { one.renew(&claim(1, epoch)).await },
        Result::is_ok,
    );
    assert!(matches!(kept.await, Ok(Renewed::Kept { .. })));
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
}

/// Nobody asks for anything: only the watch can notice, by its pings.
#[tokio::test]
async fn a_watch_notices_a_member_that_hangs() {
    let etcd = Etcd::single(Version::V3_5);
    let store = store_with(&etcd.url(), QUICK, None);
    let one = election(&store, "e");
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    etcd.pause(0);
    assert_eq!(next(&mut hints).await, Hint::Gap);
    etcd.resume(0);
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
}

#[tokio::test]
async fn a_compaction_is_survived() {
    let etcd = Etcd::single(Version::V3_5);
    let (one, two) = (store(&etcd), store(&etcd));
    let (a, b) = (election(&one, "e"), election(&two, "e"));
    let mut hints = b.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    for _ in 0..3 {
        let epoch = win(&a, 1).await;
        assert_eq!(next(&mut hints).await, Hint::Began(epoch));
        let text = etcd.etcdctl(0, &["get", "x", "-w", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let revision = answer["header"]["revision"].to_string();
        etcd.etcdctl(0, &["compact", &revision]);
        a.release(&claim(1, epoch), None).await.unwrap();
        assert!(matches!(next(&mut hints).await, Hint::Ended { .. }));
    }
}
