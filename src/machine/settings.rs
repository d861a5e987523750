//! What a machine is told once, at its start.

use crate::lease::{NodeId, Timing};

/// What a machine is told once, at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's label, to notice another process that bears it.
    pub node: NodeId,
    /// The durations of the lease.
    pub timing: Timing,
    /// An app has to be stopped after leadership; the shell says `Drained` then.
    pub drains: bool,
    /// Seeds the jitter between retries.
    pub seed: u64,
}
