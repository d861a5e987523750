//! `--redis-wait N`: a grant and a checkpoint count only once N replicas have them.
//!
//! WAIT speaks of its own connection only, so that it goes over the connection that
//! made the change: one of its own, for it holds up whatever comes after it.

use std::time::Duration;

use super::ways::Answered;
use crate::lease::StoreError;
use crate::time::Moment;

/// How late an idle Redis ends a WAIT: it looks at its clock ten times a second.
const LATE_BY: Duration = Duration::from_millis(100);

/// How many replicas have a change, of how many that must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub have: u64,
    pub needed: u8,
}

impl Count {
    pub(super) fn is_enough(self) -> bool {
        self.have >= u64::from(self.needed)
    }

    /// In words, after what was done.
    pub(super) fn tell(self, address: &str) -> String {
        let Self { have, needed } = self;
        format!(
            "{have} of {needed} replicas of {address} (--redis-wait {needed}) acknowledged it in \
             time: bring replicas back, or lower --redis-wait"
        )
    }
}

/// Waits for replicas to have what `answered` changed. A quarter of the call's time is
/// left for what follows.
///
/// # Errors
/// `Indeterminate`: the change is made, and nobody knows who has it.
pub(super) async fn wait(answered: &Answered, begun: Moment) -> Result<Count, StoreError> {
    let access = &answered.link.access;
    let spent = access.clock.now().since(begun);
    let limit = (access.call_timeout * 3 / 4).saturating_sub(spent + LATE_BY);
    let limit = limit.max(access.call_timeout / 8);
    let have = answered
        .link
        .acknowledged(&answered.live, access.wait, limit)
        .await
        .map_err(|trouble| {
            StoreError::Indeterminate(format!(
                "the change is made, and how many replicas have it is not known: {}",
                trouble.error
            ))
        })?;
    Ok(Count {
        have,
        needed: access.wait,
    })
}
