//! More members than may vote.

use tenure::cluster::{Role, SeatChange};
use tenure::raft::MOST_VOTERS;

use crate::cluster::Cluster;
use crate::members::{options, raft_leader, refusal, role, start, stop};

#[tokio::test]
async fn no_more_than_seven_vote() {
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let cluster = Cluster::new(&ids);
    let mut nodes = Vec::new();
    for own in ids {
        let mut options = options(cluster.options(own), cluster.disks.path().join(own));
        options.witness = own == "h";
        nodes.push(start(options).await);
    }
    raft_leader(&nodes[0]).await;
    let status = nodes[0].status();
    let voters = ids.iter().filter(|own| role(&status, own) == Role::Voter);
    assert_eq!(voters.count(), MOST_VOTERS);
    let eighth = refusal(&nodes[0], SeatChange::Add, "h").await;
    assert!(eighth.contains("7 members vote already"), "{eighth}");
    stop(&nodes).await;
}
