//! Faults of processes: ended, killed, stopped, doubled. On Redis and on files.

use std::time::Duration;

use super::cluster::{Cluster, SOON, TTL, WORST};
use super::history::Fate;
use super::stores::Store;

/// graceful-stop: the lease is given back, and a follower leads at once.
fn graceful_stop(store: &Store) {
    let mut cluster = Cluster::start(&store.urls(3));
    let mut lead = cluster.leader();
    for _ in 0..3 {
        cluster.wait_for_write(lead.epoch);
        let old = lead;
        let asked_at = cluster.recorder.now();
        cluster.stop(old.node);
        lead = cluster.leader_after(old.epoch, asked_at, TTL / 4);
        assert_ne!(lead.node, old.node);
        cluster.launch(old.node);
    }
    cluster.wait_for_write(lead.epoch);
    cluster.judge();
}

/// crash: a follower leads when the lease is over, not a poll interval later.
fn crash(store: &Store) {
    let mut cluster = Cluster::start(&store.urls(3));
    let mut lead = cluster.leader();
    for round in 0..3 {
        cluster.wait_for_write(lead.epoch);
        // Another phase of the renewal in each round.
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..333)));
        let killed_at = cluster.recorder.now();
        cluster.kill(lead.node);
        let next = cluster.leader_after(lead.epoch, killed_at, WORST);
        assert_ne!(next.node, lead.node, "round {round}");
        assert!(
            next.at >= cluster.promised(lead),
            "round {round}: too early"
        );
        cluster.launch(lead.node);
        lead = next;
    }
    cluster.wait_for_write(lead.epoch);
    cluster.judge();
}

/// pause-all: what waits inside the stopped process is answered as by no leader.
fn pause_all(store: &Store, rounds: u32) {
    let cluster = Cluster::start(&store.urls(2));
    for round in 0..rounds {
        let lead = cluster.working_leader();
        // Connections that stand already are answered first after the pause, and by a
        // thread that races with the election's own.
        let mut standing: Vec<_> = (0..4).map(|_| cluster.http(lead.node)).collect();
        for http in &mut standing {
            assert_eq!(http.get("/leader").unwrap().status, 200);
        }
        cluster.pause(lead.node);
        let paused_at = cluster.recorder.now();
        let next = cluster.leader_after(lead.epoch, paused_at, WORST);
        cluster.wait_for_write(next.epoch);
        let http = || cluster.http(lead.node);
        let token = lead.epoch.to_string();
        let value = format!("late {round}");
        let headers = [("Fence-Token", token.as_str())];
        let asked: Vec<_> = standing
            .into_iter()
            .chain([http(), http()])
            .map(|mut http| http.send_get("/status").unwrap())
            .collect();
        let probed = http().send_get("/leader").unwrap();
        let put: Vec<_> = (0..3)
            .map(|_| http().send_only("PUT", "/checkpoint", &headers, value.as_bytes()))
            .collect();
        let stopped_for = cluster.recorder.now() - paused_at;
        std::thread::sleep((TTL * 2).saturating_sub(stopped_for));
        cluster.resume(lead.node);
        for pending in asked {
            let json = pending.receive().unwrap().json();
            let own = json["is_leader"] == true && json["fence_token"] == lead.epoch;
            assert!(!own, "woke up as leader: {json}");
        }
        assert_ne!(probed.receive().unwrap().status, 200);
        for pending in put {
            let response = pending.unwrap().receive();
            assert_eq!(super::watchers::fate(&response), Fate::Refused);
            assert_eq!(response.unwrap().status, 409);
        }
        assert!(cluster.ask(lead.node).token.is_none());
    }
    cluster.working_leader();
    cluster.judge();
}

/// same-name-restart: a higher epoch for the new process, nothing for the old one.
fn same_name_restart(store: &Store) {
    let url = store.urls(1);
    let setup = super::node::Setup::new("twin", &url[0]).flag("--ttl", "1s");
    let mut cluster = Cluster::idle(vec![setup.clone(), setup]);
    cluster.launch(0);
    let first = cluster.working_leader();
    cluster.pause(0);
    let paused_at = cluster.recorder.now();
    cluster.launch(1);
    let second = cluster.leader_after(first.epoch, paused_at, WORST);
    assert_eq!(second.node, 1);
    cluster.wait_for_write(second.epoch);
    cluster.resume(0);
    cluster.wait_for(0, "the old session follows", |answer| {
        !answer.is_leader && answer.term == Some(second.epoch)
    });
    let (fate, status) = cluster.write(0, first.epoch, "of the old session");
    assert_eq!((fate, status), (Fate::Refused, 409));
    cluster.kill(1);
    let killed_at = cluster.recorder.now();
    let third = cluster.leader_after(second.epoch, killed_at, WORST);
    assert_eq!(third.node, 0);
    cluster.wait_for_write(third.epoch);
    cluster.judge();
}

/// two-with-one-id: never both leader, and warned of.
fn two_with_one_id(store: &Store) {
    let url = store.urls(1);
    let setup = super::node::Setup::new("twin", &url[0]).flag("--ttl", "1s");
    let cluster = Cluster::of(vec![setup.clone(), setup]);
    let mut lead = cluster.leader();
    for _ in 0..2 {
        cluster.wait_for_write(lead.epoch);
        let other = cluster.other(lead.node);
        cluster.wait_for(other, "the other one follows", |answer| {
            answer.leader.as_deref() == Some("twin")
        });
        let warned = |log: String| log.contains("the same --id");
        let until = cluster.recorder.now() + SOON;
        while !warned(cluster.node(other).log()) {
            assert!(cluster.recorder.now() < until, "no warning of the same id");
            std::thread::sleep(Duration::from_millis(10));
        }
        let asked_at = cluster.recorder.now();
        cluster.step_down(lead.node);
        lead = cluster.leader_after(lead.epoch, asked_at, WORST);
    }
    cluster.wait_for_write(lead.epoch);
    cluster.judge();
}

macro_rules! on_each_store {
    ($($name:ident $(($rounds:literal))?),+) => {
        mod redis {
            $(#[test]
            fn $name() {
                super::$name(&super::Store::redis() $(, $rounds)?);
            })+
        }
        mod file {
            $(#[test]
            fn $name() {
                super::$name(&super::Store::file() $(, $rounds)?);
            })+
        }
    };
}

on_each_store!(
    graceful_stop,
    crash,
    pause_all(8),
    same_name_restart,
    two_with_one_id
);
