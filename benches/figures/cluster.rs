//! Members of a cluster without a store, on the loopback, each with a disk of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::fleet::scratch;
use crate::link::Link;

/// What members are told of each other.
pub struct Cluster {
    pub backend: &'static str,
    ports: Vec<u16>,
    /// From whom to whom, where the members do not go straight.
    links: BTreeMap<(usize, usize), Link>,
    more: Vec<String>,
    home: TempDir,
}

impl Cluster {
    /// `more`: flags of each member.
    pub fn new(backend: &'static str, members: usize, more: &[&str]) -> anyhow::Result<Self> {
        // All are held until each is known, so that none is drawn twice.
        let bound: Vec<TcpListener> = (0..members)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()?;
        let port = |socket: &TcpListener| Ok(socket.local_addr()?.port());
        let ports = bound.iter().map(port).collect::<std::io::Result<_>>()?;
        Ok(Self {
            backend,
            ports,
            links: BTreeMap::new(),
            more: more.iter().map(|&flag| flag.to_owned()).collect(),
            home: scratch()?,
        })
    }

    /// Each way between two members goes through a link from now on.
    pub fn linked(mut self) -> anyhow::Result<Self> {
        for from in 0..self.ports.len() {
            for (to, port) in self.ports.iter().enumerate().filter(|(to, _)| *to != from) {
                self.links.insert((from, to), Link::to(*port)?);
            }
        }
        Ok(self)
    }

    /// What only this member is told.
    pub fn flags(&self, member: usize) -> Vec<String> {
        let address = |(to, port): (usize, &u16)| {
            let link = self.links.get(&(member, to));
            format!("{to}=127.0.0.1:{}", link.map_or(*port, |link| link.port))
        };
        let all: Vec<String> = self.ports.iter().enumerate().map(address).collect();
        let state_dir = self.home.path().join(member.to_string());
        let mut flags = [
            ("--node", member.to_string()),
            ("--peer", all.join(",")),
            ("--state-dir", state_dir.display().to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect::<Vec<_>>();
        flags.extend(self.more.iter().cloned());
        if !state_dir.exists() {
            flags.push("--bootstrap".to_owned());
        }
        flags
    }

    /// Cuts one member off from all the others, or heals that.
    pub fn set_cut(&self, member: usize, cut: bool) {
        for ((from, to), link) in &self.links {
            if *from == member || *to == member {
                link.set_cut(cut);
            }
        }
    }

    /// Who says the most to the others for a while: with raft, the leader of the log.
    pub fn most_talkative(&self) -> anyhow::Result<usize> {
        let said = || {
            let mut sums = vec![0; self.ports.len()];
            for ((from, _), link) in &self.links {
                sums[*from] += link.said();
            }
            sums
        };
        let before: Vec<u64> = said();
        std::thread::sleep(Duration::from_secs(1));
        let spoken = said().into_iter().zip(before).map(|(now, then)| now - then);
        let most = spoken.enumerate().max_by_key(|(_, bytes)| *bytes);
        most.map(|(member, _)| member).context("there are no links")
    }
}
