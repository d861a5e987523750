//! Changes that count only once replicas have them: with `--redis-wait N` grants and
//! checkpoints, and grants always where the master itself asks for replicas.
//!
//! WAIT speaks of its own connection only, so that it goes over the connection that
//! made the change: one of its own, for it holds up whatever comes after it.

use std::time::Duration;

use super::access::Access;
use super::ways::Answered;
use crate::lease::StoreError;
use crate::time::Moment;

/// How late an idle Redis ends a WAIT: it looks at its clock ten times a second.
const LATE_BY: Duration = Duration::from_millis(100);

/// What a script changes, as far as replicas are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Grant,
    Checkpoint,
    Other,
}

impl Change {
    /// How many replicas must have it. `ensured`: what the master's own setting ensures.
    ///
    /// A master that was cut off from the promoted one takes writes until it has missed its
    /// replicas for `min-replicas-max-lag`. A lease may run out there meanwhile whose holder
    /// goes on at the promoted one. Whoever is granted it at the old master then must not
    /// count on that: a replica that is a master by now acknowledges nothing.
    pub(super) fn replicas(self, access: &Access, ensured: u8) -> u8 {
        match self {
            Self::Grant => access.wait.max(ensured),
            Self::Checkpoint => access.wait,
            Self::Other => 0,
        }
    }
}

/// How many replicas have a change, of how many that must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub have: u64,
    pub needed: u8,
    /// What asks for them.
    asked_by: &'static str,
}

impl Count {
    pub(super) fn is_enough(self) -> bool {
        self.have >= u64::from(self.needed)
    }

    /// In words, after what was done.
    pub(super) fn tell(self, address: &str) -> String {
        let Self {
            have,
            needed,
            asked_by,
        } = self;
        format!(
            "{have} of {needed} replicas of {address} ({asked_by} {needed}) acknowledged it in \
             time: bring replicas back, or lower {asked_by}"
        )
    }
}

/// Waits for replicas to have what `answered` changed. A quarter of the call's time is
/// left for what follows. `None` where it counts without any.
///
/// # Errors
/// `Indeterminate`: the change is made, and nobody knows who has it.
pub(super) async fn wait(
    change: Change,
    answered: &Answered,
    begun: Moment,
) -> Result<Option<Count>, StoreError> {
    let access = &answered.link.access;
    let needed = change.replicas(access, answered.live.ensured);
    if needed == 0 {
        return Ok(None);
    }
    let spent = access.clock.now().since(begun);
    let limit = (access.call_timeout * 3 / 4).saturating_sub(spent + LATE_BY);
    let limit = limit.max(access.call_timeout / 8);
    let have = answered
        .link
        .acknowledged(&answered.live, needed, limit)
        .await
        .map_err(|trouble| {
            StoreError::Indeterminate(format!(
                "the change is made, and how many replicas have it is not known: {}",
                trouble.error
            ))
        })?;
    let asked_by = if needed == access.wait {
        "--redis-wait"
    } else {
        "min-replicas-to-write"
    };
    Ok(Some(Count {
        have,
        needed,
        asked_by,
    }))
}
