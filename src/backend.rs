//! A store as the sidecar sees it: a lease register with a fence, nothing more.
//!
//! A [`Store`] is one connection, a [`Backend`] one election on it. Every store
//! keeps the rules of [`crate::lease::register`] and says in its [`Guarantees`] what
//! they are worth there.

mod clock;
mod guarantees;
mod membership;
mod peer_count;

#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "quorum")]
pub mod quorum;
#[cfg(feature = "raft")]
pub mod raft;
#[cfg(feature = "redis")]
pub mod redis;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

pub use clock::StoreClock;
pub use guarantees::{Answer, Guarantees, Scope};
pub use membership::{Membership, Seats};
pub use peer_count::PeerCount;

use crate::cluster::LogStatus;
use crate::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, Hint,
    NodeId, Observed, Released, Renewed, StoreError,
};

/// Wake-ups of one election; see [`Backend::changes`].
pub type Hints = BoxStream<'static, Hint>;

/// One connection to one store, shared by any number of elections.
#[async_trait]
pub trait Store: Send + Sync {
    /// What this store promises, and what it does not.
    fn guarantees(&self) -> Guarantees;

    /// Where it is, for people; without secrets.
    fn address(&self) -> String;

    /// One election on it. Asks the store nothing.
    fn election(&self, name: &ElectionName) -> Arc<dyn Backend>;

    /// Who the members are, where the store is the sidecars themselves.
    fn membership(&self) -> Membership {
        Membership::None
    }

    /// Waits until this process's own part of the store is gone for good, and says why. A
    /// server that is away is no such end: it is waited for.
    async fn ended(&self) -> StoreError {
        std::future::pending().await
    }

    /// What the others still need of this node when it has given its leases back and is about
    /// to end. It takes about a call at most.
    async fn leave(&self) {}
}

/// One election in one store.
///
/// Every call may be dropped at any moment; the caller then treats it as
/// [`StoreError::Indeterminate`]. The caller bounds each call by its timeout, and
/// counts deadlines from before the call.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Asks for the lease. Asking again with the same session, after a lost answer,
    /// finds the same grant and prolongs it.
    ///
    /// # Errors
    /// [`StoreError`]: after `Indeterminate` the lease may be the bidder's.
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError>;

    /// Prolongs the lease; never creates one.
    ///
    /// # Errors
    /// [`StoreError`]: none of them means that the lease is lost.
    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError>;

    /// Gives the lease back. Asking twice is safe. `prefer` is told to the others
    /// with the wake-up.
    ///
    /// # Errors
    /// [`StoreError`]: unless `Unavailable`, the lease may be free.
    async fn release(&self, claim: &Claim, prefer: Option<&NodeId>)
    -> Result<Released, StoreError>;

    /// Looks, changing nothing.
    ///
    /// # Errors
    /// [`StoreError`] where the store does not answer for sure.
    async fn observe(&self) -> Result<Observed, StoreError>;

    /// Wake-ups: the present state first, then a hint for each change, and after a
    /// cut [`Hint::Gap`] followed by the state again. Dropping the stream ends it.
    fn changes(&self) -> Hints;

    /// By how many milliseconds the store's clock has moved further than this machine's since
    /// its first answer; zero where it has none of its own, or tells none.
    fn clock_step_ms(&self) -> i64 {
        0
    }

    /// The other members, where the store is the sidecars themselves.
    fn peers(&self) -> Option<PeerCount> {
        None
    }

    /// How far the log is, where the members keep one.
    fn log(&self) -> Option<LogStatus> {
        None
    }

    /// Reads the checkpoint.
    ///
    /// # Errors
    /// [`StoreError`] where the store does not answer for sure.
    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError>;

    /// Writes the checkpoint where epoch, session and revision match, atomically.
    ///
    /// # Errors
    /// [`StoreError`]: after `Indeterminate` the value may have been written.
    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError>;
}
