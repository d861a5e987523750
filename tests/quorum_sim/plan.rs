//! The shape of one history, drawn from its seed.

use std::time::Duration;

use tenure::lease::Drift;
use tenure::quorum::Algorithm;

use crate::clock::{MS, SimClock, TrueNs};

pub const SECOND: TrueNs = 1_000 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Pause,
    Crash,
    /// Nothing of it reaches the others.
    CutOut,
    /// Nothing reaches it.
    CutIn,
    /// Nothing of it reaches one other.
    CutLink,
    /// Dead and back before anybody notices.
    Flicker,
    /// It hears some and is heard by others.
    Partition,
    DiskLost,
    /// An older disk of the member is put back for a while.
    OldDisk,
    /// The failure detector suspects it for nothing.
    Suspicion,
    /// Its leader gives the lease back.
    StepDown,
}

#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub at: TrueNs,
    pub kind: FaultKind,
    pub member: usize,
    /// At the other end of a link.
    pub other: usize,
    pub lasts: TrueNs,
    /// Strikes whoever leads then.
    pub at_leader: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Network {
    pub base: TrueNs,
    pub lost: u64,
    pub twice: u64,
    pub slow: u64,
    pub slow_up_to: TrueNs,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub algorithm: Algorithm,
    pub clocks: Vec<SimClock>,
    pub drift: Drift,
    /// Where not, leaders may overlap, and only epochs and the fence are judged.
    pub clocks_keep_bound: bool,
    pub ttl: Duration,
    pub network: Network,
    /// Of 1000 fsyncs, how many a crash comes before.
    pub crash_at_fsync: u64,
    pub faults: Vec<Fault>,
    pub calm_from: TrueNs,
    /// All processes start at once.
    pub together: bool,
}

impl Plan {
    pub fn of_seed(seed: u64, seconds: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x7_e4u64.rotate_left(40));
        let members = [2, 3, 3, 4, 5, 5, 7][rng.usize(..7)];
        let mut plan = Self::quiet(seed, members, algorithm(&mut rng), &mut rng);
        plan.calm_from = seconds * SECOND;
        let harsh = rng.u64(0..4);
        plan.network.lost = [0, 20, 100, 250][rng.usize(..4)];
        plan.network.twice = [0, 30, 150][rng.usize(..3)];
        plan.network.slow = [0, 10, 50, 150][rng.usize(..4)];
        plan.network.slow_up_to = [200 * MS, 2 * SECOND, 6 * SECOND][rng.usize(..3)];
        plan.crash_at_fsync = [0, 0, 5, 30][rng.usize(..4)];
        let mut at = rng.u64(..5 * SECOND);
        while at < plan.calm_from {
            plan.faults.push(fault(at, members, harsh, &mut rng));
            at += rng.u64(SECOND / 5..=SECOND * (2 + 3 * (4 - harsh)));
        }
        plan
    }

    /// Nothing goes wrong.
    pub fn quiet(seed: u64, members: usize, algorithm: Algorithm, rng: &mut fastrand::Rng) -> Self {
        let ppm = [1_000u32, 10_000, 100_000][rng.usize(..3)];
        let bound = i64::from(ppm);
        let mut clock = || SimClock {
            rate_ppm: match rng.u64(..4) {
                0 => bound,
                1 => -bound,
                _ => rng.i64(-bound..=bound),
            },
            origin_ns: rng.u64(..1_000 * SECOND),
        };
        let clocks = (0..members).map(|_| clock()).collect();
        Self {
            seed,
            algorithm,
            clocks,
            drift: Drift::from_ppm(ppm).unwrap(),
            clocks_keep_bound: true,
            ttl: Duration::from_secs(3),
            network: Network {
                base: [2 * MS, 10 * MS, 40 * MS][rng.usize(..3)],
                ..Network::default()
            },
            crash_at_fsync: 0,
            faults: Vec::new(),
            calm_from: 20 * SECOND,
            together: rng.bool(),
        }
    }

    /// What a sidecar waits for an answer.
    pub fn call_timeout(&self) -> Duration {
        self.ttl / 6
    }

    pub fn patience(&self) -> Duration {
        self.call_timeout() * 9 / 10
    }
}

fn algorithm(rng: &mut fastrand::Rng) -> Algorithm {
    if rng.bool() {
        Algorithm::Bully
    } else {
        Algorithm::Ring
    }
}

fn fault(at: TrueNs, members: usize, harsh: u64, rng: &mut fastrand::Rng) -> Fault {
    let kinds = [
        FaultKind::Pause,
        FaultKind::Pause,
        FaultKind::Crash,
        FaultKind::Crash,
        FaultKind::CutOut,
        FaultKind::CutIn,
        FaultKind::CutLink,
        FaultKind::CutLink,
        FaultKind::CutLink,
        FaultKind::Flicker,
        FaultKind::Flicker,
        FaultKind::Partition,
        FaultKind::DiskLost,
        FaultKind::OldDisk,
        FaultKind::Suspicion,
        FaultKind::StepDown,
    ];
    Fault {
        at,
        kind: kinds[rng.usize(..kinds.len())],
        member: rng.usize(..members),
        other: rng.usize(..members),
        lasts: rng.u64(SECOND / 20..=SECOND * (3 + 3 * harsh)),
        at_leader: rng.bool(),
    }
}
