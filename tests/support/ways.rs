//! A proxy on each way between two nodes of a cluster, so that any of them can be cut, in one
//! direction alone too, without root.
//!
//! Include it beside `cluster`, `fault` and `proxy`.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use tenure::peers::{Members, MeshOptions};

use crate::cluster::{Cluster, id};
use crate::fault::Way as _;
use crate::proxy::{Direction, Mode, Proxy};

/// Who dials, and who is dialled.
type Pair = (String, String);

pub struct Ways {
    cluster: Cluster,
    proxies: BTreeMap<Pair, Proxy>,
}

impl Ways {
    pub async fn new(ids: &[&str]) -> Self {
        let cluster = Cluster::new(ids);
        let mut proxies = BTreeMap::new();
        for from in ids {
            for to in ids.iter().filter(|to| *to != from) {
                let proxy = Proxy::start(cluster.place(to)).await;
                proxies.insert(((*from).to_owned(), (*to).to_owned()), proxy);
            }
        }
        Self { cluster, proxies }
    }

    /// The directory of a member.
    pub fn disk(&self, own: &str) -> PathBuf {
        self.cluster.disks.path().join(own)
    }

    /// As the cluster's, but each peer is reached through the proxy.
    pub fn options(&self, own: &str) -> MeshOptions {
        let mut options = self.cluster.options(own);
        let place = |to: &str| -> SocketAddr {
            let pair = (own.to_owned(), to.to_owned());
            let proxy = self.proxies.get(&pair).map(Proxy::address);
            proxy.unwrap_or_else(|| self.cluster.place(own))
        };
        let places = self.cluster.places.iter();
        let list = places.map(|(to, _)| (*to, place(to.as_str()).to_string()));
        options.members = Members::new(id(own), list).unwrap();
        options
    }

    /// Nothing of `from` arrives at `to`, whoever made the connection; no connection is closed.
    pub fn cut(&self, from: &str, to: &str) {
        self.set(from, to, Mode::Drop);
    }

    /// What was cut passes again. Connections with a hole are closed.
    pub fn heal(&self, from: &str, to: &str) {
        self.set(from, to, Mode::Pass);
    }

    /// Bytes come when it is healed, none are lost.
    pub fn hold(&self, from: &str, to: &str) {
        self.set(from, to, Mode::Hold);
    }

    /// Nothing passes between these two.
    pub fn part(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Closes the connection that `from` made to `to`.
    pub fn reset(&self, from: &str, to: &str) {
        self.proxies[&(from.to_owned(), to.to_owned())].cut();
    }

    fn set(&self, from: &str, to: &str, mode: Mode) {
        let made_by = |dials: &str, dialled: &str| &self.proxies[&(dials.into(), dialled.into())];
        made_by(from, to).set_mode(Direction::ToStore, mode);
        made_by(to, from).set_mode(Direction::FromStore, mode);
    }
}
