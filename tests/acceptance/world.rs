//! Five members, each in its own network, and who watches them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::calm::Calm;
use crate::members::Cluster;
use crate::network::Network;
use crate::process::BOUND;
use crate::watch::{UNSAFE, Watch};

/// The lease among members where `--ttl` is not given.
pub const TTL: Duration = Duration::from_secs(3);
const NODES: usize = 5;
/// How often a scene is played on a machine that is too busy.
const TRIES: u32 = 4;

/// What is dropped first stands first: nobody waits for the answer of a dead process.
pub struct World {
    pub cluster: Cluster,
    pub watch: Watch,
    pub network: Network,
}

/// The scene with each backend, side by side; one scene at a time: fifteen processes are
/// enough for a small machine.
pub fn each(scene: impl Fn(&str) + Sync) {
    static ONE: Mutex<()> = Mutex::new(());
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for backend in ["bully", "ring", "raft"] {
            let named = std::thread::Builder::new().name(backend.to_owned());
            named.spawn_scoped(scope, || play(&scene, backend)).unwrap();
        }
    });
}

/// Once, or again where it went wrong while the machine stood still; two leaders at once
/// are never excused.
fn play(scene: &impl Fn(&str), backend: &str) {
    for left in (0..TRIES).rev() {
        let calm = Calm::begin();
        let Err(why) = catch_unwind(AssertUnwindSafe(|| scene(backend))) else {
            return;
        };
        let said = why.downcast_ref::<String>();
        let harmless = said.is_none_or(|said| !said.starts_with(UNSAFE));
        match calm.broken() {
            Some(stood_still) if harmless && left > 0 => {
                println!("{backend}: once more; the machine stood still for {stood_still:?}");
            }
            _ => resume_unwind(why),
        }
    }
}

impl World {
    /// Nobody is started yet.
    pub fn new(backend: &str) -> Self {
        let network = Network::new(NODES);
        let cluster = Cluster::apart(backend, network.namespaces.clone(), &network.places());
        let sockets = (0..NODES).map(|at| cluster.socket(at)).collect();
        Self {
            watch: Watch::of(sockets),
            cluster,
            network,
        }
    }

    /// All are started, one leads; who, and its epoch.
    #[track_caller]
    pub fn begun(backend: &str, more: &[&str]) -> (Self, usize, u64) {
        let mut world = Self::new(backend);
        let all: Vec<usize> = (0..NODES).collect();
        let flags = [&["--bootstrap"], more].concat();
        world.cluster.start_together(&all, &flags);
        let (leader, epoch) = world.cluster.leader();
        // The watch has seen it as well.
        let (seen, under, _) = world.watch.next(0, Instant::now());
        assert_eq!((seen, under), (leader, epoch), "two elections");
        (world, leader, epoch)
    }

    /// All but this one.
    pub fn others(&self, leader: usize) -> Vec<usize> {
        (0..NODES).filter(|at| *at != leader).collect()
    }

    /// For some leases' time this stays true, and nobody is wrong.
    #[track_caller]
    pub fn holds(&self, leases: u32, what: impl Fn()) {
        let end = Instant::now() + leases * TTL;
        while Instant::now() < end {
            what();
            self.watch.judge();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All follow this leader under this epoch, and do so for some leases' time: by no
    /// node's history was there another election.
    #[track_caller]
    pub fn stays(&self, leader: usize, epoch: u64, leases: u32) {
        assert_eq!(self.cluster.leader(), (leader, epoch), "a new election");
        let before = self.histories();
        self.holds(leases, || {
            assert_eq!(self.watch.newest(), Some((leader, epoch)), "a new election");
        });
        assert_eq!(self.cluster.leader(), (leader, epoch), "a new election");
        for (at, (all, old)) in self.histories().iter().zip(&before).enumerate() {
            let fresh = &all[..all.len() - old.len()];
            // On a busy machine a renewal may come late, and is asked for.
            let same = |entry: &Value| {
                let named = entry["epoch"].is_null() || entry["epoch"] == epoch;
                named && entry["to"] != "leader"
            };
            assert!(fresh.iter().all(same), "n{at} went through {fresh:#?}");
        }
    }

    /// Waits until these say that nobody leads as far as they know.
    #[track_caller]
    pub fn leaderless(&self, nodes: &[usize]) {
        for at in nodes {
            let node = self.cluster.node(*at);
            node.until("without a leader", |status| status["leader"].is_null());
        }
    }

    /// No one of these leads, by the answer that load balancers ask for.
    #[track_caller]
    pub fn none_leads(&self, nodes: &[usize]) {
        for at in nodes {
            let reply = self.cluster.node(*at).get("/leader");
            assert_eq!(reply.status, 503, "n{at}: {reply:?}");
        }
    }

    /// What each node has gone through, newest first.
    fn histories(&self) -> Vec<Vec<Value>> {
        let history = |at| self.cluster.node(at).get("/history").json();
        let running = self.cluster.running().into_iter();
        running
            .map(|at| serde_json::from_value(history(at)).unwrap())
            .collect()
    }

    /// Waits until these follow one of them.
    #[track_caller]
    pub fn leader_of(&self, nodes: &[usize]) -> (usize, u64) {
        self.cluster.leader_of(nodes, BOUND)
    }
}

/// Why, in the nodes' own words.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for at in self.cluster.running() {
            let lines = self.cluster.node(at).err.all();
            println!("n{at}: {:#?}", &lines[lines.len().saturating_sub(40)..]);
        }
    }
}
