//! What all connections of one store have in common.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};

use super::connection::{self, Address, Driver, Opened};
use super::server::Expected;
use super::target::{RedisTarget, Topology};
use crate::lease::{ElectionName, StoreError};
use crate::time::{Clock, millis_up};
use crate::wire::{Credentials, Endpoint, Loaded};

pub(super) struct Access {
    pub target: RedisTarget,
    pub credentials: Credentials,
    /// The address as the user wrote it, without secrets.
    pub name: String,
    /// Bounds each attempt to connect and each answer.
    pub call_timeout: Duration,
    /// How many replicas must acknowledge a grant and a checkpoint; 0 for none.
    pub wait: u8,
    pub clock: Arc<dyn Clock>,
    /// The longest that any server of this store has made holds last beyond a lease,
    /// in milliseconds. It never shrinks: a promoted server may be set up otherwise
    /// than the one whose leases it must wait for.
    grace_ms: AtomicU64,
    /// The elections on this store, for whose keys the user needs rights.
    elections: Mutex<BTreeSet<ElectionName>>,
}

impl Access {
    pub(super) fn new(
        target: RedisTarget,
        credentials: Credentials,
        call_timeout: Duration,
        wait: u8,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            name: target.to_string(),
            target,
            credentials,
            call_timeout,
            wait,
            clock,
            grace_ms: AtomicU64::new(0),
            elections: Mutex::default(),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        *self.target.topology() == Topology::Cluster
    }

    pub(super) fn add_election(&self, name: &ElectionName) {
        let elections = self.elections.lock();
        let mut elections = elections.unwrap_or_else(PoisonError::into_inner);
        elections.insert(name.clone());
    }

    /// A copy, so that no lock is held while a server is asked.
    pub(super) fn elections(&self) -> Vec<ElectionName> {
        let elections = self.elections.lock();
        let elections = elections.unwrap_or_else(PoisonError::into_inner);
        elections.iter().cloned().collect()
    }

    /// How long a hold lasts beyond a lease.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms.load(Ordering::Relaxed))
    }

    /// What the user is told a server is.
    pub(super) fn name_of(&self, endpoint: &Endpoint, expected: Expected) -> String {
        match expected {
            Expected::Alone => self.name.clone(),
            Expected::Master => format!("{} (master {endpoint})", self.name),
            Expected::Sentinel => format!("{} (Sentinel {endpoint})", self.name),
            Expected::Node | Expected::AnyNode => format!("{} (node {endpoint})", self.name),
        }
    }

    /// Opens a connection to a server that leases can rest on.
    ///
    /// # Errors
    /// As [`connection::open`].
    pub(super) async fn open(
        &self,
        endpoint: &Endpoint,
        expected: Expected,
        loaded: &Loaded,
        pushes: impl AsyncPushSender,
    ) -> Result<Opened, StoreError> {
        let name = self.name_of(endpoint, expected);
        let address = self.address(endpoint, expected, loaded, &name);
        let opened = connection::open(&address, self.call_timeout, pushes).await?;
        let grace = opened.server.replication.grace();
        self.grace_ms.fetch_max(millis_up(grace), Ordering::Relaxed);
        Ok(opened)
    }

    /// Opens a connection to a Sentinel.
    ///
    /// # Errors
    /// As [`connection::shake`].
    pub(super) async fn open_sentinel(
        &self,
        endpoint: &Endpoint,
        pushes: impl AsyncPushSender,
    ) -> Result<(MultiplexedConnection, Driver), StoreError> {
        let loaded = self.credentials.newest();
        let name = self.name_of(endpoint, Expected::Sentinel);
        let address = self.address(endpoint, Expected::Sentinel, &loaded, &name);
        connection::shake(&address, self.call_timeout, pushes).await
    }

    fn address<'a>(
        &self,
        endpoint: &'a Endpoint,
        expected: Expected,
        loaded: &'a Loaded,
        name: &'a str,
    ) -> Address<'a> {
        let keeps_data = expected != Expected::Sentinel;
        Address {
            endpoint,
            name,
            database: if keeps_data {
                self.target.database()
            } else {
                0
            },
            loaded,
            expected,
        }
    }
}
