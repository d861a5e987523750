//! How soon the next leader leads where the sidecars keep the lease among themselves.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::effort::Effort;
use crate::fleet::{Fleet, Setup};
use crate::store::Store;
use crate::table::{Row, Sample};

const BACKENDS: &[&str] = &[
    #[cfg(feature = "quorum")]
    "bully",
    #[cfg(feature = "quorum")]
    "ring",
    #[cfg(feature = "raft")]
    "raft",
];

const TTL: Duration = Duration::from_secs(3);
/// What is asked of a crash, in ms at the median.
const CRASH_MS: f64 = 3500.0;
/// What is asked of a handover, in ms at the median.
const HANDOVER_MS: f64 = 10.0;

fn setup(election: &str) -> Setup<'_> {
    Setup {
        election,
        nodes: 3,
        ttl: TTL,
        watched: true,
    }
}

/// SIGTERM to the leader → the next leader. The old one is a follower again before the
/// next round, which begins within the lease that it gave back.
pub fn handover(effort: Effort) -> anyhow::Result<()> {
    let disk = Store::file()?;
    let mut probe = disk.probe()?;
    for backend in BACKENDS {
        let cluster = Cluster::new(backend, 3, &[])?;
        let mut fleet = Fleet::of(&cluster, setup("handover"))?;
        let (mut took, mut floor) = (Sample::default(), Sample::default());
        for _ in 0..effort.rounds(50) {
            let old = fleet.settled()?;
            effort.linger(Duration::from_millis(200));
            let began = Instant::now();
            fleet.nodes[old.node].signal(Signal::TERM)?;
            let (_, led_at) = fleet.successor(old)?;
            took.add(led_at.saturating_duration_since(began));
            let code = fleet.restart(old.node)?;
            ensure!(code == Some(0), "SIGTERM ended a member with {code:?}");
            probe.measure(&mut floor)?;
        }
        Row {
            what: "members: SIGTERM to next leader",
            store: backend,
            unit: "ms",
            sample: &took,
            floor: Some((probe.name(), floor.median())),
            target: Some(HANDOVER_MS),
        }
        .print();
    }
    Ok(())
}

/// SIGKILL of the leader → the next leader.
pub fn crash(effort: Effort) -> anyhow::Result<()> {
    for backend in BACKENDS {
        let cluster = Cluster::new(backend, 3, &[])?;
        let fleet = Fleet::of(&cluster, setup("crash"))?;
        let took = kills(effort, fleet, effort.rounds(20), TTL / 3)?;
        let ms = took.iter().fold(Sample::default(), |mut sample, span| {
            sample.add(*span);
            sample
        });
        Row {
            what: "members: TTL 3 s, SIGKILL to next leader",
            store: backend,
            unit: "ms",
            sample: &ms,
            floor: None,
            target: Some(CRASH_MS),
        }
        .print();
        Row {
            what: "… as a share of TTL",
            store: backend,
            unit: "TTL",
            sample: &shares(&took, TTL),
            floor: None,
            target: None,
        }
        .print();
    }
    Ok(())
}

/// How long nobody led after each of so many kills, at any phase of a renewal.
pub fn kills(
    effort: Effort,
    mut fleet: Fleet<'_>,
    rounds: u32,
    renew_every: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for _ in 0..rounds {
        let old = fleet.settled()?;
        effort.linger(renew_every);
        let began = Instant::now();
        fleet.kill(old.node)?;
        let (_, led_at) = fleet.successor(old)?;
        took.push(led_at.saturating_duration_since(began));
        fleet.restart(old.node)?;
    }
    Ok(took)
}

/// Spans as multiples of one.
pub fn shares(spans: &[Duration], of: Duration) -> Sample {
    let mut sample = Sample::default();
    for span in spans {
        sample.push(span.as_secs_f64() / of.as_secs_f64());
    }
    sample
}
