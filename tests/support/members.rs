//! A cluster of real processes, each with a disk of its own, on the loopback or each in a
//! network of its own.
#![allow(dead_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::ports::free_ports;
use crate::process::{BOUND, Node, tenure, tenure_in};

/// Two election timeouts of the defaults, which is also the asked bound of a failover.
pub const TWO_ELECTIONS: Duration = Duration::from_secs(10);

pub struct Cluster {
    pub backend: String,
    pub list: String,
    pub nodes: Vec<Option<Node>>,
    /// The network namespace of each, where it is not the test's.
    namespaces: Vec<String>,
    home: TempDir,
}

impl Cluster {
    /// Not started yet.
    pub fn new(backend: &str, count: usize) -> Self {
        let place = |port| format!("127.0.0.1:{port}");
        let places: Vec<String> = free_ports(count).into_iter().map(place).collect();
        Self::at(backend, &places)
    }

    fn at(backend: &str, places: &[String]) -> Self {
        let entry = |(at, place): (usize, &String)| format!("n{at}={place}");
        let list: Vec<String> = places.iter().enumerate().map(entry).collect();
        Self {
            backend: backend.to_owned(),
            list: list.join(","),
            nodes: places.iter().map(|_| None).collect(),
            namespaces: Vec::new(),
            home: TempDir::new().unwrap(),
        }
    }

    /// One in each of these network namespaces, at its place. Their APIs are on Unix
    /// sockets: no cut keeps the test from asking.
    pub fn apart(backend: &str, namespaces: Vec<String>, places: &[String]) -> Self {
        let mut cluster = Self::at(backend, places);
        // In memory: what else keeps this machine's disk busy decides nothing.
        if let Ok(home) = TempDir::new_in("/dev/shm") {
            cluster.home = home;
        }
        cluster.namespaces = namespaces;
        cluster
    }

    /// All started together for the first time, with a lease of `ttl`.
    pub fn begun(backend: &str, count: usize, ttl: &str) -> Self {
        let mut cluster = Self::new(backend, count);
        for at in 0..count {
            cluster.start(at, &["--ttl", ttl, "--bootstrap"]);
        }
        cluster
    }

    pub fn disk(&self, at: usize) -> PathBuf {
        self.home.path().join(format!("n{at}"))
    }

    /// Where the API of a member in its own network is.
    pub fn socket(&self, at: usize) -> PathBuf {
        self.home.path().join(format!("n{at}.sock"))
    }

    /// What a member's flags are, but for those that differ.
    pub fn flags(&self, at: usize) -> Vec<String> {
        let disk = self.disk(at).display().to_string();
        let id = format!("n{at}");
        let flags = [
            ["--peer", &self.list],
            ["--node", &id],
            ["--id", &id],
            ["--state-dir", &disk],
        ];
        let mut flags: Vec<String> = flags.concat().into_iter().map(str::to_owned).collect();
        let listen = if self.namespaces.is_empty() {
            "--listen=127.0.0.1:0".to_owned()
        } else {
            let probes = "--probe-listen=127.0.0.1:0";
            flags.extend([probes, "--insecure-peers"].map(str::to_owned));
            format!("--listen=unix:{}", self.socket(at).display())
        };
        flags.push(listen);
        flags
    }

    /// Returns when it has told its address.
    #[track_caller]
    pub fn start(&mut self, at: usize, more: &[&str]) {
        let node = Node::spawn(&mut self.command(at, more));
        self.take(at, node);
    }

    /// All of these at the same moment.
    #[track_caller]
    pub fn start_together(&mut self, members: &[usize], more: &[&str]) {
        let begun: Vec<Node> = std::thread::scope(|scope| {
            let spawn = |at: &usize| {
                let mut command = self.command(*at, more);
                scope.spawn(move || Node::spawn(&mut command))
            };
            let threads: Vec<_> = members.iter().map(spawn).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        for (at, node) in members.iter().zip(begun) {
            self.take(*at, node);
        }
    }

    fn take(&mut self, at: usize, node: Node) {
        self.nodes[at] = Some(match self.namespaces.get(at) {
            Some(_) => node.asked_on(self.socket(at)),
            None => node,
        });
    }

    pub fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().unwrap()
    }

    /// As by `kill -9`.
    pub fn kill(&mut self, at: usize) {
        self.nodes[at] = None;
    }

    pub fn running(&self) -> Vec<usize> {
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, node)| node.is_some())
            .map(|(at, _)| at)
            .collect()
    }

    /// Waits until one leads and all others follow it; who, and its epoch. Never two.
    #[track_caller]
    pub fn leader(&self) -> (usize, u64) {
        self.leader_within(BOUND)
    }

    #[track_caller]
    pub fn leader_within(&self, bound: Duration) -> (usize, u64) {
        self.leader_of(&self.running(), bound)
    }

    /// The same for these members alone.
    #[track_caller]
    pub fn leader_of(&self, members: &[usize], bound: Duration) -> (usize, u64) {
        let end = Instant::now() + bound;
        loop {
            let all: Vec<(usize, Value)> = members
                .iter()
                .map(|at| (*at, self.node(*at).status()))
                .collect();
            let leaders: Vec<&(usize, Value)> = all
                .iter()
                .filter(|(_, status)| status["is_leader"] == true)
                .collect();
            assert!(leaders.len() <= 1, "two lead at once: {all:#?}");
            if let [(leader, led)] = leaders[..]
                && let Some(term) = led["term"].as_u64()
                && all
                    .iter()
                    .all(|(at, status)| at == leader || follows(status, *leader, term))
            {
                return (*leader, term);
            }
            assert!(Instant::now() < end, "no one leader: {all:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A command for a member, which need not start.
    pub fn command(&self, at: usize, more: &[&str]) -> std::process::Command {
        let mut command = match self.namespaces.get(at) {
            Some(namespace) => tenure_in(namespace),
            None => tenure(),
        };
        command.args(["run", "--backend", &self.backend]);
        command.args(self.flags(at)).args(more);
        command
    }
}

fn follows(status: &Value, leader: usize, term: u64) -> bool {
    let named = status["leader"]["id"] == format!("n{leader}");
    status["term"] == term && named && status["state"] == "follower"
}
