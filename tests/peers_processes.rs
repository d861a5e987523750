//! Members as real processes on the loopback: `--backend bully`, `ring` and `raft`.
//!
//! # Layout
//! `elections` who leads through kills, restarts and handovers ·
//! `refusals` what members say to those that are not theirs, and to damaged disks ·
//! `hostile` bytes that no member sends · `secure` the same members with certificates.
#![cfg(feature = "quorum")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/http.rs"]
mod http;
#[path = "support/members.rs"]
mod members;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
mod process;

#[path = "peers_processes/elections.rs"]
mod elections;
#[path = "peers_processes/hostile.rs"]
mod hostile;
#[path = "peers_processes/refusals.rs"]
mod refusals;
#[path = "peers_processes/secure.rs"]
mod secure;

/// What this build has.
#[cfg(feature = "raft")]
const ALL: &[&str] = &["bully", "ring", "raft"];
#[cfg(not(feature = "raft"))]
const ALL: &[&str] = &["bully", "ring"];
