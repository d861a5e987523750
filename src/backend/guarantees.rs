//! What a store promises. Each field is checked by the conformance suite.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How far an election on this store reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Candidates in one process.
    Process,
    /// Processes of one machine, in one boot.
    Machine,
    /// Whoever reaches the server.
    Network,
}

/// Whether a promise holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "holds", content = "on")]
pub enum Answer {
    /// Always.
    Yes,
    /// Not at all.
    No,
    /// Under the condition told.
    If(String),
}

impl Answer {
    /// Whether it holds without a condition.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No => f.write_str("no"),
            Self::If(condition) => write!(f, "if {condition}"),
        }
    }
}

/// What a store promises, and what it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guarantees {
    /// The store's kind, as `--backend` names it.
    pub kind: &'static str,
    /// How far an election reaches.
    pub scope: Scope,
    /// No epoch is ever granted twice, whatever the store forgets.
    pub epochs_never_repeat: Answer,
    /// At most one node says that it leads, while the store keeps its data and
    /// clock rates stay inside the drift bound.
    pub one_leader: Answer,
    /// The same while the store loses its data.
    pub one_leader_after_data_loss: Answer,
    /// A lease and an acknowledged checkpoint survive a crash of the store.
    pub survives_store_crash: Answer,
    /// Waiting candidates are woken by a release, and need not wait for a timer.
    pub wakes_followers: bool,
    /// How late the store notices that a lease has run out.
    #[serde(serialize_with = "as_millis", rename = "expiry_step_ms")]
    pub expiry_step: Duration,
}

fn as_millis<S: serde::Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(crate::time::millis(*span))
}

/// The promises in one line, for the first output.
impl fmt::Display for Guarantees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match self.scope {
            Scope::Process => "this process",
            Scope::Machine => "this machine",
            Scope::Network => "every node that reaches the store",
        };
        write!(
            f,
            "one leader on {scope}: {}; tokens never repeat: {}; lease and checkpoint survive a \
             store crash: {}",
            self.one_leader, self.epochs_never_repeat, self.survives_store_crash
        )
    }
}
