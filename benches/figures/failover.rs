//! How soon the next leader leads: after a stop, and after a crash.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;

use crate::effort::Effort;
use crate::fleet::{Fleet, Setup};
use crate::store::Store;
use crate::table::{Row, Sample};

/// Probes of the floor after each round, so that both see the same weather.
const PROBES: usize = 10;
/// Probes that find the store as idle as a handover finds it, after the others.
const IDLE_PROBES: usize = 3;
/// What a store is idle for before each of those.
const IDLE: Duration = Duration::from_millis(50);

/// SIGTERM to the leader → the next leader, seen by a long-poll.
pub fn handover(effort: Effort) -> anyhow::Result<()> {
    for (store, target) in [
        (Store::redis()?, Some(3.0)),
        (Store::file()?, Some(10.0)),
        (Store::etcd(1)?, Some(10.0)),
        // Of three on one disk: four times a put, and no more, is what is asked.
        (Store::etcd(3)?, None),
    ] {
        let store = &store;
        let mut fleet = Fleet::start(store, setup("handover", 3000))?;
        let mut probe = store.probe()?;
        let [mut took, mut floor, mut idle_floor] = std::array::from_fn(|_| Sample::default());
        for _ in 0..effort.rounds(50) {
            let old = fleet.settled()?;
            effort.linger(Duration::from_millis(200));
            let began = Instant::now();
            fleet.nodes[old.node].signal(Signal::TERM)?;
            let (_, led_at) = fleet.successor(old)?;
            took.add(led_at.saturating_duration_since(began));
            let code = fleet.restart(old.node)?;
            ensure!(code == Some(0), "SIGTERM ended a sidecar with {code:?}");
            for _ in 0..PROBES {
                probe.measure(&mut floor)?;
            }
            for _ in 0..IDLE_PROBES {
                effort.linger(IDLE);
                probe.measure(&mut idle_floor)?;
            }
        }
        let row = |what, sample, target| {
            Row {
                what,
                store: store.kind(),
                unit: "ms",
                sample,
                floor: Some((probe.name(), floor.median())),
                target,
            }
            .print();
        };
        row("handover: SIGTERM to next leader", &took, target);
        row("handover: its floor on an idle store", &idle_floor, None);
    }
    Ok(())
}

/// SIGKILL of the leader → the next leader, counted from the lease's end in the store.
pub fn crash(effort: Effort) -> anyhow::Result<()> {
    for store in Store::each()? {
        let etcd = matches!(store, Store::Etcd(_));
        // etcd has no shorter leases.
        for ttl_ms in [if etcd { 2000 } else { 1000 }, 3000] {
            let election = format!("crash-{ttl_ms}");
            let setup = setup(&election, ttl_ms);
            let mut fleet = Fleet::start(&store, setup)?;
            let (mut after_end, mut share) = (Sample::default(), Sample::default());
            for _ in 0..effort.rounds(10) {
                let old = fleet.settled()?;
                // Any phase between two renewals.
                effort.linger(setup.ttl / 3);
                let holder = fleet.nodes[old.node].status()?;
                let began = Instant::now();
                fleet.kill(old.node)?;
                let lease_end = store.lease_end(&election, &holder, setup.ttl)?;
                let (_, led_at) = fleet.successor(old)?;
                let late = led_at.saturating_duration_since(lease_end);
                let early = lease_end.saturating_duration_since(led_at);
                // A millisecond of rounding in the store's clock.
                ensure!(early < Duration::from_millis(2), "led {early:?} early");
                after_end.add(late);
                let leaderless = led_at.saturating_duration_since(began);
                share.push(leaderless.as_secs_f64() / setup.ttl.as_secs_f64());
                fleet.restart(old.node)?;
            }
            let row = |what: &str, unit, sample, floor, target| {
                let what = format!("crash: TTL {} s, {what}", ttl_ms / 1000);
                Row {
                    what: &what,
                    store: store.kind(),
                    unit,
                    sample,
                    floor,
                    target,
                }
                .print();
            };
            let end = Some(("lease end", 0.0));
            row(
                "next leader after lease end",
                "ms",
                &after_end,
                end,
                // etcd looks for what has run out twice a second.
                Some(if etcd { 540.0 } else { 40.0 }),
            );
            row("leaderless as a share of TTL", "TTL", &share, None, None);
        }
    }
    Ok(())
}

fn setup(election: &str, ttl_ms: u64) -> Setup<'_> {
    Setup {
        election,
        nodes: 3,
        ttl: Duration::from_millis(ttl_ms),
        watched: true,
    }
}
