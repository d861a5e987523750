//! The figures that the documents quote, measured on the release binary and on real
//! stores. `cargo bench --bench figures` runs all, `… -- handover` those whose name
//! begins so; `FIGURES_QUICK=1` takes a minute and proves only that it works.
//!
//! Slow numbers are reported, not judged: a machine that compiles beside it is slow.
//! Wrong ones (two leaders, a stale write taken, a handover that never comes) end it
//! with 1. Each figure stands beside the floor that the store or the system sets,
//! measured in the same run.

#![allow(missing_docs)]
// Only raft's figures cut links.
#![cfg_attr(not(feature = "raft"), allow(dead_code))]

#[path = "figures/api.rs"]
mod api;
#[path = "figures/app.rs"]
mod app;
#[path = "figures/cluster.rs"]
mod cluster;
#[path = "figures/cost.rs"]
mod cost;
#[path = "figures/effort.rs"]
mod effort;
#[path = "figures/etcd.rs"]
mod etcd;
#[path = "figures/failover.rs"]
mod failover;
#[path = "figures/fleet.rs"]
mod fleet;
#[path = "figures/http.rs"]
mod http;
#[path = "figures/lab.rs"]
mod lab;
#[path = "figures/link.rs"]
mod link;
#[path = "figures/members.rs"]
mod members;
#[path = "figures/pause.rs"]
mod pause;
#[cfg(feature = "raft")]
#[path = "figures/raft.rs"]
mod raft;
#[path = "figures/redis.rs"]
mod redis;
#[path = "figures/store.rs"]
mod store;
#[path = "figures/table.rs"]
mod table;
#[path = "figures/throughput.rs"]
mod throughput;

use std::process::ExitCode;

use effort::Effort;

type Figure = fn(Effort) -> anyhow::Result<()>;

const FIGURES: &[(&str, Figure)] = &[
    ("handover", failover::handover),
    ("crash", failover::crash),
    ("app", app::app),
    ("pause", pause::pause),
    ("cost", cost::cost),
    ("api", api::api),
    ("throughput", throughput::throughput),
    ("lab", lab::lab),
    ("members-handover", members::handover),
    ("members-crash", members::crash),
    #[cfg(feature = "raft")]
    ("raft-kill", raft::kill),
    #[cfg(feature = "raft")]
    ("raft-absence", raft::absence),
];

fn main() -> ExitCode {
    if std::env::var_os(throughput::HELLO).is_some() {
        return ExitCode::from(u8::from(throughput::hello().is_err()));
    }
    let wanted = match wanted() {
        Ok(wanted) => wanted,
        Err(unknown) => {
            let names: Vec<&str> = FIGURES.iter().map(|(name, _)| *name).collect();
            eprintln!(
                "figures: there is no {unknown}; there are {}",
                names.join(", ")
            );
            return ExitCode::from(2);
        }
    };
    let effort = Effort {
        quick: std::env::var_os("FIGURES_QUICK").is_some(),
    };
    println!("{}", machine());
    table::heading();
    let mut failed = false;
    for (name, figure) in FIGURES {
        let chosen = wanted.is_empty() || wanted.iter().any(|it| name.starts_with(it));
        if chosen && let Err(error) = figure(effort) {
            println!("{name}: WRONG: {error:#}");
            failed = true;
        }
    }
    ExitCode::from(u8::from(failed))
}

/// The beginnings of names that were asked for; all, where none was.
fn wanted() -> Result<Vec<String>, String> {
    // Cargo adds --bench.
    let asked = std::env::args().skip(1).filter(|word| word != "--bench");
    asked
        .map(
            |word| match FIGURES.iter().any(|(figure, _)| figure.starts_with(&word)) {
                true => Ok(word),
                false => Err(word),
            },
        )
        .collect()
}

/// What the numbers depend on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} cores, Linux {}, load {load}", kernel.trim())
}
