//! Hooks: real sidecars call a real app, which takes its time, refuses, points elsewhere
//! or is not there.
#![cfg(all(feature = "file", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/called_app.rs"]
mod app;
#[path = "support/http.rs"]
mod http;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
mod process;
#[path = "support/redis.rs"]
mod redis_server;

#[path = "hooks/delivery.rs"]
mod delivery;
#[path = "hooks/drain.rs"]
mod drain;
#[path = "hooks/signature.rs"]
mod signature;
#[path = "hooks/trouble.rs"]
mod trouble;

use app::App;
use process::Node;

/// A leader with that hook, on that store.
fn leader(store: &str, app: &App, flags: &[&str]) -> Node {
    let url = app.url("/hook");
    Node::leading(store, &[&["--hook", url.as_str()], flags].concat())
}
