//! A member that follows and has no vote.

use std::sync::Arc;
use std::time::Duration;

use tenure::backend::Store;
use tenure::backend::raft::RaftStore;
use tenure::cluster::{Role, SeatChange};
use tenure::lease::StoreError;
use tenure::raft::RaftNode;

use crate::cluster::Cluster;
use crate::members::{BOUND, options, raft_leader, refusal, role, start, stop, until};

const VOTERS: [&str; 3] = ["a", "b", "c"];
/// A member that has the most to say by its name, and still no vote.
const WITNESS: &str = "witness";

async fn one(cluster: &Cluster, own: &str) -> Arc<RaftNode> {
    let mut options = options(cluster.options(own), cluster.disks.path().join(own));
    options.witness = own == WITNESS;
    start(options).await
}

#[tokio::test]
async fn a_witness_follows_the_log_and_makes_no_majority() {
    let cluster = Cluster::new(&["a", "b", "c", WITNESS]);
    let witness = one(&cluster, WITNESS).await;
    let mut voters = Vec::new();
    for own in VOTERS {
        voters.push(one(&cluster, own).await);
    }
    raft_leader(&voters[0]).await;
    let seated = |status: &_| role(status, WITNESS) == Role::Learner;
    let leader = until(&voters[0], "the witness is seated", seated).await;
    let applied = leader.log.applied;
    let status = until(&witness, "it follows", |it| it.log.applied >= applied).await;
    assert!(VOTERS.iter().all(|own| role(&status, own) == Role::Voter));
    assert!(status.has_quorum, "{status:#?}");
    let vote = refusal(&voters[0], SeatChange::Add, WITNESS).await;
    assert!(vote.contains("--witness"), "{vote}");
    // It serves its own sidecar like every other member.
    let store = RaftStore::new(Arc::clone(&witness), BOUND);
    let election = store.election(&"orders".parse().unwrap());
    election.observe().await.unwrap();

    // Of three voters one is left: with the witness two of four are there, and nobody leads.
    let left = voters.remove(0);
    let term = left.status().log.term;
    stop(&voters).await;
    drop(voters);
    for node in [&left, &witness] {
        until(node, "without a majority", |status| !status.has_quorum).await;
    }
    let store = RaftStore::new(Arc::clone(&left), Duration::from_secs(5));
    let election = store.election(&"orders".parse().unwrap());
    let alone = election.observe().await;
    assert!(
        matches!(alone, Err(StoreError::Unavailable(_))),
        "{alone:?}"
    );
    assert_eq!(left.status().log.term, term, "it stood for election");
    assert_eq!(witness.status().log.term, term, "it stood for election");

    let back = one(&cluster, "b").await;
    raft_leader(&back).await;
    let new_term = raft_leader(&left).await;
    assert_ne!(new_term, WITNESS);
    stop(&[left, back, witness]).await;
}
