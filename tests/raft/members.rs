//! Members in this process, each with a disk and a port of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tenure::cluster::{ClusterStatus, Role, SeatChange};
use tenure::lease::{Drift, StoreError};
use tenure::peers::{MemberId, MeshOptions};
use tenure::raft::{RaftNode, RaftOptions};
use tenure::time::{BootClock, pause, within};

/// How long anything that must happen may take on a busy machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// Nobody stands because the machine is busy: Raft's own timeouts are 1 to 2 s.
pub const ELECTION: Duration = Duration::from_secs(20);

pub fn options(mesh: MeshOptions, state_dir: PathBuf) -> RaftOptions {
    RaftOptions {
        mesh,
        state_dir,
        witness: false,
        bootstrap: true,
        election_timeout: ELECTION,
        drift: Drift::ONE_PERCENT,
    }
}

pub async fn start(options: RaftOptions) -> Arc<RaftNode> {
    let start = async {
        // What was stopped lets go of its file and its port a moment later.
        loop {
            match RaftNode::start(options.clone(), Arc::new(BootClock)).await {
                Ok(node) => return node,
                Err(_) => pause(Duration::from_millis(10)).await,
            }
        }
    };
    within(BOUND, start).await.expect("it starts")
}

/// Until a member sees its cluster so.
pub async fn until(
    node: &RaftNode,
    what: &str,
    so: impl Fn(&ClusterStatus) -> bool,
) -> ClusterStatus {
    let wait = async {
        loop {
            let status = node.status();
            if so(&status) {
                return status;
            }
            pause(Duration::from_millis(5)).await;
        }
    };
    let seen = within(BOUND, wait).await;
    seen.unwrap_or_else(|| panic!("never {what}: {:#?}", node.status()))
}

/// Until this member knows who leads the log.
pub async fn raft_leader(node: &RaftNode) -> String {
    let led = |status: &ClusterStatus| status.raft_leader.is_some() && status.has_quorum;
    until(node, "led", led).await.raft_leader.unwrap()
}

pub fn role(status: &ClusterStatus, id: &str) -> Role {
    let seat = status.members.iter().find(|seat| seat.id == id);
    seat.map_or(Role::None, |seat| seat.role)
}

pub fn id(text: &str) -> MemberId {
    text.parse().unwrap()
}

/// Why a change is refused; asked again while the answer is uncertain, as it may be on a busy
/// machine.
pub async fn refusal(node: &RaftNode, change: SeatChange, member: &str) -> String {
    let ask = async {
        loop {
            match node.seat(change, id(member), BOUND).await {
                Err(StoreError::Rejected(why)) => return why,
                Err(_) => pause(Duration::from_millis(10)).await,
                Ok(()) => panic!("{change:?} of {member} was done"),
            }
        }
    };
    within(BOUND, ask).await.expect("a certain answer")
}

pub async fn stop(nodes: &[Arc<RaftNode>]) {
    for node in nodes {
        node.stop().await;
    }
}
