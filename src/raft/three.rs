//! Three whole members in this process, for the tests.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Change, Outcome, RaftNode, RaftOptions};
use crate::lease::{Acquired, Bid, Claim, Drift, ElectionName, Profile, SessionId};
use crate::peers::{Members, MeshOptions};
use crate::time::{BootClock, UnixMs, pause, within};

pub(super) const IDS: [&str; 3] = ["a", "b", "c"];
/// How long anything that must happen may take on a busy machine.
pub(super) const BOUND: Duration = Duration::from_secs(60);
pub(super) const CALL: Duration = Duration::from_secs(5);

/// A cluster of three, of which each is started by itself.
pub(super) struct Three {
    pub home: TempDir,
    ports: Vec<u16>,
}

impl Three {
    pub fn new() -> Self {
        let held: Vec<_> = IDS
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .into();
        let ports = held.iter().map(|it| it.local_addr().unwrap().port());
        Self {
            home: TempDir::new().unwrap(),
            ports: ports.collect(),
        }
    }

    pub fn options(&self, index: usize) -> RaftOptions {
        let own = IDS[index].parse().unwrap();
        let state_dir = self.home.path().join(IDS[index]);
        let identity = RaftNode::identity(&state_dir, "suite", own).unwrap();
        let list = IDS.iter().zip(&self.ports);
        let list = list.map(|(id, port)| (id.parse().unwrap(), format!("127.0.0.1:{port}")));
        let members = Members::new(own, list).unwrap();
        let listen = ([127, 0, 0, 1], self.ports[index]).into();
        RaftOptions {
            mesh: MeshOptions::new(identity, members, listen),
            state_dir,
            witness: false,
            bootstrap: true,
            // Nobody stands because the machine is busy.
            election_timeout: Duration::from_secs(20),
            drift: Drift::ONE_PERCENT,
        }
    }

    pub async fn start(&self, index: usize) -> Arc<RaftNode> {
        let options = self.options(index);
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

pub(super) async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            pause(Duration::from_millis(10)).await;
        }
    };
    assert!(within(BOUND, wait).await.is_some(), "never: {what}");
}

pub(super) fn orders() -> ElectionName {
    "orders".parse().unwrap()
}

/// Taken by a session, for longer than the test.
pub(super) async fn taken(node: &RaftNode) -> Claim {
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
