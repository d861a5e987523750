//! The events of an election: each raises the snapshot's revision by one.

use serde::Serialize;

use super::snapshot::Snapshot;
use super::state::State;
use crate::lease::{Epoch, NodeId};
use crate::time::Moment;

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// This node leads from now on.
    Acquired,
    /// It leads no longer, and still holds the lease while the app drains.
    Releasing,
    /// It holds nothing any more.
    Lost,
    /// Another node leads, or nobody is known to.
    LeaderChanged,
    /// The store answers (again).
    BackendUp,
    /// The store does not answer, or answers with an error.
    BackendDown,
    /// The app is fit to lead, or is not, or is more or less so.
    HealthChanged,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Acquired,
        Self::Releasing,
        Self::Lost,
        Self::LeaderChanged,
        Self::BackendUp,
        Self::BackendDown,
        Self::HealthChanged,
    ];

    /// As events and hooks name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acquired => "leadership.acquired",
            Self::Releasing => "leadership.releasing",
            Self::Lost => "leadership.lost",
            Self::LeaderChanged => "leader.changed",
            Self::BackendUp => "backend.up",
            Self::BackendDown => "backend.down",
            Self::HealthChanged => "health.changed",
        }
    }
}

/// Why it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The store granted the lease.
    Won,
    /// The lease ran out on this node's own clock.
    Expired,
    /// The store said that the lease is not this node's any more.
    Revoked,
    /// Somebody asked this node to step down.
    StepDown,
    /// The process was asked to end.
    Shutdown,
    /// The app ended by itself.
    AppEnded,
    /// The app is not fit to lead.
    Unhealthy,
    /// The app is fit to lead.
    Healthy,
    /// The app tells another score.
    ScoreChanged,
    /// The lease was given back.
    Released,
    /// Giving it back failed; it frees itself at its end.
    ReleaseFailed,
    /// The store named a leader.
    LeaderSeen,
    /// The leader's lease ended.
    LeaderGone,
    /// The store answered.
    StoreAnswered,
    /// The store did not answer, or not well.
    StoreTrouble,
}

impl Reason {
    /// As history and logs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::StepDown => "step_down",
            Self::Shutdown => "shutdown",
            Self::AppEnded => "app_ended",
            Self::Unhealthy => "unhealthy",
            Self::Healthy => "healthy",
            Self::ScoreChanged => "score_changed",
            Self::Released => "released",
            Self::ReleaseFailed => "release_failed",
            Self::LeaderSeen => "leader_seen",
            Self::LeaderGone => "leader_gone",
            Self::StoreAnswered => "store_answered",
            Self::StoreTrouble => "store_trouble",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When: for an expiry the deadline itself, however late it was noticed.
    pub at: Moment,
    /// What.
    pub kind: EventKind,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// The epoch it is about.
    pub epoch: Option<Epoch>,
    /// The other node that leads afterwards.
    pub leader: Option<NodeId>,
    /// The snapshot's revision afterwards.
    pub revision: u64,
    /// What the node knew right afterwards: at `at` this is the whole truth, however
    /// late it is told.
    pub after: Box<Snapshot>,
}
