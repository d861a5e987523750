//! A seeded simulation of [`tenure::quorum`]: two to seven members keep a lease among
//! themselves under explicit true time, with drifting clocks, a network that loses,
//! doubles and delays, pauses, crashes that lose what was not fsynced, and lost disks.
//!
//! - `TENURE_QUORUM_SEED=7 cargo test --test quorum_sim replay` replays one history; a
//!   failing run prints exactly this command.
//! - `TENURE_QUORUM_RUNS=20000 TENURE_QUORUM_SECONDS=300 cargo test --release --test
//!   quorum_sim histories` runs more and longer ones; `TENURE_QUORUM_FIRST` is the first seed.
//!
//! # Layout
//! `plan` draws a history's shape from its seed · `world` is the event loop · `outputs`
//! what a core's do · `network` what becomes of a message · `member` a process: the core, its
//! disk and its sidecar's `client` · `faults` what goes wrong · `report` what it all came to · `invariants` judge, one a file · `mutants` the planted bugs that they
//! must catch · `pace` how long elections take.
#![cfg(feature = "quorum")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "quorum_sim/client.rs"]
mod client;
#[path = "sim/clock.rs"]
mod clock;
#[path = "quorum_sim/faults.rs"]
mod faults;
#[path = "quorum_sim/invariants.rs"]
mod invariants;
#[path = "quorum_sim/member.rs"]
mod member;
#[path = "quorum_sim/mutants.rs"]
mod mutants;
#[path = "quorum_sim/network.rs"]
mod network;
#[path = "quorum_sim/outputs.rs"]
mod outputs;
#[path = "quorum_sim/pace.rs"]
mod pace;
#[path = "quorum_sim/plan.rs"]
mod plan;
#[path = "sim/queue.rs"]
mod queue;
#[path = "quorum_sim/report.rs"]
mod report;
#[path = "quorum_sim/world.rs"]
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use plan::Plan;
use report::Report;
use tenure::quorum::Flaw;
use world::World;

/// Histories of one default run: a few seconds in a debug build on two cores.
const DEFAULT_RUNS: u64 = 90;
const DEFAULT_SECONDS: u64 = 60;

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

fn seconds() -> u64 {
    from_env("TENURE_QUORUM_SECONDS").unwrap_or(DEFAULT_SECONDS)
}

fn run(seed: u64, flaw: Option<Flaw>) -> Report {
    World::new(Plan::of_seed(seed, seconds()), flaw, false).run()
}

/// The violation with its trace, and how to see it again.
fn describe(seed: u64, flaw: Option<Flaw>) -> String {
    let plan = Plan::of_seed(seed, seconds());
    let shape = format!("{plan:?}");
    let report = World::new(plan, flaw, true).run();
    format!(
        "seed {seed}: {}\n\n{shape}\n\nthe last events:\n{}\n\nreplay: TENURE_QUORUM_SEED={seed} \
         TENURE_QUORUM_SECONDS={} cargo test --test quorum_sim replay -- --nocapture\n",
        report.violation.as_deref().unwrap_or("no violation"),
        report.trace.join("\n"),
        seconds(),
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
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let report = run(seed, None);
                    let mut found = found.lock().unwrap();
                    found.1.add(&report);
                    if report.violation.is_some() {
                        found.0 = [found.0, Some(seed)].into_iter().flatten().min();
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn histories_keep_the_promise() {
    let runs = from_env("TENURE_QUORUM_RUNS").unwrap_or(DEFAULT_RUNS);
    let first = from_env("TENURE_QUORUM_FIRST").unwrap_or(0);
    let started = std::time::Instant::now();
    let (failed, sum) = campaign(first..first + runs);
    println!(
        "{runs} histories from seed {first} in {:.1?}: {sum}",
        started.elapsed()
    );
    if let Some(seed) = failed {
        panic!("{}", describe(seed, None));
    }
    // A run in which nothing happens proves nothing.
    assert!(sum.tenures > runs * 2, "too few tenures: {sum}");
    assert!(sum.writes > runs * 5, "too few writes: {sum}");
    assert!(sum.joined > runs / 20, "too few disks replaced: {sum}");
}

#[test]
fn replay() {
    let Some(seed) = from_env("TENURE_QUORUM_SEED") else {
        return;
    };
    let text = describe(seed, None);
    println!("{text}");
    assert!(run(seed, None).violation.is_none(), "{text}");
}

#[test]
fn one_seed_is_one_history() {
    for seed in 0..10 {
        let history = || World::new(Plan::of_seed(seed, 30), None, true).run();
        let (first, again) = (history(), history());
        assert_eq!(first.trace, again.trace, "seed {seed} is not deterministic");
        assert_eq!(first.steps, again.steps);
    }
}

/// FAULTS.md, "drift": at twice the stated bound the fence still holds.
#[test]
fn clocks_beyond_the_bound_break_no_fence() {
    for seed in 0..60 {
        let mut plan = Plan::of_seed(seed, DEFAULT_SECONDS);
        for clock in &mut plan.clocks {
            clock.rate_ppm *= 2;
        }
        plan.clocks_keep_bound = false;
        let report = World::new(plan, None, false).run();
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

/// FAULTS.md: the oracle itself is tested.
#[test]
fn every_planted_bug_is_caught() {
    let next = AtomicU64::new(0);
    let missed = Mutex::new(Vec::new());
    let hunt = || {
        while let Some((flaw, first, wanted)) =
            mutants::ALL.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap())
        {
            let seeds = match from_env("TENURE_QUORUM_MUTANT_SEEDS") {
                Some(all) => 0..all,
                None => *first..first + mutants::SEEDS,
            };
            let caught = seeds.into_iter().find_map(|seed| {
                let plan = Plan::of_seed(seed, DEFAULT_SECONDS);
                let report = World::new(plan, Some(*flaw), false).run();
                // A bug that breaks more than one promise may break another one first.
                let wanted =
                    |violation: &String| wanted.iter().any(|word| violation.contains(word));
                report
                    .violation
                    .filter(wanted)
                    .map(|violation| (seed, violation))
            });
            let Some((seed, violation)) = caught else {
                missed.lock().unwrap().push(format!("{flaw:?}"));
                continue;
            };
            println!("{flaw:?}: caught by seed {seed}: {violation}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(hunt);
        scope.spawn(hunt);
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "the invariants are blind to {missed:#?}");
}
