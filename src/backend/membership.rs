//! Whether the members of a cluster of sidecars can change while they run, and how.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::cluster::{ClusterStatus, SeatChange};
use crate::lease::StoreError;

/// Where it is written who the members are.
pub enum Membership {
    /// Nowhere: the store is no cluster of sidecars.
    None,
    /// In the options alone: all who are listed are members, and nobody else.
    Listed,
    /// In the members' own log, in which each has a seat.
    Seated(Arc<dyn Seats>),
}

/// The seats of a cluster, as one member sees and changes them.
#[async_trait]
pub trait Seats: Send + Sync {
    /// What this member knows, without asking anybody.
    fn status(&self) -> ClusterStatus;

    /// Changes the seat of `member`, for `limit` at most.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] says what stands against it; nothing was changed then. After
    /// [`StoreError::Indeterminate`] it may be changed, or may yet be; asking again is safe.
    async fn change(
        &self,
        change: SeatChange,
        member: &str,
        limit: Duration,
    ) -> Result<(), StoreError>;
}
