//! What the members among themselves promise.

use std::time::Duration;

use crate::backend::{Answer, Guarantees, Scope};
use crate::quorum::Algorithm;

/// Beyond T(1+ρ), what a claim takes that is not the first: the probe's wait for a member
/// that is silent and not yet suspected, and a second try after split votes.
pub const EXPIRY_STEP: Duration = Duration::from_millis(500);

/// The promises of `bully` and `ring`: they differ in who asks, not in what is granted.
#[must_use]
pub fn guarantees(algorithm: Algorithm) -> Guarantees {
    Guarantees {
        kind: match algorithm {
            Algorithm::Bully => "bully",
            Algorithm::Ring => "ring",
        },
        scope: Scope::Network,
        epochs_never_repeat: Answer::If("fewer than half of the members lose their disks".into()),
        one_leader: Answer::Yes,
        one_leader_after_data_loss: Answer::If(
            "fewer than half of the members lose their disks, and no lost disk comes back".into(),
        ),
        survives_store_crash: Answer::Yes,
        wakes_followers: true,
        expiry_step: EXPIRY_STEP,
    }
}
