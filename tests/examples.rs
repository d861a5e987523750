//! The examples, run: the counter in five languages, and resources that refuse a stale
//! leader's late write.
#![cfg(all(feature = "file", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/app.rs"]
mod app;
#[path = "support/http.rs"]
mod http;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/postgres.rs"]
mod postgres_server;
#[path = "support/process.rs"]
mod process;
#[path = "support/redis.rs"]
mod redis_server;

#[path = "examples/demo.rs"]
mod demo;
#[path = "examples/documents.rs"]
mod documents;
#[path = "examples/errands.rs"]
mod errands;
#[path = "examples/haproxy.rs"]
mod haproxy;
#[path = "examples/http_service.rs"]
mod http_service;
#[path = "examples/judge.rs"]
mod judge;
#[path = "examples/languages.rs"]
mod languages;
#[path = "examples/postgres.rs"]
mod postgres;
#[path = "examples/redis.rs"]
mod redis;
#[path = "examples/stale_writer.rs"]
mod stale_writer;
#[path = "examples/stub.rs"]
mod stub;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A script of `examples/`.
fn example(path: &str) -> Command {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    unconfigured(Command::new(examples.join(path)))
}

/// With nothing of this environment that would configure an example.
fn unconfigured(mut command: Command) -> Command {
    for name in ["TENURE_API", "TENURE_FENCE_TOKEN"] {
        command.env_remove(name);
    }
    command
}

/// Three sidecars with apps are enough for a small machine: one such test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
