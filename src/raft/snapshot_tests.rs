//! Whole members in this process, against what the log no longer has.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Change, Outcome, RaftNode, RaftOptions};
use crate::lease::{Acquired, Bid, Claim, Drift, ElectionName, Profile, SessionId};
use crate::peers::{Members, MeshOptions};
use crate::time::{BootClock, UnixMs, pause, within};

const IDS: [&str; 3] = ["a", "b", "c"];
/// How long anything that must happen may take on a busy machine.
const BOUND: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(5);

struct Three {
    home: TempDir,
    ports: Vec<u16>,
}

impl Three {
    fn new() -> Self {
        let held: Vec<_> = IDS
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .into();
        let ports = held.iter().map(|it| it.local_addr().unwrap().port());
        Self {
            home: TempDir::new().unwrap(),
            ports: ports.collect(),
        }
    }

    async fn start(&self, index: usize) -> Arc<RaftNode> {
        let own = IDS[index].parse().unwrap();
        let state_dir = self.home.path().join(IDS[index]);
        let identity = RaftNode::identity(&state_dir, "suite", own).unwrap();
        let list = IDS.iter().zip(&self.ports);
        let list = list.map(|(id, port)| (id.parse().unwrap(), format!("127.0.0.1:{port}")));
        let members = Members::new(own, list).unwrap();
        let listen = ([127, 0, 0, 1], self.ports[index]).into();
        let options = RaftOptions {
            mesh: MeshOptions::new(identity, members, listen),
            state_dir,
            witness: false,
            bootstrap: true,
            // Nobody stands because the machine is busy.
            election_timeout: Duration::from_secs(20),
            drift: Drift::ONE_PERCENT,
        };
        let start = async {
            // What was stopped lets go of its file and its port a moment later.
            loop {
                match RaftNode::start(options.clone(), Arc::new(BootClock)).await {
                    Ok(node) => return node,
                    Err(_) => pause(Duration::from_millis(10)).await,
                }
            }
        };
        within(BOUND, start).await.unwrap()
    }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            pause(Duration::from_millis(10)).await;
        }
    };
    assert!(within(BOUND, wait).await.is_some(), "never: {what}");
}

fn orders() -> ElectionName {
    "orders".parse().unwrap()
}

/// Taken by a session, for longer than the test.
async fn taken(node: &RaftNode) -> Claim {
    let session: SessionId = "a".repeat(32).parse().unwrap();
    let ttl = Duration::from_secs(600);
    let bid = Bid {
        session: session.clone(),
        profile: Profile {
            node: "app".parse().unwrap(),
            url: None,
            metadata: Vec::new(),
        },
        ttl,
        floor: None,
        incumbent: false,
        hold: ttl * 2,
    };
    let wall = UnixMs(0);
    let win = async {
        loop {
            let change = Change::Acquire {
                bid: bid.clone(),
                wall,
            };
            let answer = node.change(&orders(), change, CALL).await;
            if let Ok(Outcome::Acquired(Acquired::Won { epoch, .. })) = answer {
                return epoch;
            }
        }
    };
    Claim {
        epoch: within(BOUND, win).await.unwrap(),
        session,
        ttl,
        hold: ttl * 2,
    }
}

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
