//! The states of a node in an election, as the HTTP API names them.

use serde::Serialize;

/// The states that the HTTP API names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The store has not answered yet.
    Starting,
    /// Another node is known to lead now.
    Follower,
    /// Nobody is known to lead; this node campaigns, or waits out a hold.
    Candidate,
    /// This node leads.
    Leader,
    /// Leadership is given up, the app drains, the lease is being released.
    SteppingDown,
    /// The process ends.
    Stopping,
}

impl State {
    /// As JSON and logs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::SteppingDown => "stepping_down",
            Self::Stopping => "stopping",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
