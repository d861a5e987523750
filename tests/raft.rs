//! Members of a Raft cluster: who votes, with which disk, and what stands on it.
//!
//! # Layout
//! `seats` `tenure cluster` on real processes · `disks` files that were lost or damaged, or that
//! fill up · `members` several in one process, for `witness`, `isolation`, `secure`,
//! `farewell`, `crowd` · `simulated` a cluster in simulated time, with its judge in `oracle`.
#![cfg(feature = "raft")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/fault.rs"]
#[allow(dead_code)]
mod fault;
#[path = "support/http.rs"]
mod http;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
mod process;
#[path = "support/members.rs"]
mod processes;
#[path = "support/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "support/sim_network.rs"]
mod sim_network;
#[path = "support/ways.rs"]
mod ways;

#[path = "raft/crowd.rs"]
mod crowd;
#[path = "raft/disks.rs"]
mod disks;
#[path = "raft/farewell.rs"]
mod farewell;
#[path = "raft/isolation.rs"]
mod isolation;
#[path = "raft/members.rs"]
mod members;
#[path = "raft/oracle.rs"]
mod oracle;
#[path = "raft/seats.rs"]
mod seats;
#[path = "raft/secure.rs"]
mod secure;
#[path = "raft/simulated.rs"]
mod simulated;
#[path = "raft/witness.rs"]
mod witness;
