//! Redis: a lease register in Lua, on one server that already runs.
//!
//! Each operation is one script (`lua/*.lua`), so that it happens whole or not at
//! all; the rules are those of [`crate::lease::register`]. Redis's own clock ends a
//! lease, and the key that is the lease expires by itself. What must outlive the
//! lease, the newest epoch above all, stands in a key that never expires.
//!
//! # Keys
//! For an election `E`, all in one hash slot, readable with `redis-cli`:
//!
//! | key | what |
//! |---|---|
//! | `tenure:{E}:leader` | string `epoch:session`, expires with the lease |
//! | `tenure:{E}:state` | hash: who holds or held the newest epoch, until when, under which URL |
//! | `tenure:{E}:checkpoint` | hash: revision and bytes |
//! | `tenure:{E}:changes` | channel: `began EPOCH`, `ended EPOCH [NODE]` |
//!
//! # Layout
//! ```text
//! election -> ways -> cluster -> chart -> slots     which node has which keys
//!    |          |        |
//!    |          '-> supervisor -> link              one connection, kept
//!    |               |     |       '-> topic        its wake-ups
//!    |               |     '-> route -> sentinel    where its server is
//!    |               '-> access -> connection       opens one, and
//!    |                               '-> server     judges who answers
//!    '-> scripts, reply                             speak to the Lua
//! ```
//! `target` reads the address, `trouble` judges failures, `acknowledged` waits for
//! replicas, `replication` knows what a failover may lose.

mod access;
mod acknowledged;
mod acl;
mod chart;
mod cluster;
mod connection;
mod election;
mod guarantees;
mod link;
mod replication;
mod reply;
mod rights;
mod route;
mod scripts;
mod sentinel;
mod server;
mod slots;
mod subscriptions;
mod supervisor;
mod target;
mod topic;
mod trouble;
mod ways;

use std::sync::Arc;
use std::time::Duration;

pub use target::{RedisTarget, RedisTargetError, Topology};

use self::access::Access;
use self::election::RedisElection;
use self::ways::Ways;
use super::{Backend, Guarantees, Store};
use crate::lease::ElectionName;
use crate::time::Clock;
use crate::wire::{CredentialFiles, Credentials, CredentialsError, Speech};

/// One Redis: a server, or several that stand in for each other.
#[derive(Clone)]
pub struct RedisStore {
    ways: Arc<Ways>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisStore({})", self.ways.access().name)
    }
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Which Redis.
    pub target: RedisTarget,
    /// What it is shown, beside what stands in its address.
    pub credentials: CredentialFiles,
    /// Bounds each attempt to connect and each answer.
    pub call_timeout: Duration,
    /// How many replicas must acknowledge a grant and a checkpoint; 0 for none.
    pub wait: u8,
}

impl RedisStore {
    /// Begins to connect, in the background; the first request waits for it.
    ///
    /// # Errors
    /// Where a file of the credentials cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(options: RedisOptions, clock: Arc<dyn Clock>) -> Result<Self, CredentialsError> {
        // Redis negotiates no protocol inside TLS.
        let speech = options
            .target
            .tls()
            .then_some(Speech::Store { protocols: &[] });
        let login = options.target.login().clone();
        let credentials = Credentials::load(options.credentials, login, speech)?;
        let access = Access::new(
            options.target,
            credentials,
            options.call_timeout,
            options.wait,
            clock,
        );
        Ok(Self {
            ways: Arc::new(Ways::open(Arc::new(access))),
        })
    }
}

impl Store for RedisStore {
    fn guarantees(&self) -> Guarantees {
        guarantees::of(self.ways.access())
    }

    fn address(&self) -> String {
        self.ways.access().name.clone()
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(RedisElection::new(name, &self.ways))
    }
}
