//! The number of one tenure. The literature calls the same number a *term* when
//! it orders leaders and a *fencing token* when a resource compares it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::UnixMs;

/// One tenure's number: 1 to 2^53−1, so that JavaScript and a Redis script, whose
/// numbers are doubles, read it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Epoch(u64);

/// Why a number is no epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// Outside 1..=2^53−1.
    #[error("epoch {0} is out of range: an epoch is a whole number from 1 to 9007199254740991")]
    OutOfRange(u64),
    /// Not a decimal number.
    #[error("\"{0}\" is no epoch: an epoch is a whole number from 1 to 9007199254740991")]
    NotANumber(String),
    /// There is no epoch after the last one.
    #[error("epoch 9007199254740991 is the last; this election needs a new name")]
    Exhausted,
}

impl Epoch {
    /// The highest epoch, 2^53−1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The epoch of that number.
    ///
    /// # Errors
    /// Where it is 0 or above 2^53−1.
    pub const fn new(number: u64) -> Result<Self, EpochError> {
        if number == 0 || number > Self::MAX.0 {
            return Err(EpochError::OutOfRange(number));
        }
        Ok(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one rule for the next epoch, in every store that has no durable memory
    /// of its own: above what the store knows, above what the bidder has seen, and
    /// not below the clock in milliseconds, so that a wiped store asked by nodes
    /// without memory does not begin again at 1.
    ///
    /// # Errors
    /// Where the range is used up.
    pub fn next(
        stored: Option<Self>,
        floor: Option<Self>,
        clock: UnixMs,
    ) -> Result<Self, EpochError> {
        let above = |epoch: Option<Self>| epoch.map_or(1, |epoch| epoch.0 + 1);
        let clock = clock.0.min(Self::MAX.0);
        let next = above(stored).max(above(floor)).max(clock);
        Self::new(next).map_err(|_| EpochError::Exhausted)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Epoch {
    type Err = EpochError;

    /// Digits only: `+5`, ` 5`, `5.0` and `1e3` are refused.
    fn from_str(text: &str) -> Result<Self, EpochError> {
        let wrong = || EpochError::NotANumber(text.chars().take(40).collect());
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        text.parse().map_err(|_| wrong()).and_then(Self::new)
    }
}

impl TryFrom<u64> for Epoch {
    type Error = EpochError;
    fn try_from(number: u64) -> Result<Self, EpochError> {
        Self::new(number)
    }
}

impl From<Epoch> for u64 {
    fn from(epoch: Epoch) -> Self {
        epoch.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_range_ends_where_a_double_stops_counting() {
        assert_eq!(Epoch::new(0), Err(EpochError::OutOfRange(0)));
        assert!(Epoch::new((1 << 53) - 1).is_ok());
        assert!(Epoch::new(1 << 53).is_err());
        assert_eq!(
            Epoch::next(Some(Epoch::MAX), None, UnixMs(0)),
            Err(EpochError::Exhausted)
        );
    }

    #[test]
    fn the_next_is_above_store_floor_and_clock() {
        let epoch = |number| Some(Epoch::new(number).unwrap());
        let next = |stored, floor, clock| Epoch::next(stored, floor, UnixMs(clock)).unwrap().get();
        assert_eq!(next(None, None, 0), 1);
        assert_eq!(next(epoch(7), None, 3), 8);
        assert_eq!(next(epoch(7), epoch(9), 3), 10);
        assert_eq!(next(epoch(7), epoch(9), 1_000), 1_000);
        assert_eq!(next(epoch(1_000), None, 1_000), 1_001);
    }

    #[test]
    fn only_plain_digits_are_a_token() {
        for bad in [
            "",
            " 5",
            "+5",
            "-5",
            "5.0",
            "1e3",
            "0x5",
            "5 ",
            "0",
            "9007199254740992",
            "99999999999999999999999",
        ] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad:?} was taken");
        }
        assert_eq!("42".parse::<Epoch>().unwrap().get(), 42);
        assert!("10".parse::<Epoch>().unwrap() > "9".parse::<Epoch>().unwrap());
    }
}
