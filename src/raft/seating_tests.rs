//! Changes of the members that are broken off half way.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::ChangeMembers;

use super::RaftNode;
use super::three::{BOUND, IDS, Three, until};
use super::types::{RaftId, Seat};
use crate::cluster::SeatChange;
use crate::lease::StoreError;
use crate::peers::MemberId;
use crate::time::within;

fn configurations(node: &RaftNode) -> usize {
    node.member.replica.with(|applied| {
        let membership = applied.membership.membership();
        membership.get_joint_config().len()
    })
}

fn votes(node: &RaftNode, id: MemberId) -> bool {
    node.member.replica.with(|applied| {
        let mut voters = applied.membership.voter_ids();
        voters.any(|voter| voter.0 == id)
    })
}

/// Three members, one of which the Raft leader has begun to make a voter: only the first of the
/// two entries is in the log.
async fn broken_off(three: &Three) -> (Vec<Arc<RaftNode>>, usize, MemberId) {
    let mut nodes = Vec::new();
    for index in 0..IDS.len() {
        nodes.push(three.start(index).await);
    }
    let leads = |node: &Arc<RaftNode>| node.member.is_raft_leader();
    until("somebody leads", || nodes.iter().any(leads)).await;
    let led_by = nodes.iter().position(leads).unwrap();
    let other = (led_by + 1) % IDS.len();
    let id = nodes[other].member.own();
    let leader = &nodes[led_by];
    let here = || {
        let peers = leader.mesh().peers();
        peers.iter().filter(|peer| peer.connected).count() == 2
    };
    until("all are connected", here).await;
    leader.seat(SeatChange::Remove, id, BOUND).await.unwrap();
    until("it has no seat", || !votes(leader, id)).await;

    let disk = Some(nodes[other].member.options.mesh.identity.disk.clone());
    let raft = &leader.member.raft;
    let learner = raft.add_learner(RaftId(id), Seat { disk }, true);
    within(BOUND, learner).await.unwrap().unwrap();
    let mut changes = leader.member.replica.changes();
    let voter = ChangeMembers::AddVoterIds(BTreeSet::from([RaftId(id)]));
    let mut change = Box::pin(raft.change_membership(voter, true));
    let half = async {
        while configurations(leader) < 2 {
            // First, who hears of the first entry; then, who would propose the second one.
            tokio::select! {
                biased;
                changed = changes.changed() => changed.unwrap(),
                done = &mut change => panic!("{done:?}"),
            }
        }
    };
    within(BOUND, half).await.unwrap();
    drop(change);
    (nodes, led_by, id)
}

#[tokio::test]
async fn a_change_that_was_broken_off_is_finished_unasked() {
    let three = Three::new();
    let (nodes, led_by, id) = broken_off(&three).await;
    let leader = &nodes[led_by];
    until("it is over", || configurations(leader) == 1).await;
    assert!(votes(leader, id));
    let again = leader.seat(SeatChange::Add, id, BOUND).await;
    let Err(StoreError::Rejected(why)) = again else {
        panic!("{again:?}");
    };
    assert!(why.contains("votes already"), "{why}");
    for node in &nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_change_that_was_broken_off_is_finished_by_whoever_asks_again() {
    let three = Three::new();
    let (nodes, led_by, id) = broken_off(&three).await;
    let leader = &nodes[led_by];
    match leader.seat(SeatChange::Add, id, BOUND).await {
        Ok(()) => {}
        // The Raft leader was faster.
        Err(StoreError::Rejected(why)) => assert!(why.contains("votes already"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(configurations(leader), 1);
    assert!(votes(leader, id));
    for node in &nodes {
        node.stop().await;
    }
}
