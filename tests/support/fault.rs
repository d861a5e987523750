//! What goes wrong between a node and its store, and the switch that makes it.

use std::time::Duration;

/// What is wrong at present. It lasts until another is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each reply comes this much later.
    SlowReplies(Duration),
    /// Requests are applied; replies come when the fault is over.
    HeldReplies,
    /// Requests are applied; replies never come.
    LostReplies,
    /// Requests arrive, and are applied, when the fault is over.
    HeldRequests,
    /// Requests never arrive.
    LostRequests,
    /// Nothing arrives in either direction, and no connection is closed.
    BlackHole,
    /// Connections are closed, and new ones are not taken.
    Refused,
}

impl Fault {
    /// Whether a wake-up cannot come through.
    pub fn silences(self) -> bool {
        !matches!(
            self,
            Self::None | Self::SlowReplies(_) | Self::HeldRequests | Self::LostRequests
        )
    }
}

/// The way between one connection and its store.
pub trait Way: Send + Sync {
    /// Makes this fault, in place of the one before.
    fn set(&self, fault: Fault);
    /// Closes what is open; new connections are taken.
    fn cut(&self);
}
