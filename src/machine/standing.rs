//! How fit a node is to lead, and how long it lets fitter ones go first.

use std::time::Duration;

use serde::Serialize;

/// A whole number from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Percent(u8);

impl Percent {
    /// All of it.
    pub const FULL: Self = Self(100);
    /// None of it.
    pub const NONE: Self = Self(0);

    /// `None` above 100.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number > 100 {
            return None;
        }
        Some(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    const fn missing(self) -> u32 {
        100 - self.0 as u32
    }
}

/// How the app beside this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AppHealth {
    /// Whether it may lead. False too while it has not been heard of.
    pub healthy: bool,
    /// How well it would, among the healthy ones.
    pub score: Percent,
}

impl AppHealth {
    /// Nothing has been heard of the app, or nothing good.
    pub const UNFIT: Self = Self {
        healthy: false,
        score: Percent::NONE,
    };

    /// Healthy, and that well.
    #[must_use]
    pub const fn fit(score: Percent) -> Self {
        Self {
            healthy: true,
            score,
        }
    }

    /// A score that moves by less than this is not told as an event: a load average
    /// would fill the history.
    const WORTH_TELLING: u8 = 10;

    pub(super) fn differs_from(self, told: Option<Self>) -> bool {
        told.is_none_or(|told| {
            told.healthy != self.healthy
                || told.score.0.abs_diff(self.score.0) >= Self::WORTH_TELLING
        })
    }
}

/// How long a node waits before it asks for a lease that is free: for what its priority
/// and its app's score lack, together at most one call timeout.
///
/// A delay is manners, not protocol: whoever asks first is granted, and nothing of a
/// lease's safety rests on it.
#[must_use]
pub fn campaign_delay(
    priority: Percent,
    health: Option<AppHealth>,
    call_timeout: Duration,
) -> Duration {
    let score = health.map_or(Percent::FULL, |health| health.score);
    let missing = (priority.missing() + score.missing()).min(100);
    call_timeout * missing / 100
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_adds_up_to_one_call_at_most() {
        let percent = |number| Percent::new(number).unwrap();
        let second = Duration::from_secs(1);
        let delay = |priority, score: Option<u8>| {
            let health = score.map(|score| AppHealth::fit(percent(score)));
            campaign_delay(percent(priority), health, second)
        };
        assert_eq!(delay(100, None), Duration::ZERO);
        assert_eq!(delay(100, Some(100)), Duration::ZERO);
        assert_eq!(delay(70, None), second * 3 / 10);
        assert_eq!(delay(70, Some(50)), second * 8 / 10);
        assert_eq!(delay(0, None), second);
        assert_eq!(delay(10, Some(0)), second);
        assert_eq!(Percent::new(101), None);
    }
}
