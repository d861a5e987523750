//! What a machine is told, and what it asks for.

use std::time::Duration;

use super::standing::AppHealth;
use super::transition::Transition;
use crate::lease::{
    Acquired, Epoch, Hint, NodeId, Observed, Released, Renewed, SessionId, StoreError,
};

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
    /// The answer to [`Action::Observe`]. This node's own lease is no holder.
    Observed(CallId, Result<Observed, StoreError>),
    /// The answer to [`Action::Renew`].
    Renewed(CallId, Result<Renewed, StoreError>),
    /// The answer to [`Action::Release`].
    Released(CallId, Result<Released, StoreError>),
    /// The store hinted at a change.
    Hint(Hint),
    /// The app that worked under this epoch is confirmed stopped. It says nothing of any
    /// other epoch's app, however late it comes.
    Drained(Epoch),
    /// The app that works under this epoch ends by itself: leadership is given up.
    /// `Drained` follows when all of it is gone.
    AppEnded {
        /// Under which it worked.
        epoch: Epoch,
        /// For how long the others go first.
        cooldown: Duration,
    },
    /// The app that works under this epoch is unfit and will be ended: leadership is given
    /// up, however well it be by now. `Drained` follows when all of it is gone.
    AppUnfit {
        /// Under which it works.
        epoch: Epoch,
        /// For how long the others go first.
        cooldown: Duration,
    },
    /// Whether this node may be granted the lease. One that may not goes on watching who
    /// leads; a lease that it holds is not touched.
    Candidacy(bool),
    /// How the app is. An unfit one gives leadership up and is no candidate.
    Health(AppHealth),
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
    /// Ask who holds the lease, without asking for it.
    Observe {
        /// Which call it is.
        call: CallId,
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
