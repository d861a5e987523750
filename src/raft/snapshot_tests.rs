//! Whole members in this process, against what the log no longer has.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::three::{BOUND, CALL, IDS, Three, orders, taken, until};
use super::{Change, RaftNode};
use crate::time::within;

#[tokio::test]
async fn who_lags_behind_what_the_log_has_kept_is_sent_the_snapshot() {
    let three = Three::new();
    let mut nodes = Vec::new();
    for index in 0..IDS.len() {
        nodes.push(three.start(index).await);
    }
    let claim = taken(&nodes[0]).await;
    // One that does not lead the log, so that nobody has to be elected.
    let raft_leader = nodes[0].status().raft_leader.unwrap();
    let behind = IDS.iter().position(|id| *id != raft_leader).unwrap();
    let stopped = nodes.remove(behind);
    stopped.stop().await;
    let had = stopped.status().log.last;
    drop(stopped);
    let leader = nodes
        .iter()
        .find(|node| node.status().member == raft_leader)
        .unwrap();
    let renew = async {
        while leader.status().log.applied < had + 250 {
            let _ = leader
                .change(&orders(), Change::Renew(claim.clone()), CALL)
                .await;
        }
    };
    within(BOUND, renew).await.unwrap();
    leader.member.raft.trigger().snapshot().await.unwrap();
    let purged = || leader.member.disk.purged().unwrap().map(|log| log.index);
    until("the log is cut", || purged() > Some(had)).await;

    let back = three.start(behind).await;
    let applied = leader.status().log.applied;
    until("it follows", || back.status().log.applied >= applied).await;
    // The entries after its own are not there: they came as a snapshot.
    let (came, _) = back.member.disk.snapshot().unwrap().unwrap();
    assert!(
        came.last_log_id.map(|log| log.index) > Some(had),
        "{came:?}"
    );
    let next = back.member.disk.entries(had + 1..had + 2).unwrap();
    assert!(next.is_empty(), "{next:?}");
    let record = |node: &RaftNode| node.member.replica.with(|it| it.records.get(&orders()));
    until("the same", || record(&back) == record(leader)).await;
    for node in nodes.iter().chain([&back]) {
        node.stop().await;
    }
}
