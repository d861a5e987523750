//! What a machine is told, and what it asks for.

use std::time::Duration;

use super::transition::Transition;
use crate::lease::{Acquired, Epoch, Hint, NodeId, Released, Renewed, SessionId, StoreError};

/// Names one call to the store, so that a late answer to an older one is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Wake,
    /// The answer to [`Action::Acquire`].
    Acquired(CallId, Result<Acquired, StoreError>),
    /// The answer to [`Action::Renew`].
    Renewed(CallId, Result<Renewed, StoreError>),
    /// The answer to [`Action::Release`].
    Released(CallId, Result<Released, StoreError>),
    /// The store hinted at a change.
    Hint(Hint),
    /// The app of a leadership that ended is confirmed stopped.
    Drained,
    /// Give leadership up, and campaign last for `cooldown`.
    StepDown {
        /// For how long the others go first.
        cooldown: Duration,
        /// Who may try before the others.
        to: Option<NodeId>,
    },
    /// Give leadership up and end.
    Stop,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for the lease.
    Acquire {
        /// Which call it is.
        call: CallId,
        /// The bid's floor.
        floor: Option<Epoch>,
        /// The bid's claim to be the incumbent.
        incumbent: bool,
        /// The bid's hold.
        hold: Duration,
    },
    /// Prolong the lease.
    Renew {
        /// Which call it is.
        call: CallId,
        /// Of this epoch.
        epoch: Epoch,
    },
    /// Give the lease back.
    Release {
        /// Which call it is.
        call: CallId,
        /// Of this epoch.
        epoch: Epoch,
        /// Who may try before the others.
        prefer: Option<NodeId>,
    },
    /// Stop the app, by the `ends_at` of the lease at the latest, then say `Drained`.
    Drain,
    /// Tell everybody.
    Announce(Transition),
    /// Another session holds the lease under this node's own id.
    WarnSameId(SessionId),
    /// The machine has nothing left to do.
    Finished,
}
