//! Three members on a simulated network, in simulated time: loss, cuts of one way and of both,
//! held packets, crashes. The schedule of faults comes from a seed: with
//! `TENURE_SIM_SEED=7 cargo test --all-features --test raft simulated` it is played again, with
//! `TENURE_SIM_RUNS=100` there are more. Raft's own timeouts are drawn by `openraft`, so that a
//! replay may differ.
//!
//! What must hold, whatever happens, is in [`Oracle`]: one leader at a time, epochs that rise, no
//! stored number lost, one leader of the log a term. And when all is well again, somebody leads,
//! all agree who leads the log, and numbers are stored.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure::backend::raft::RaftStore;
use tenure::backend::{Backend, Store as _};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Drift, Epoch,
    Profile, Renewed, Revision, SessionId,
};
use tenure::peers::{Members, MeshOptions};
use tenure::raft::{RaftNode, RaftOptions};
use tenure::time::pause;
use turmoil::Sim;

use crate::members::id;
use crate::oracle::Oracle;
use crate::sim_network::{SimClock, SimTcp, play, simulation};

const NODES: [&str; 3] = ["a", "b", "c"];
const PORT: u16 = 7000;
const TTL: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_millis(300);
/// Raft's own timeouts are 150 to 300 ms.
const ELECTION: Duration = Duration::from_secs(3);
/// After the last fault connections are made again, within 8 s, then the log elects its leader,
/// a lease ends, and somebody counts.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
const COUNTS: u64 = 20;

type Shared = Rc<RefCell<Oracle>>;

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap()
}

async fn node(own: &str, disks: PathBuf, network: SimTcp, oracle: Shared) -> turmoil::Result {
    let dir = disks.join(own);
    let identity = RaftNode::identity(&dir, "orders", id(own))?;
    let session = SessionId::from_bits(u128::from(identity.incarnation) << 8 | own_bits(own));
    let list = NODES.map(|node| (id(node), format!("{node}:{PORT}")));
    let mut mesh = MeshOptions::new(
        identity,
        Members::new(id(own), list)?,
        ([0, 0, 0, 0], PORT).into(),
    );
    mesh.insecure_peers = true;
    mesh.heartbeat = Duration::from_millis(500);
    mesh.suspect_after = Duration::from_millis(1500);
    let options = RaftOptions {
        mesh,
        state_dir: dir,
        witness: false,
        bootstrap: true,
        election_timeout: ELECTION,
        drift: Drift::ONE_PERCENT,
    };
    let raft = RaftNode::start_on(Arc::new(network), options, Arc::new(SimClock)).await?;
    let backend = RaftStore::new(Arc::clone(&raft), CALL).election(&"orders".parse()?);
    let candidate = Candidate {
        own,
        backend: &*backend,
        session,
        oracle: &oracle,
    };
    tokio::join!(candidate.campaign(), async {
        loop {
            oracle.borrow_mut().sees(own, raft.status());
            pause(Duration::from_millis(20)).await;
        }
    });
    Ok(())
}

fn own_bits(own: &str) -> u128 {
    u128::from(own.as_bytes()[0])
}

/// Who wants to lead, and counts while it does.
struct Candidate<'a> {
    own: &'a str,
    backend: &'a dyn Backend,
    session: SessionId,
    oracle: &'a Shared,
}

impl Candidate<'_> {
    async fn campaign(&self) {
        let mut floor = None;
        loop {
            let asked_at = now();
            let bid = Bid {
                session: self.session.clone(),
                profile: Profile {
                    node: self.own.parse().unwrap(),
                    url: None,
                    metadata: Vec::new(),
                },
                ttl: TTL,
                floor,
                incumbent: false,
                hold: TTL,
            };
            match self.backend.acquire(&bid).await {
                // A lease that was over before its answer came was never led under.
                Ok(Acquired::Won { epoch, left }) if now() < asked_at + left => {
                    floor = Some(epoch);
                    let until = asked_at + left;
                    self.oracle.borrow_mut().leads(self.own, epoch, until);
                    self.lead(epoch, until).await;
                    self.oracle.borrow_mut().ended(self.own);
                }
                Ok(Acquired::Won { epoch, .. }) => floor = Some(epoch),
                _ => pause(Duration::from_millis(150)).await,
            }
        }
    }

    async fn lead(&self, epoch: Epoch, mut until: Duration) {
        let mut count = None;
        let mut renew_at = now() + TTL / 3;
        while now() < until {
            if now() >= renew_at {
                let sent_at = now();
                renew_at = sent_at + TTL / 3;
                let claim = Claim {
                    epoch,
                    session: self.session.clone(),
                    ttl: TTL,
                    hold: TTL,
                };
                match self.backend.renew(&claim).await {
                    Ok(Renewed::Kept { left }) => {
                        until = until.max(sent_at + left);
                        self.oracle.borrow_mut().renewed(self.own, until);
                    }
                    Ok(Renewed::Lost(_)) => return,
                    Err(_) => {}
                }
            }
            count = match count {
                None => self.read().await,
                Some(last) => self.count(epoch, last).await,
            };
            pause(Duration::from_millis(100)).await;
        }
    }

    async fn read(&self) -> Option<(Option<Revision>, u64)> {
        let read = match self.backend.read_checkpoint().await.ok()? {
            CheckpointRead::Present(it) => {
                let number = std::str::from_utf8(&it.bytes).unwrap().parse().unwrap();
                (Some(it.revision), number)
            }
            CheckpointRead::Absent => (None, 0),
            CheckpointRead::Lost(revision) => panic!("{revision:?} was lost"),
        };
        self.oracle.borrow().read(self.own, read.1);
        Some(read)
    }

    /// `None` where it is not known what is stored now.
    async fn count(
        &self,
        epoch: Epoch,
        (expected, number): (Option<Revision>, u64),
    ) -> Option<(Option<Revision>, u64)> {
        let number = number + 1;
        let write = CheckpointWrite {
            epoch,
            session: self.session.clone(),
            expected,
            bytes: number.to_string().into_bytes(),
        };
        match self.backend.write_checkpoint(&write).await.ok()? {
            CheckpointWritten::Written(revision) => {
                self.oracle.borrow_mut().wrote(self.own, epoch, number);
                Some((Some(revision), number))
            }
            _ => None,
        }
    }
}

/// A simulated cluster.
struct World {
    sim: Sim<'static>,
    oracle: Shared,
    network: SimTcp,
    _disks: TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut sim = simulation(seed, Duration::from_millis(4));
        let (oracle, network) = (Shared::default(), SimTcp::default());
        let disks = tempfile::tempdir().unwrap();
        for own in NODES {
            let (oracle, network) = (Rc::clone(&oracle), network.clone());
            let at = disks.path().to_owned();
            sim.host(own, move || {
                node(own, at.clone(), network.clone(), Rc::clone(&oracle))
            });
        }
        Self {
            sim,
            oracle,
            network,
            _disks: disks,
        }
    }

    fn run(&mut self, span: Duration) {
        let until = self.sim.elapsed() + span;
        while self.sim.elapsed() < until {
            self.sim.step().unwrap();
            self.oracle.borrow().judge(self.sim.elapsed());
        }
    }

    fn crash(&mut self, node: &str) {
        self.network.crash(&mut self.sim, node);
        self.oracle.borrow_mut().ended(node);
    }

    fn bounce(&mut self, node: &str) {
        self.network.bounce(&mut self.sim, node);
    }

    /// Until all is as it should be where nothing is broken.
    fn must_settle(&mut self) {
        let before = self.oracle.borrow().stored();
        let give_up = self.sim.elapsed() + SETTLES_WITHIN;
        while let Err(what) = self.settled(before + COUNTS) {
            assert!(self.sim.elapsed() < give_up, "still {what}");
            self.run(Duration::from_millis(500));
        }
    }

    fn settled(&self, counted: u64) -> Result<(), String> {
        let oracle = self.oracle.borrow();
        if oracle.stored() < counted || oracle.leader(self.sim.elapsed()).is_none() {
            return Err(format!("nobody counts beyond {}", oracle.stored()));
        }
        let leaders: Vec<_> = oracle.seen.values().map(|seen| &seen.raft_leader).collect();
        if leaders.iter().any(|it| it.is_none() || *it != leaders[0]) {
            return Err(format!("not agreed: {leaders:?}"));
        }
        match oracle.seen.values().find(|seen| !seen.has_quorum) {
            Some(alone) => Err(format!("alone: {alone:?}")),
            None => Ok(()),
        }
    }
}

/// One fault, and its end.
fn trouble(world: &mut World, draw: &mut fastrand::Rng) {
    let mut nodes = NODES;
    draw.shuffle(&mut nodes);
    // Mostly the leader's: there is most to be lost.
    let leads = {
        let oracle = world.oracle.borrow();
        let leader = oracle.leader(world.sim.elapsed());
        nodes.iter().position(|node| leader == Some(*node))
    };
    if let Some(leads) = leads.filter(|_| draw.u8(0..3) > 0) {
        nodes.swap(0, leads);
    }
    let [first, second, third] = nodes;
    let span = Duration::from_millis(draw.u64(50..6000));
    match draw.u8(0..8) {
        0 => {
            world.sim.partition(first, second);
            world.run(span);
            world.sim.repair(first, second);
        }
        1..=3 => {
            for other in [second, third] {
                world.sim.partition(first, other);
            }
            world.run(span);
            for other in [second, third] {
                world.sim.repair(first, other);
            }
        }
        4 => {
            world.sim.partition_oneway(first, second);
            world.run(span);
            world.sim.repair_oneway(first, second);
        }
        5 => {
            world.sim.hold(first, second);
            world.run(span);
            world.sim.release(first, second);
        }
        6 => {
            world.crash(first);
            world.run(span);
            world.bounce(first);
        }
        _ => {
            world.sim.set_fail_rate(0.02);
            world.run(span);
            world.sim.set_fail_rate(0.0);
        }
    }
}

fn one_history(seed: u64) {
    let (mut world, mut draw) = (World::new(seed), fastrand::Rng::with_seed(seed));
    world.must_settle();
    for _ in 0..2 {
        for _ in 0..draw.u8(1..4) {
            trouble(&mut world, &mut draw);
            let between = Duration::from_millis(draw.u64(0..2000));
            world.run(between);
        }
        world.must_settle();
    }
}

#[test]
fn simulated_histories_keep_the_promise() {
    let command = "cargo test --all-features --test raft simulated";
    play(4, command, one_history);
}
