//! Who leads, through kills, restarts and handovers.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::members::{Cluster, TWO_ELECTIONS};

const BOTH: [&str; 2] = ["bully", "ring"];

#[test]
fn a_killed_leader_is_replaced_and_comes_back_as_a_follower() {
    for backend in BOTH {
        let mut cluster = Cluster::begun(backend, 5, "3s");
        let (mut leader, mut epoch) = cluster.leader();
        for _ in 0..2 {
            cluster.kill(leader);
            let killed_at = Instant::now();
            let (next, higher) = cluster.leader_within(TWO_ELECTIONS);
            println!("{backend}: a new leader after {:?}", killed_at.elapsed());
            assert!(next != leader && higher > epoch, "{higher} after {epoch}");
            // It comes back without the word of the first start, and elects nobody.
            cluster.start(leader, &["--ttl", "3s"]);
            let (same, still) = cluster.leader();
            assert_eq!((same, still), (next, higher), "a restart began an election");
            (leader, epoch) = (next, higher);
        }
    }
}

#[test]
fn elections_begun_together_have_one_leader_and_one_epoch() {
    for backend in BOTH {
        for _ in 0..3 {
            let cluster = Cluster::begun(backend, 3, "3s");
            let (leader, epoch) = cluster.leader_within(TWO_ELECTIONS);
            assert!(epoch >= 1);
            assert_eq!(cluster.leader(), (leader, epoch));
        }
    }
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    for backend in BOTH {
        let mut cluster = Cluster::new(backend, 3);
        // The heirs may claim at once, both in vain; each gives its claim up after 0.9 calls.
        let times = ["--ttl", "30s", "--call-timeout", "500ms", "--bootstrap"];
        (0..3).for_each(|at| cluster.start(at, &times));
        let (leader, epoch) = cluster.leader();
        let mut old = cluster.nodes[leader].take().unwrap();
        old.signal(Signal::TERM);
        let told_at = Instant::now();
        let (next, higher) = cluster.leader();
        // Nobody waits for a lease of half a minute.
        assert!(
            told_at.elapsed() < Duration::from_secs(5),
            "{:?}",
            told_at.elapsed()
        );
        assert!(next != leader && higher > epoch);
        assert_eq!(old.exit(), Some(0));
    }
}

#[test]
fn without_a_majority_nobody_leads_and_with_it_somebody_does_again() {
    for backend in BOTH {
        let mut cluster = Cluster::begun(backend, 3, "1s");
        let (leader, epoch) = cluster.leader();
        let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        cluster.kill(others[0]);
        cluster.kill(others[1]);
        let alone = cluster.node(leader);
        alone.until("stops", |status| status["is_leader"] == false);
        alone
            .err
            .until("the quorum", |line| line.contains("no quorum"));
        let metrics = alone.get("/metrics").text();
        assert!(
            metrics.contains("tenure_peers_total{election=\"default\"} 2"),
            "{metrics}"
        );
        assert!(
            metrics.contains("tenure_peers_connected{election=\"default\"} 0"),
            "{metrics}"
        );
        cluster.start(others[0], &["--ttl", "1s"]);
        let (_, higher) = cluster.leader();
        assert!(higher > epoch);
    }
}

#[test]
fn a_wiped_member_is_let_in_and_votes_again() {
    let mut cluster = Cluster::begun("bully", 3, "3s");
    let (leader, epoch) = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    cluster.kill(others[0]);
    std::fs::remove_dir_all(cluster.disk(others[0])).unwrap();
    cluster.start(others[0], &["--ttl", "3s"]);
    let wiped = cluster.node(others[0]);
    wiped
        .err
        .until("the warning", |line| line.contains("this disk is blank"));
    wiped
        .err
        .until("its vote", |line| line.contains("votes again"));
    assert_eq!(cluster.leader(), (leader, epoch), "it began an election");
    // Its vote counts: with the other one away, it makes the majority.
    cluster.kill(leader);
    let (_, higher) = cluster.leader();
    assert!(higher > epoch);
}
