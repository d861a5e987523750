//! soak: random faults on five nodes, under the oracle. The seed is printed; the same
//! seed gives the same faults, though not the same timing.
//!
//!     TENURE_SOAK_SEED=7 TENURE_SOAK_SECONDS=3600 cargo test --test faults soak -- --nocapture

use std::time::{Duration, Instant};

use super::cluster::{Cluster, HOLD, WORST};
use super::proxy::Way;
use super::stores::Net;

const NODES: usize = 5;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

struct Soak {
    net: Net,
    cluster: Cluster,
    random: fastrand::Rng,
    stopped: [bool; NODES],
}

#[test]
fn soak() {
    let seed = setting("TENURE_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let span = Duration::from_secs(setting("TENURE_SOAK_SECONDS").unwrap_or(20));
    println!("TENURE_SOAK_SEED={seed}");
    let net = Net::new(NODES);
    let homes: Vec<_> = (0..NODES).map(|_| tempfile::tempdir().unwrap()).collect();
    let setups = net.urls().into_iter().zip(&homes).enumerate();
    let setups = setups.map(|(index, (url, home))| {
        super::node::Setup::new(&format!("n{index}"), &url)
            .flag("--ttl", "1s")
            .flag("--state-dir", home.path().display())
    });
    let mut soak = Soak {
        cluster: Cluster::of(setups.collect()),
        net,
        random: fastrand::Rng::with_seed(seed),
        stopped: [false; NODES],
    };
    soak.cluster.working_leader();
    let until = Instant::now() + span;
    while Instant::now() < until {
        soak.inject();
        std::thread::sleep(Duration::from_millis(soak.random.u64(100..900)));
        if soak.random.u8(..3) == 0 {
            soak.mend();
            soak.cluster.working_leader();
        }
    }
    soak.mend();
    soak.cluster.working_leader();
    soak.cluster.judge();
}

impl Soak {
    fn inject(&mut self) {
        let kind = self.random.u8(..12);
        // Half of the faults are aimed at the leader, as far as one is known.
        let leader = {
            let history = self.cluster.recorder.history();
            let last = history.answers.iter().rev().find(|answer| answer.is_leader);
            last.map(|answer| answer.node)
        };
        let any = self.random.usize(..NODES);
        let node = leader.filter(|_| self.random.bool()).unwrap_or(any);
        println!("{:?} fault {kind} on n{node}", self.cluster.recorder.now());
        let proxy = &self.net.proxies[node];
        match kind {
            0 | 1 if self.cluster.runs(node) => {
                self.cluster.kill(node);
                self.stopped[node] = false;
            }
            2 if self.cluster.runs(node) && !self.stopped[node] => self.cluster.stop(node),
            3 | 4 if self.cluster.runs(node) => {
                self.cluster.pause(node);
                self.stopped[node] = true;
            }
            5 => proxy.set(Way::Hold, Way::Hold),
            6 => proxy.set(Way::Pass, Way::Drop),
            7 => proxy.set(Way::Drop, Way::Pass),
            8 => proxy.set(Way::Slow(10, 60), Way::Slow(10, 60)),
            9 => proxy.lossy(),
            10 => {
                self.net.redis.kill();
                self.net.redis.start_again();
            }
            11 => {
                self.cluster.note_loss();
                self.net.redis.command(&["FLUSHALL"]);
                self.cluster.note_loss();
            }
            _ => self.net.proxies.iter().for_each(super::proxy::Proxy::cut),
        }
    }

    /// Ends every fault; a leader emerges within the bound.
    fn mend(&mut self) {
        for node in 0..NODES {
            if self.cluster.runs(node) {
                if std::mem::take(&mut self.stopped[node]) {
                    self.cluster.resume(node);
                }
            } else {
                self.cluster.launch(node);
            }
        }
        self.net.proxies.iter().for_each(super::proxy::Proxy::heal);
        let mended_at = self.cluster.recorder.now();
        self.cluster.leader_after(0, mended_at, WORST + HOLD);
    }
}
