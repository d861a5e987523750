//! What every history is judged by, one a file.

#[path = "invariants/checkpoints.rs"]
mod checkpoints;
#[path = "invariants/epochs.rs"]
mod epochs;
#[path = "invariants/exclusion.rs"]
mod exclusion;
#[path = "invariants/liveness.rs"]
mod liveness;

pub use checkpoints::{Asked, Checkpoints};
pub use epochs::Epochs;
pub use exclusion::Exclusion;
pub use liveness::Liveness;

/// A violation in words.
pub type Verdict = Result<(), String>;
