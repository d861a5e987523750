//! A store's clock beside this machine's: how far the one has moved against the other.

use std::sync::{Mutex, PoisonError};

use crate::time::{Moment, UnixMs};

/// Follows a store's wall clock by what its answers say. A step of that clock, or
/// another server with another clock, shows; a common drift grows slowly.
#[derive(Debug, Default)]
pub struct StoreClock(Mutex<Option<Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: (Moment, UnixMs),
    step_ms: i64,
}

impl StoreClock {
    /// An answer that came at `now` was written when the store's clock said `store`.
    pub fn saw(&self, now: Moment, store: UnixMs) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, store_began) = seen.map_or((now, store), |seen| seen.first);
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let theirs = signed(store.0).saturating_sub(signed(store_began.0));
        let ours = signed(now.as_millis()).saturating_sub(signed(began.as_millis()));
        *seen = Some(Seen {
            first: (began, store_began),
            step_ms: theirs.saturating_sub(ours),
        });
    }

    /// By how many milliseconds the store's clock has moved further than this
    /// machine's since its first answer.
    #[must_use]
    pub fn step_ms(&self) -> i64 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map_or(0, |seen| seen.step_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_store_moves_beyond_this_machine_is_a_step() {
        let clock = StoreClock::default();
        assert_eq!(clock.step_ms(), 0);
        clock.saw(Moment::from_millis(50), UnixMs(1_000_000));
        assert_eq!(clock.step_ms(), 0);
        clock.saw(Moment::from_millis(5_050), UnixMs(1_005_000));
        assert_eq!(clock.step_ms(), 0);
        clock.saw(Moment::from_millis(6_050), UnixMs(966_000));
        assert_eq!(clock.step_ms(), -40_000);
        clock.saw(Moment::from_millis(7_050), UnixMs(1_007_000));
        assert_eq!(clock.step_ms(), 0);
    }
}
