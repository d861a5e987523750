//! A member that was cut off comes back and disturbs nobody.

use std::sync::Arc;
use std::time::Duration;

use tenure::raft::{RaftNode, RaftTimes};
use tenure::time::pause;

use crate::members::{ELECTION, options, raft_leader, start, stop, until};
use crate::ways::Ways;

const IDS: [&str; 3] = ["a", "b", "c"];

async fn one(ways: &Ways, own: &str) -> Arc<RaftNode> {
    start(options(ways.options(own), ways.disk(own))).await
}

#[tokio::test]
async fn who_comes_back_from_isolation_does_not_unseat_the_leader() {
    let ways = Ways::new(&IDS).await;
    let mut nodes = Vec::new();
    for own in IDS {
        nodes.push(one(&ways, own).await);
    }
    let leader = raft_leader(&nodes[0]).await;
    for node in &nodes {
        assert_eq!(raft_leader(node).await, leader);
    }
    let cut_off = IDS.iter().position(|own| *own != leader).unwrap();
    let others = IDS.iter().filter(|own| **own != IDS[cut_off]);
    for other in others.clone() {
        ways.part(IDS[cut_off], other);
    }
    let alone = &nodes[cut_off];
    let term = alone.status().log.term;
    until(alone, "alone", |status| !status.has_quorum).await;
    // Time in which a member without a pre-vote stands for election, several times.
    let times = RaftTimes::of(ELECTION, Duration::from_secs(1));
    pause(Duration::from_millis(3 * times.election_max)).await;
    assert_eq!(alone.status().log.term, term, "it stood for election");
    for other in others {
        ways.heal(IDS[cut_off], other);
        ways.heal(other, IDS[cut_off]);
    }
    let applied = |node: &RaftNode| node.status().log.applied;
    let newest = nodes.iter().map(|node| applied(node)).max().unwrap();
    until(alone, "back", |it| {
        it.has_quorum && it.log.applied >= newest
    })
    .await;
    for node in &nodes {
        let status = node.status();
        assert_eq!(status.log.term, term, "{status:#?}");
        assert_eq!(status.raft_leader.as_deref(), Some(&*leader), "{status:#?}");
    }
    stop(&nodes).await;
}
