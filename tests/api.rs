//! The HTTP API, asked from outside as an app asks it: every route, status code,
//! header and member, and clients that mean ill.
#![cfg(all(feature = "file", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/events.rs"]
mod events_reader;
#[path = "support/http.rs"]
mod http;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
mod process;
#[path = "support/redis.rs"]
mod redis_server;

#[path = "api/bearer.rs"]
mod bearer;
#[path = "api/checkpoint.rs"]
mod checkpoint;
#[path = "api/crowd.rs"]
mod crowd;
#[path = "api/events.rs"]
mod events;
#[path = "api/guard.rs"]
mod guard;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/leadership.rs"]
mod leadership;
#[path = "api/listeners.rs"]
mod listeners;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/page.rs"]
mod page;
#[path = "api/readers.rs"]
mod readers;
#[path = "api/status.rs"]
mod status;
#[path = "api/token.rs"]
mod token;

use process::{Node, file_url};
use tempfile::TempDir;

/// A lease that no test outlasts, so that a busy machine loses no leadership.
const LONG: &[&str] = &["--ttl", "30s"];

/// A directory store with one sidecar that leads on it.
struct Alone {
    node: Node,
    _dir: TempDir,
}

impl Alone {
    fn new(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::leading(&file_url(dir.path()), &[LONG, flags].concat());
        Self { node, _dir: dir }
    }
}

/// A leader named `first` and its follower `second`.
struct Pair {
    leader: Node,
    follower: Node,
    _dir: TempDir,
}

impl Pair {
    fn new(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = file_url(dir.path());
        let of = |own: [&'static str; 4]| [LONG, &own, flags].concat();
        let first = of(["--id", "first", "--url", "http://10.0.0.7:8080"]);
        let leader = Node::leading(&url, &first);
        let second = of(["--id", "second", "--url", "http://10.0.0.8:8080"]);
        let follower = Node::following(&url, &second);
        Self {
            leader,
            follower,
            _dir: dir,
        }
    }
}
