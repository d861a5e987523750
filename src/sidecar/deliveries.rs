//! How many calls of the app's hook there were, and how they went.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::machine::EventKind;

/// How one call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The app answered with 2xx.
    Delivered,
    /// It answered with something else.
    Rejected,
    /// It pointed elsewhere, which is not followed.
    Redirected,
    /// It did not answer in time.
    Timeout,
    /// There was no connection: the app has not heard of it.
    Unreachable,
    /// The connection broke, or what came was no HTTP.
    Broken,
    /// A newer state came first.
    Superseded,
}

impl Outcome {
    /// All of them, in the order of their counts.
    pub const ALL: [Self; 7] = [
        Self::Delivered,
        Self::Rejected,
        Self::Redirected,
        Self::Timeout,
        Self::Unreachable,
        Self::Broken,
        Self::Superseded,
    ];

    /// As the label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::Redirected => "redirected",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Superseded => "superseded",
        }
    }
}

/// The counts of one election's hook: every pair of event and outcome, from the start.
#[derive(Debug, Default)]
pub struct Deliveries([[AtomicU64; Outcome::ALL.len()]; EventKind::ALL.len()]);

impl Deliveries {
    pub(crate) fn count(&self, kind: EventKind, outcome: Outcome) {
        let row = self.0.get(kind as usize);
        if let Some(count) = row.and_then(|row| row.get(outcome as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many calls told of that event and went so.
    #[must_use]
    pub fn of(&self, kind: EventKind, outcome: Outcome) -> u64 {
        let row = self.0.get(kind as usize);
        let count = row.and_then(|row| row.get(outcome as usize));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Every count, with the labels of its metric: event and outcome.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        EventKind::ALL.into_iter().flat_map(move |kind| {
            Outcome::ALL
                .into_iter()
                .map(move |outcome| (kind.as_str(), outcome.as_str(), self.of(kind, outcome)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_there_from_the_start_and_counts_for_itself() {
        let deliveries = Deliveries::default();
        assert_eq!(deliveries.all().count(), 49);
        assert!(deliveries.all().all(|(_, _, count)| count == 0));
        for kind in EventKind::ALL {
            for outcome in Outcome::ALL {
                deliveries.count(kind, outcome);
            }
        }
        assert!(deliveries.all().all(|(_, _, count)| count == 1));
    }
}
