//! What a cluster of five must do when processes and links fail: `--backend bully`, `ring`
//! and `raft`, as real processes, each in a network namespace of its own. Links are cut by
//! iptables inside the namespaces. Needs root, `ip` and `iptables`.
//!
//! # Layout
//! `network` makes the namespaces and cuts · `watch` asks every node who leads, all the
//! time, and judges · `calm` tells whether the machine was fit · `world` is all of them and
//! the cluster · `crashes`, `splits`, `one_way`,
//! `pauses` and `together` are what happens to it.
#![cfg(all(feature = "quorum", feature = "raft"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/http.rs"]
mod http;
#[path = "support/members.rs"]
mod members;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
mod process;

#[path = "acceptance/calm.rs"]
mod calm;
#[path = "acceptance/crashes.rs"]
mod crashes;
#[path = "acceptance/network.rs"]
mod network;
#[path = "acceptance/one_way.rs"]
mod one_way;
#[path = "acceptance/pauses.rs"]
mod pauses;
#[path = "acceptance/splits.rs"]
mod splits;
#[path = "acceptance/together.rs"]
mod together;
#[path = "acceptance/watch.rs"]
mod watch;
#[path = "acceptance/world.rs"]
mod world;
