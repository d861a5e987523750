//! The command line, run as a user runs it: exit codes, messages, output for people
//! and for programs, signals.
#![cfg(all(feature = "file", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/http.rs"]
mod http;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
mod process;
#[path = "support/redis.rs"]
mod redis_server;

#[path = "cli/client.rs"]
mod client;
#[path = "cli/credentials.rs"]
mod credentials;
#[path = "cli/lifetime.rs"]
mod lifetime;
#[path = "cli/memory.rs"]
mod memory;
#[cfg(feature = "quorum")]
#[path = "cli/peers.rs"]
mod peers;
#[cfg(feature = "quorum")]
#[path = "cli/problems.rs"]
mod problems;
#[path = "cli/secrets.rs"]
mod secrets;
#[path = "cli/settings.rs"]
mod settings;
#[path = "cli/usage.rs"]
mod usage;
#[path = "cli/watch.rs"]
mod watch;

/// A lease that no test outlasts.
const LONG: &[&str] = &["--ttl", "30s"];
