//! The shape of one history, drawn from its seed.
//!
//! Each history turns a random set of faults on ("swarm testing"): faults that are
//! always all on hide each other.

use std::time::Duration;

use tenure::lease::{Drift, Timing};
use tenure::machine::Percent;

use super::clock::{MS, SimClock, TrueNs};

/// How a message fares. Chances are per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network {
    pub base: TrueNs,
    pub slow_chance: u64,
    pub slow_up_to: TrueNs,
    pub stuck_chance: u64,
    pub stuck_up_to: TrueNs,
    pub lost_chance: u64,
    pub twice_chance: u64,
    pub hint_lost_chance: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Pause,
    Suspend,
    Crash,
    CrashForgetting,
    Stop,
    StepDown,
    AppCrash,
    Abstain,
    CutRequests,
    CutReplies,
    CutBoth,
    StoreDown,
    StoreSilent,
    StoreUncertain,
    HintGap,
    BorrowedToken,
    AppIll,
    WallStep,
    ServerChanged,
    DeleteLeader,
    DeleteState,
    Wipe,
    Restore,
    LeaseClockStep,
}

impl FaultKind {
    const HARMLESS_TO_DATA: [Self; 17] = [
        Self::Pause,
        Self::Suspend,
        Self::Crash,
        Self::CrashForgetting,
        Self::Stop,
        Self::StepDown,
        Self::AppCrash,
        Self::Abstain,
        Self::CutRequests,
        Self::CutReplies,
        Self::CutBoth,
        Self::StoreDown,
        Self::StoreSilent,
        Self::StoreUncertain,
        Self::HintGap,
        Self::BorrowedToken,
        Self::AppIll,
    ];
    const LOSES_DATA: [Self; 5] = [
        Self::ServerChanged,
        Self::DeleteLeader,
        Self::DeleteState,
        Self::Wipe,
        Self::Restore,
    ];
}

#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub at: TrueNs,
    pub kind: FaultKind,
    /// Hits whoever leads then, else this node.
    pub at_leader: bool,
    pub node: usize,
    pub other: usize,
    pub lasts: TrueNs,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub timing: Timing,
    pub drains: bool,
    pub drain_up_to: TrueNs,
    pub clocks: Vec<SimClock>,
    /// Each node's wall clock against the truth; only a planted bug reads it.
    pub wall_off_ms: Vec<i64>,
    pub store_clock: SimClock,
    pub wall_start_ms: u64,
    pub network: Network,
    pub faults: Vec<Fault>,
    /// Two processes were given one id by mistake.
    pub shared_id: bool,
    /// How early each node campaigns.
    pub priorities: Vec<Percent>,
    /// Somebody looks how the apps are.
    pub has_health: bool,
    /// No fault and no delayed message after this.
    pub calm_from: TrueNs,
    /// Clocks keep the bound; else exclusion is not promised.
    pub clocks_keep_bound: bool,
    pub loses_data: bool,
    /// How long the calm is watched, in TTLs, after the liveness bound.
    pub watch_ttls: u32,
}

fn ns(span: Duration) -> TrueNs {
    u64::try_from(span.as_nanos()).unwrap()
}

fn timing(rng: &mut fastrand::Rng, drains: bool) -> Timing {
    let ttl = Duration::from_millis(*rng.choice([300, 1_000, 1_000, 3_000].iter()).unwrap());
    let stop = if drains { ttl / 5 } else { Duration::ZERO };
    Timing::new(ttl, ttl / 3, ttl / 6, stop, Drift::ONE_PERCENT).unwrap()
}

impl Plan {
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x007E_4A0E);
        let drains = rng.u8(..3) == 0;
        let timing = timing(&mut rng, drains);
        let ttl = ns(timing.ttl());
        let nodes = rng.usize(2..=5);
        let clocks_keep_bound = rng.u8(..10) != 0;
        let bound = if clocks_keep_bound { 10_000 } else { 20_000 };
        let rate = |rng: &mut fastrand::Rng| match rng.u8(..4) {
            0 => -bound,
            1 => bound,
            2 => 0,
            _ => rng.i64(-bound..=bound),
        };
        let clocks = (0..nodes)
            .map(|_| SimClock {
                rate_ppm: rate(&mut rng),
                origin_ns: rng.u64(1_000_000_000..1 << 40),
            })
            .collect();
        let store_clock = SimClock {
            rate_ppm: rate(&mut rng),
            origin_ns: rng.u64(1_000_000_000..1 << 40),
        };
        let loses_data = rng.u8(..3) == 0;
        let calm_from = ttl * 20;
        let faults = Self::faults(
            &mut rng,
            nodes,
            ttl,
            calm_from,
            loses_data,
            clocks_keep_bound,
        );
        Self {
            seed,
            drains,
            drain_up_to: ttl * 4 / 5,
            clocks,
            wall_off_ms: (0..nodes).map(|_| rng.i64(-5_000..=5_000)).collect(),
            store_clock,
            // Epochs are at least the wall clock: small ones cross a power of ten.
            wall_start_ms: *rng
                .choice([0, 5_000, 95_000, 1_700_000_000_000].iter())
                .unwrap(),
            network: Self::network(&mut rng, ttl),
            faults,
            calm_from,
            clocks_keep_bound,
            loses_data,
            shared_id: rng.u8(..10) == 0,
            priorities: (0..nodes)
                .map(|_| match rng.u8(..2) {
                    0 => Percent::FULL,
                    _ => Percent::new(rng.u8(..=100)).unwrap(),
                })
                .collect(),
            has_health: rng.u8(..3) == 0,
            watch_ttls: 3,
            timing,
        }
    }

    /// No fault at all, and a long watch.
    pub fn calm(seed: u64) -> Self {
        let network = Network {
            base: MS,
            ..Network::default()
        };
        Self {
            faults: Vec::new(),
            network,
            clocks_keep_bound: true,
            loses_data: false,
            watch_ttls: 40,
            clocks: Self::of_seed(seed)
                .clocks
                .into_iter()
                .map(|clock| SimClock {
                    rate_ppm: clock.rate_ppm.clamp(-10_000, 10_000),
                    ..clock
                })
                .collect(),
            store_clock: SimClock {
                rate_ppm: 0,
                origin_ns: 0,
            },
            ..Self::of_seed(seed)
        }
    }

    fn network(rng: &mut fastrand::Rng, ttl: TrueNs) -> Network {
        let mut chance = |up_to: u64| if rng.bool() { rng.u64(0..=up_to) } else { 0 };
        Network {
            base: MS,
            slow_chance: chance(300),
            slow_up_to: ttl / 4,
            stuck_chance: chance(40),
            stuck_up_to: ttl * 3,
            lost_chance: chance(100),
            twice_chance: chance(150),
            hint_lost_chance: chance(500),
        }
    }

    fn faults(
        rng: &mut fastrand::Rng,
        nodes: usize,
        ttl: TrueNs,
        until: TrueNs,
        loses_data: bool,
        clocks_keep_bound: bool,
    ) -> Vec<Fault> {
        let mut kinds: Vec<FaultKind> = FaultKind::HARMLESS_TO_DATA
            .into_iter()
            .filter(|_| rng.bool())
            .collect();
        if loses_data {
            kinds.extend(FaultKind::LOSES_DATA.into_iter().filter(|_| rng.bool()));
        } else if rng.bool() {
            // A wall clock that goes back *and* lost data is the one case in which an
            // epoch of nodes without memory could come again.
            kinds.push(FaultKind::WallStep);
        }
        if !clocks_keep_bound {
            kinds.push(FaultKind::LeaseClockStep);
        }
        let count = if kinds.is_empty() {
            0
        } else {
            rng.usize(0..25)
        };
        let mut faults: Vec<Fault> = (0..count)
            .map(|_| Fault {
                at: rng.u64(0..until),
                kind: kinds[rng.usize(..kinds.len())],
                at_leader: rng.bool(),
                node: rng.usize(..nodes),
                other: rng.usize(..nodes),
                lasts: rng.u64(MS..ttl * 3),
            })
            .collect();
        faults.sort_by_key(|fault| fault.at);
        faults
    }
}
