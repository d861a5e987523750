//! What the suite needs of a backend: a fixture of a few lines.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tenure::backend::Store;
use tenure::lease::ElectionName;

use crate::fault::Way;

/// A copy of a store's data; only the fixture that made it looks inside.
pub type Backup = Box<dyn Any + Send + Sync>;

/// The two halves of a record, where a store keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Who holds the lease; it expires.
    Leader,
    /// What the newest tenure was; it never expires.
    State,
}

/// One backend, with a store of the test's own behind it. Dropping it stops what it
/// started.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// An empty store. What is not installed is a failure.
    async fn start() -> Self
    where
        Self: Sized;

    /// A new connection: another candidate's.
    async fn store(&self, call_timeout: Duration) -> Arc<dyn Store>;

    /// A new connection over a way that can fail.
    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>);

    /// Ends the store as by `kill -9` and starts it again, in the way in which its
    /// guarantees claim that data survives; or with its data lost.
    async fn restart(&self, election: &ElectionName, keep_data: bool);

    /// Deletes all data under the running store.
    async fn wipe(&self, election: &ElectionName);

    /// Copies the data, as an operator would.
    async fn back_up(&self, election: &ElectionName) -> Backup;

    /// Puts a copy in the place of the data.
    async fn restore(&self, election: &ElectionName, backup: &Backup);

    /// Deletes one half of the record; `false` where the store keeps them as one.
    async fn lose(&self, election: &ElectionName, half: Half) -> bool;

    /// Whether all of its data can be lost and it goes on; members that have lost what most
    /// of them promised must not.
    fn outlives_its_data(&self) -> bool {
        true
    }

    /// Whether a release outlives a restart of the whole store.
    fn keeps_releases(&self) -> bool {
        true
    }

    /// How long the others wait for a lease, from when it was granted.
    fn binds_for(&self, ttl: Duration) -> Duration {
        ttl
    }

    /// How many connections are open; `None` where there is no such thing.
    async fn connections(&self) -> Option<usize> {
        None
    }

    /// How many answers a grant to one who waits for it takes, one after the other.
    fn round_trips(&self) -> u32 {
        1
    }

    /// How many connections one store needs, however many elections there are.
    fn connections_of_a_store(&self) -> usize {
        1
    }

    /// A lease that a test lets run out.
    fn short_ttl(&self) -> Duration {
        Duration::from_millis(300)
    }

    /// A lease that a test writes under, and then lets run out. Where nothing is taken after
    /// its end, even while nobody else was granted one, it leaves time for the writes.
    fn written_ttl(&self) -> Duration {
        self.short_ttl()
    }

    /// A lease that a node keeps renewing, and that a test lets run out.
    fn node_ttl(&self) -> Duration {
        Duration::from_millis(1200)
    }
}
