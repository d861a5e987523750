//! What a machine is told once, at its start.

use std::time::Duration;

use super::standing::{AppHealth, Percent};
use crate::lease::{NodeId, Timing};

/// What a machine is told once, at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's label, to notice another process that bears it.
    pub node: NodeId,
    /// The durations of the lease.
    pub timing: Timing,
    /// An app has to be stopped after leadership, and the shell says `Drained` then. On
    /// a voluntary step-down the lease is renewed for that long meanwhile; afterwards it
    /// is left to run out.
    pub drain: Option<Duration>,
    /// Below 100 %, the others go first.
    pub priority: Percent,
    /// How the app is, as far as is known at the start; `None` where nobody looks.
    pub health: Option<AppHealth>,
    /// Seeds the jitter between retries.
    pub seed: u64,
}
