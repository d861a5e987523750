//! A seeded simulation of the pure core: two to five [`tenure::machine::Machine`]s
//! contend through one [`tenure::lease::register::Register`], under explicit true
//! time, drifting clocks and every fault that FAULTS.md lists for a store.
//!
//! - `TENURE_SIM_SEED=7 cargo test --test sim replay` replays one history, with a
//!   trace of its last events; a failing run prints exactly this command.
//! - `TENURE_SIM_RUNS=100000 cargo test --release --test sim histories` runs more.
//!
//! # Layout
//! `plan` draws a history's shape from its seed · `clock` maps true time to what a
//! drifting clock reads · `queue` orders the events · `world` is the event loop ·
//! `node` a sidecar's shell and its app · `store` the register behind a faulty
//! network · `faults` what goes wrong · `oracle` judges · `mutants` the planted bugs
//! that the oracle must catch.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "sim/clock.rs"]
mod clock;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/mutants.rs"]
mod mutants;
#[path = "sim/node.rs"]
mod node;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/queue.rs"]
mod queue;
#[path = "sim/store.rs"]
mod store;
#[path = "sim/world.rs"]
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mutants::Mutant;
use plan::Plan;
use world::{Report, World};

/// Histories of one default run: about twenty seconds in a debug build on two cores.
const DEFAULT_RUNS: u64 = 1_500;

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text:?} is no number")),
    )
}

fn run(seed: u64, mutant: Option<Mutant>) -> Report {
    World::new(Plan::of_seed(seed), mutant, false).run()
}

/// The violation with its trace, and how to see it again.
fn describe(seed: u64, mutant: Option<Mutant>) -> String {
    let plan = Plan::of_seed(seed);
    let shape = format!("{plan:#?}");
    let report = World::new(plan, mutant, true).run();
    format!(
        "seed {seed}: {}\n\n{shape}\n\nthe last events:\n{}\n\nreplay: TENURE_SIM_SEED={seed} \
         cargo test --test sim replay -- --nocapture\n",
        report.violation.as_deref().unwrap_or("no violation"),
        report.trace.join("\n"),
    )
}

/// Runs the seeds on all cores; the lowest failing one, and what all of them saw.
fn campaign(seeds: std::ops::Range<u64>) -> (Option<u64>, Report) {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new((None::<u64>, Report::default()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut sum = Report::default();
                let mut failed = None;
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let report = run(seed, None);
                    sum.add(&report);
                    if report.violation.is_some() {
                        failed = Some(seed);
                        next.store(seeds.end, Ordering::Relaxed);
                        break;
                    }
                }
                let mut found = found.lock().unwrap();
                found.1.add(&sum);
                found.0 = [found.0, failed].into_iter().flatten().min();
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn histories_keep_the_promise() {
    let runs = from_env("TENURE_SIM_RUNS").unwrap_or(DEFAULT_RUNS);
    let started = std::time::Instant::now();
    let (failed, sum) = campaign(0..runs);
    println!("{runs} histories in {:.1?}: {sum}", started.elapsed());
    if let Some(seed) = failed {
        panic!("{}", describe(seed, None));
    }
    // A run in which nothing happens proves nothing.
    assert!(sum.tenures > runs * 2, "too few tenures: {sum}");
    assert!(sum.writes > runs * 20, "too few writes: {sum}");
    assert!(sum.holds > runs / 20, "too few holds: {sum}");
}

#[test]
fn replay() {
    let Some(seed) = from_env("TENURE_SIM_SEED") else {
        return;
    };
    let text = describe(seed, None);
    println!("{text}");
    assert!(run(seed, None).violation.is_none(), "{text}");
}

#[test]
fn one_seed_is_one_history() {
    for seed in 0..20 {
        let first = World::new(Plan::of_seed(seed), None, true).run();
        let again = World::new(Plan::of_seed(seed), None, true).run();
        assert_eq!(first.trace, again.trace, "seed {seed} is not deterministic");
        assert_eq!(first.steps, again.steps);
    }
}

/// FAULTS.md: the oracle itself is tested.
#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let caught = (0..mutant.seeds()).find_map(|seed| {
            let report = run(seed, Some(mutant));
            report.violation.map(|violation| (seed, violation))
        });
        match caught {
            Some((seed, violation)) => {
                println!("{mutant:?}: caught by seed {seed}: {violation}");
                let wanted = mutant.caught_by();
                assert!(
                    wanted.iter().any(|word| violation.contains(word)),
                    "{mutant:?} was caught for another reason than {wanted:?}: {violation}"
                );
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "the oracle is blind to {missed:?}");
}

/// DESIGN.md, "Waiting well": 1 to 1.5 requests a TTL from each follower.
#[test]
fn a_quiet_election_costs_little() {
    for seed in 0..60 {
        let plan = Plan::calm(seed);
        let (ttl, renew) = (plan.timing.ttl(), plan.timing.renew_every());
        let report = World::new(plan, None, false).run();
        assert_eq!(report.violation, None, "calm seed {seed}");
        let span = report.quiet_span.as_secs_f64();
        let leases = span / ttl.as_secs_f64();
        for (node, sent) in report.quiet_requests.iter().enumerate() {
            // Clocks drift by one percent, and a span begins and ends in mid-wait.
            let allowed = if report.quiet_leader == Some(node) {
                span / renew.as_secs_f64()
            } else {
                leases * 1.5
            };
            assert!(
                *sent as f64 <= allowed * 1.03 + 2.0,
                "calm seed {seed}: node {node} sent {sent} in {leases:.1} TTLs, allowed {allowed:.1}"
            );
            assert!(
                *sent as f64 >= leases * 0.9 - 2.0,
                "calm seed {seed}: node {node} sleeps"
            );
        }
    }
}
