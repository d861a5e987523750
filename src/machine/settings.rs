//! What a machine is told once, at its start.

use std::time::Duration;

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
    /// Seeds the jitter between retries.
    pub seed: u64,
}
