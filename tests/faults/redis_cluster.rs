//! Redis Cluster: a slot that moves under a leader, and its master that dies.

use super::cluster::TTL;
use super::failover::{fail_over, longest_gap, nodes};
use super::stores::LEADER_KEY;
use crate::cluster_server::{RedisCluster, Shape};

fn shape(min_replicas: usize) -> Shape {
    Shape {
        replicas: if min_replicas == 0 { 1 } else { 2 },
        min_replicas,
        max_lag: 2,
        ..Shape::default()
    }
}

/// The keys move with the time that they have left; no renewal is lost.
#[test]
fn a_slot_moves_under_a_leader() {
    let redis = RedisCluster::start();
    let cluster = nodes(&redis.url(), 3, &[]);
    let slot = redis.slot_of(LEADER_KEY);
    let lead = cluster.working_leader();
    let began = cluster.recorder.now();
    let mut owner = redis.owner(slot);
    for _ in 0..6 {
        let to = (owner + 1) % 3;
        redis.begin_migration(slot, owner, to);
        // Nothing has moved: the old node serves on.
        assert_eq!(cluster.wait_for_write(lead.epoch).epoch, lead.epoch);
        redis.move_keys(slot, owner, to);
        // All has moved, and the old node sends everybody on.
        assert_eq!(cluster.wait_for_write(lead.epoch).epoch, lead.epoch);
        redis.end_migration(slot, to);
        assert_eq!(cluster.wait_for_write(lead.epoch).epoch, lead.epoch);
        owner = to;
        assert_eq!(redis.owner(slot), owner);
    }
    let gap = longest_gap(&cluster, began);
    let failed = {
        let history = cluster.recorder.history();
        let told = |a: &&super::history::Answer| a.node == lead.node && a.trouble.is_some();
        history.answers.iter().filter(told).count()
    };
    eprintln!(
        "cluster, a slot moved 6 times: leaderless for at most {gap:?}, the same epoch, {failed} \
         answers told of trouble"
    );
    let stalls = cluster.recorder.stalls();
    assert!(
        gap < TTL / 2 + stalls,
        "the leader stood still for {gap:?}; {stalls:?} is for the machine"
    );
    let end = cluster.ask(lead.node);
    assert_eq!((end.token, end.is_leader), (Some(lead.epoch), true));
    // Wake-ups have followed the slot.
    let asked_at = cluster.recorder.now();
    cluster.step_down(lead.node);
    let next = cluster.leader_after(lead.epoch, asked_at, std::time::Duration::from_millis(300));
    assert!(next.epoch > lead.epoch);
    cluster.judge();
}

fn planned(min_replicas: usize) {
    let redis = RedisCluster::of(shape(min_replicas));
    let cluster = nodes(&redis.url(), 3, &[]);
    let slot = redis.slot_of(LEADER_KEY);
    for _ in 0..2 {
        let old = redis.owner(slot);
        let replica = redis.replica_of(old);
        fail_over(
            &format!("cluster, planned, min-replicas-to-write {min_replicas}"),
            &cluster,
            || {
                let ordered = redis.nodes[replica].command(&["CLUSTER", "FAILOVER"]);
                assert_eq!(ordered.text(), "OK");
                redis.wait_moved(slot, old);
            },
        );
        redis.wait_ready();
    }
    // The replica waits for the last write: nothing is lost, by the oracle.
    cluster.judge();
}

#[test]
fn planned_failover() {
    planned(0);
}

#[test]
fn planned_failover_with_min_replicas() {
    planned(1);
}

fn killed(min_replicas: usize) {
    let mut redis = RedisCluster::of(shape(min_replicas));
    let cluster = nodes(&redis.url(), 3, &[]);
    let slot = redis.slot_of(LEADER_KEY);
    let old = redis.owner(slot);
    cluster.note_loss();
    fail_over(
        &format!("cluster, master killed, min-replicas-to-write {min_replicas}"),
        &cluster,
        || {
            redis.nodes[old].kill();
            redis.wait_moved(slot, old);
        },
    );
    cluster.note_loss();
    cluster.judge();
}

#[test]
fn master_killed() {
    killed(0);
}

#[test]
fn master_killed_with_min_replicas() {
    killed(1);
}
