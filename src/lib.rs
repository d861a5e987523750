//! Leader election beside any app, on the store it already has, with a fencing token
//! that makes a stale leader's writes bounce.
//!
//! # The promise
//! A node says that it leads only while its own clock, one that goes on through a
//! suspend, is before a moment that the node computed *from before it sent* the
//! request that the store granted. That moment is shortened for the drift of both
//! clocks and for the time that stopping the app takes. The store can grant the next
//! epoch only later, as long as the *rates* of the clocks are off by less than the
//! stated bound; no two machines' wall clocks are ever compared. Every grant carries
//! a strictly higher epoch, across restarts and data loss too, and whoever writes
//! with an older one is refused by the resource.
//!
//! So exclusion rests on clocks, and correctness rests on the fence. A lease alone
//! never protects a resource: a process can stop between asking "do I lead?" and
//! writing, for as long as it likes. (M. Kleppmann, *How to do distributed locking*,
//! 2016; C. Gray, D. Cheriton, *Leases*, SOSP 1989.)
//!
//! The *epoch* is the number of one tenure. The literature calls it a *term* where it
//! orders leaders and a *fencing token* where a resource compares it: one number.
//!
//! # Layout
//! ```text
//! main -> cli -> lab ----> client            the lab asks like an app, over HTTP
//!          |-> process -> api ----> sidecar  the only loop: clock + store + machine
//!          |      '-> hook, health ^ |  |    beside it: the app is told, and asked
//!          |      '-> child --------^|  |    the app itself, under its guard
//!          '-> config                |  |
//!                                    |  '-> memory      what a node must not forget
//!                          machine <-'  '-> backend     memory, file, redis, etcd
//!                             |                |
//!                             '----> lease <---'        words and rules, pure
//!                                      |
//!                                    time               the only reader of clocks
//! ```
//! Beside these stand `wire` (TCP, TLS, rotated credentials), for the network stores and
//! for `peers`, the way between sidecars that have no store. `quorum` is the lease that
//! these keep among themselves: pure as [`machine`] is, on `lease` and the names of
//! `peers` alone. `raft` is the same lease in a log that they replicate; [`cluster`] has the
//! words for who its members are.
//!
//! Imports point down only. [`machine`] and [`lease`] do no I/O, read no clock and
//! await nothing; [`backend`]s never see each other; only [`time`] reads a clock; only
//! [`sidecar`] loops.
//!
//! # As a library
//! Elect inside an app, with callbacks or with a watch; `examples/embed.rs` is a whole
//! program.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use tenure::{backend::memory::MemoryStore, lease::{Profile, Timing}};
//! # use tenure::{sidecar::{Options, Sidecar}, time::BootClock};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(MemoryStore::new(Arc::new(BootClock)));
//! let profile = Profile { node: "a".parse()?, url: None, metadata: Vec::new() };
//! let timing = Timing::of_ttl(Duration::from_secs(3))?;
//! let sidecar = Sidecar::start(store, &Options::new("orders".parse()?, profile, timing))?;
//!
//! let election = sidecar.elections()[0].clone();
//! let mut watch = election.watch()?;
//! while !election.is_leader() {
//!     watch.changed().await;
//! }
//! let token = election.fence_token().expect("leads");
//! assert!(election.validate(token).await.is_ok());
//! sidecar.stop().await;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(
    feature = "etcd",
    feature = "file",
    feature = "quorum",
    feature = "raft",
    feature = "redis"
)))]
compile_error!(
    "tenure needs something that keeps the lease: one at least of the features etcd, file, quorum, \
     raft and redis"
);

pub mod api;
pub mod backend;
pub mod bearer;
mod child;
pub mod cli;
mod client;
pub mod cluster;
pub mod config;
mod durable;
mod exit;
pub mod health;
pub mod hook;
mod lab;
pub mod lease;
pub mod machine;
pub mod memory;
mod outbound;
#[cfg(feature = "peers")]
pub mod peers;
mod process;
#[cfg(feature = "quorum")]
pub mod quorum;
#[cfg(feature = "raft")]
pub mod raft;
pub mod sidecar;
mod signals;
pub mod systemd;
pub mod time;
#[cfg(feature = "wire")]
pub mod wire;

pub use exit::Exit;
