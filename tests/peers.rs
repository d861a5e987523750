//! The way between the sidecars: what goes over it and what is refused.

#![cfg(feature = "peers")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "peers/codec.rs"]
mod codec;
#[path = "peers/cuts.rs"]
mod cuts;
#[path = "support/fault.rs"]
#[allow(dead_code)]
mod fault;
#[path = "peers/first_words.rs"]
mod first_words;
#[path = "peers/meshes.rs"]
mod meshes;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "peers/refusals.rs"]
mod refusals;
#[path = "peers/secure.rs"]
mod secure;
#[path = "support/sim_network.rs"]
mod sim_network;
#[path = "peers/simulated.rs"]
mod simulated;
#[path = "peers/slow.rs"]
mod slow;
#[path = "peers/strangers.rs"]
mod strangers;
#[path = "support/told.rs"]
mod told;
#[path = "support/ways.rs"]
mod ways;

use tenure::peers::frame::{Body, Frame, VERSION};
use tenure::peers::{Identity, Members, Missing};

/// A member of a cluster as it stands before it speaks.
struct Node {
    identity: Identity,
    members: Members,
}

impl Node {
    fn new(cluster: &str, own: &str, listed: &[&str]) -> Self {
        let own = own.parse().unwrap();
        let list = listed
            .iter()
            .map(|id| (id.parse().unwrap(), format!("{id}.test:7000")));
        let home = tempfile::tempdir().unwrap();
        Self {
            identity: Identity::open(home.path(), cluster, own, Missing::Create).unwrap(),
            members: Members::new(own, list).unwrap(),
        }
    }

    fn frame(&self, seq: u64, body: Body) -> Frame {
        Frame {
            v: VERSION,
            cluster: self.identity.cluster.clone(),
            from: self.identity.member,
            inc: self.identity.incarnation,
            seq,
            body,
        }
    }
}
