//! A real Redis Cluster: three masters, three replicas.
//!
//! Needs `mod redis_server` at the root of the test.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::time::{Duration, Instant};

use crate::redis_server::{Raw, RedisServer, Reply};

const BOUND: Duration = Duration::from_secs(40);
const SLOTS: u16 = 16384;

/// How a cluster is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Replicas of each master.
    pub replicas: usize,
    pub min_replicas: usize,
    pub max_lag: u64,
    pub node_timeout: Duration,
    pub durable: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            replicas: 1,
            min_replicas: 0,
            max_lag: 10,
            node_timeout: Duration::from_secs(1),
            durable: false,
        }
    }
}

pub struct RedisCluster {
    /// The first three are the masters at the start.
    pub nodes: Vec<RedisServer>,
    ids: Vec<String>,
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + BOUND;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl RedisCluster {
    pub fn start() -> Self {
        Self::of(Shape::default())
    }

    pub fn of(shape: Shape) -> Self {
        let count = 3 + 3 * shape.replicas;
        let nodes: Vec<(RedisServer, u16)> = (0..count).map(|_| node(shape)).collect();
        let id = |node: &RedisServer| node.command(&["CLUSTER", "MYID"]).text().to_owned();
        let ids: Vec<String> = nodes.iter().map(|(node, _)| id(node)).collect();
        for (at, (node, _)) in nodes.iter().enumerate() {
            // Epochs of their own from the start: no dispute to settle.
            ok(
                node,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()],
            );
        }
        for (at, (node, _)) in nodes.iter().take(3).enumerate() {
            let share = SLOTS / 3;
            let from = share * u16::try_from(at).unwrap();
            let to = if at == 2 { SLOTS - 1 } else { from + share - 1 };
            ok(
                node,
                &[
                    "CLUSTER",
                    "ADDSLOTSRANGE",
                    &from.to_string(),
                    &to.to_string(),
                ],
            );
        }
        for (node, bus) in &nodes[1..] {
            let (port, bus) = (node.port().to_string(), bus.to_string());
            ok(&nodes[0].0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let nodes: Vec<RedisServer> = nodes.into_iter().map(|(node, _)| node).collect();
        let cluster = Self { nodes, ids };
        cluster.wait_known();
        for at in 3..count {
            ok(
                &cluster.nodes[at],
                &["CLUSTER", "REPLICATE", &cluster.ids[at % 3]],
            );
        }
        cluster.wait_ready();
        cluster
    }

    /// `redis+cluster://…`
    pub fn url(&self) -> String {
        let ports: Vec<u16> = self.nodes.iter().map(RedisServer::port).collect();
        url_of(&ports)
    }

    fn wait_known(&self) {
        for node in &self.nodes {
            wait_for("a node that knows all", || {
                let known = node.command(&["CLUSTER", "NODES"]);
                let known = known
                    .text()
                    .lines()
                    .filter(|line| !line.contains("handshake"));
                (known.count() == self.nodes.len()).then_some(())
            });
        }
    }

    /// Every node finds the cluster whole, and every replica is in step.
    pub fn wait_ready(&self) {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            wait_for("a cluster that is whole", || {
                let told = Raw::connect(node.port())
                    .ok()?
                    .try_command(&["CLUSTER", "INFO"]);
                told.ok()?.text().contains("cluster_state:ok").then_some(())
            });
            wait_for("a node in step", || {
                let info = node.command(&["INFO", "replication"]);
                let text = info.text();
                (text.contains("role:master") || text.contains("master_link_status:up"))
                    .then_some(())
            });
        }
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        let running = self.nodes.iter().find(|node| node.runs()).unwrap();
        let slot = running.command(&["CLUSTER", "KEYSLOT", key]);
        u16::try_from(slot.number()).unwrap()
    }

    /// Which node that runs is the master of a slot, as `told_by` sees it.
    pub fn owner_by(&self, told_by: usize, slot: u16) -> Option<usize> {
        let ranges = self.nodes[told_by].command(&["CLUSTER", "SLOTS"]);
        ranges.list().iter().find_map(|range| {
            let range = range.list();
            let within = (range[0].number()..=range[1].number()).contains(&u64::from(slot));
            let port = range[2].list()[1].number();
            within.then(|| self.at(u16::try_from(port).unwrap()))
        })
    }

    pub fn at(&self, port: u16) -> usize {
        let at = self.nodes.iter().position(|node| node.port() == port);
        at.unwrap()
    }

    /// The master of a slot, as all nodes that run see it.
    pub fn owner(&self, slot: u16) -> usize {
        wait_for("one owner", || {
            let running = (0..self.nodes.len()).filter(|at| self.nodes[*at].runs());
            let mut told: Vec<_> = running.map(|at| self.owner_by(at, slot)).collect();
            told.dedup();
            (told.len() == 1).then(|| told[0]).flatten()
        })
    }

    /// The one that all name once it is another than `old`.
    pub fn wait_moved(&self, slot: u16, old: usize) -> usize {
        wait_for("another owner", || {
            let owner = self.owner(slot);
            (owner != old).then_some(owner)
        })
    }

    /// A replica of that master, in step with it: it can be promoted at once.
    pub fn replica_of(&self, master: usize) -> usize {
        wait_for("a replica in step", || {
            let told = self.nodes[master].command(&["CLUSTER", "NODES"]);
            let mine = |line: &&str| line.contains("slave") && line.contains(&self.ids[master]);
            let id = told.text().lines().find(mine)?.split_whitespace().next()?;
            let replica = self.ids.iter().position(|known| known == id)?;
            let info = self.nodes[replica].command(&["INFO", "replication"]);
            let follows = info.text().contains("master_link_status:up");
            // Right after its first copy the master hears nothing of it yet.
            let mut raw = self.nodes[master].raw();
            raw.command(&["PUBLISH", "probe", "x"]);
            let heard = raw.command(&["WAIT", "1", "1000"]);
            (follows && heard != Reply::Number(0)).then_some(replica)
        })
    }

    /// The masters, as the first node that runs sees them.
    pub fn masters(&self) -> Vec<usize> {
        let running = self.nodes.iter().find(|node| node.runs()).unwrap();
        let told = running.command(&["CLUSTER", "NODES"]);
        let line = |line: &&str| line.contains("master") && !line.contains("fail");
        let id = |line: &str| line.split_whitespace().next().unwrap().to_owned();
        let ids: Vec<_> = told.text().lines().filter(line).map(id).collect();
        (0..self.ids.len())
            .filter(|at| ids.contains(&self.ids[*at]))
            .collect()
    }

    /// Begins to move a slot: both sides know of it, and no key has moved.
    pub fn begin_migration(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        ok(
            &self.nodes[to],
            &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]],
        );
        ok(
            &self.nodes[from],
            &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]],
        );
    }

    /// Moves the keys of a slot, one after the other.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let port = self.nodes[to].port().to_string();
        let slot = slot.to_string();
        loop {
            let keys = self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
            let Some(key) = keys.list().first() else {
                return;
            };
            let words = ["MIGRATE", "127.0.0.1", &port, key.text(), "0", "5000"];
            let moved = self.nodes[from].command(&words);
            assert!(matches!(moved.text(), "OK" | "NOKEY"), "{moved:?}");
        }
    }

    /// Ends a migration: the slot is the other's.
    pub fn end_migration(&self, slot: u16, to: usize) {
        let slot = slot.to_string();
        let masters = self.masters();
        // The new owner first, as redis-cli does it.
        for at in std::iter::once(to).chain(masters.into_iter().filter(|at| *at != to)) {
            ok(
                &self.nodes[at],
                &["CLUSTER", "SETSLOT", &slot, "NODE", &self.ids[to]],
            );
        }
    }

    /// Moves a whole slot.
    pub fn migrate(&self, slot: u16, from: usize, to: usize) {
        self.begin_migration(slot, from, to);
        self.move_keys(slot, from, to);
        self.end_migration(slot, to);
    }

    /// Ends all nodes as by `kill -9` and starts them again; `meanwhile` works on
    /// their directories, whose `nodes.conf` must stay.
    pub fn restart_all(&mut self, meanwhile: impl FnOnce(&mut [RedisServer])) {
        for node in &mut self.nodes {
            node.kill();
        }
        meanwhile(&mut self.nodes);
        for node in &mut self.nodes {
            node.start_again();
        }
        self.wait_ready();
    }
}

pub fn url_of(ports: &[u16]) -> String {
    let places: Vec<_> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    format!("redis+cluster://{}", places.join(","))
}

/// A node, and the port of its bus: the usual one, 10000 above, may not exist.
fn node(shape: Shape) -> (RedisServer, u16) {
    let durable = if shape.durable { "yes" } else { "no" };
    let timeout = shape.node_timeout.as_millis().to_string();
    let (least, lag) = (shape.min_replicas.to_string(), shape.max_lag.to_string());
    RedisServer::start_on_two(|bus| {
        let bus = bus.to_string();
        let arguments = [
            "--save",
            "",
            "--appendonly",
            durable,
            "--appendfsync",
            "always",
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-node-timeout",
            &timeout,
            "--cluster-replica-validity-factor",
            "0",
            "--repl-diskless-sync-delay",
            "0",
            "--min-replicas-to-write",
            &least,
            "--min-replicas-max-lag",
            &lag,
        ];
        arguments.map(str::to_owned).to_vec()
    })
}

fn ok(node: &RedisServer, words: &[&str]) {
    let answer = node.command(words);
    assert_eq!(answer, Reply::Text("OK".to_owned()), "{words:?}");
}
