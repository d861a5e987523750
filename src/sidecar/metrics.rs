//! What an election counts, from its start. Plain numbers: the API gives them the form
//! that Prometheus reads, and what can be told from a snapshot is not kept here.
//!
//! Every label's values are there from the start, at zero, on followers too: a series
//! that appears with its first event hides that event from a rate.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::checkpoint::CheckpointError;
use super::deliveries::Deliveries;
use super::election::Validation;
use super::tally::Tally;
use crate::lease::{Renewed, Revision, StoreError, Validity};
use crate::machine::{Reason, Snapshot, State, Transition};
use crate::time::Moment;

/// The transitions that the machine makes. Another one is counted all the same; its
/// series then begins late.
const TRANSITIONS: [(Reason, &[State]); 15] = {
    use State::{Candidate, Follower, Leader, Starting, SteppingDown, Stopping};
    const AFTERWARDS: &[State] = &[Candidate, Follower, Stopping];
    const ANY: &[State] = &[
        Starting,
        Follower,
        Candidate,
        Leader,
        SteppingDown,
        Stopping,
    ];
    [
        (Reason::Won, &[Leader]),
        (Reason::Expired, AFTERWARDS),
        (Reason::Revoked, AFTERWARDS),
        (Reason::StepDown, &[SteppingDown]),
        (Reason::AppEnded, &[SteppingDown]),
        (Reason::Unhealthy, ANY),
        (Reason::Healthy, ANY),
        (Reason::ScoreChanged, ANY),
        (Reason::Shutdown, &[Stopping]),
        (Reason::Released, AFTERWARDS),
        (Reason::ReleaseFailed, AFTERWARDS),
        (Reason::LeaderSeen, &[Follower, Stopping]),
        (Reason::LeaderGone, &[Candidate, Stopping]),
        (Reason::StoreAnswered, ANY),
        (Reason::StoreTrouble, ANY),
    ]
};
const RENEWALS: [&str; 5] = ["kept", "lost", "unavailable", "unknown", "refused"];
const FENCE_CHECKS: [&str; 5] = ["current", "stale", "unknown", "no_leader", "unavailable"];
const CHECKPOINT_WRITES: [&str; 7] = [
    "written",
    "stale",
    "mismatch",
    "lost",
    "too_large",
    "not_applied",
    "unknown",
];
/// The numbers of one election.
#[derive(Debug)]
pub struct Metrics {
    transitions: Counts<2>,
    renewals: Counts<1>,
    renewal_seconds: Histogram,
    fence_checks: Counts<1>,
    checkpoint_writes: Counts<1>,
    deliveries: Deliveries,
    tally: Mutex<Tally>,
}

impl Metrics {
    pub(super) fn new(now: Moment) -> Self {
        let transitions = TRANSITIONS
            .iter()
            .flat_map(|(reason, states)| states.iter().map(|to| [to.as_str(), reason.as_str()]));
        Self {
            transitions: Counts::new(transitions),
            renewals: Counts::new(RENEWALS.map(|result| [result])),
            renewal_seconds: Histogram::default(),
            fence_checks: Counts::new(FENCE_CHECKS.map(|result| [result])),
            checkpoint_writes: Counts::new(CHECKPOINT_WRITES.map(|result| [result])),
            deliveries: Deliveries::default(),
            tally: Mutex::new(Tally::new(now)),
        }
    }

    /// The loop has turned, and this is what it knows from now on.
    pub(super) fn turned(&self, now: Moment, snapshot: &Snapshot) {
        self.tally().turn(now, snapshot);
    }

    pub(super) fn transition(&self, transition: &Transition) {
        let labels = [transition.to.as_str(), transition.reason.as_str()];
        self.transitions.add(labels);
    }

    pub(super) fn renewal(&self, answer: &Result<Renewed, StoreError>, took: Duration) {
        self.renewals.add([match answer {
            Ok(Renewed::Kept { .. }) => "kept",
            Ok(Renewed::Lost(_)) => "lost",
            Err(StoreError::Unavailable(_)) => "unavailable",
            Err(StoreError::Indeterminate(_)) => "unknown",
            Err(_) => "refused",
        }]);
        self.renewal_seconds.observe(took);
    }

    pub(super) fn fence_check(&self, answer: &Result<Validation, StoreError>) {
        self.fence_checks.add([match answer {
            Err(_) => "unavailable",
            Ok(validation) => match validation.validity {
                Validity::Current => "current",
                Validity::Stale => "stale",
                Validity::Unknown => "unknown",
                Validity::NoLeader => "no_leader",
            },
        }]);
    }

    pub(super) fn checkpoint_write(&self, answer: &Result<Revision, CheckpointError>) {
        self.checkpoint_writes.add([match answer {
            Ok(_) => "written",
            Err(CheckpointError::Stale { .. }) => "stale",
            Err(CheckpointError::Mismatch { .. }) => "mismatch",
            Err(CheckpointError::Lost { .. }) => "lost",
            Err(CheckpointError::TooLarge(_)) => "too_large",
            Err(CheckpointError::Store(error)) if error.may_have_happened() => "unknown",
            Err(CheckpointError::Store(_)) => "not_applied",
        }]);
    }

    /// Transitions by state afterwards and reason.
    #[must_use]
    pub fn transitions(&self) -> Vec<([&'static str; 2], u64)> {
        self.transitions.all()
    }

    /// Renewals by result.
    #[must_use]
    pub fn renewals(&self) -> Vec<([&'static str; 1], u64)> {
        self.renewals.all()
    }

    /// How long renewals took, whatever their result.
    #[must_use]
    pub fn renewal_seconds(&self) -> &Histogram {
        &self.renewal_seconds
    }

    /// Validations of tokens by result.
    #[must_use]
    pub fn fence_checks(&self) -> Vec<([&'static str; 1], u64)> {
        self.fence_checks.all()
    }

    /// Writes of the checkpoint by result.
    #[must_use]
    pub fn checkpoint_writes(&self) -> Vec<([&'static str; 1], u64)> {
        self.checkpoint_writes.all()
    }

    /// How the calls of the app's hook went.
    #[must_use]
    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// For how long this node has led by `now`.
    #[must_use]
    pub fn leadership(&self, now: Moment) -> Duration {
        self.tally().led_by(now)
    }

    /// For how long by `now` this node knew of nobody that leads.
    #[must_use]
    pub fn leaderless(&self, now: Moment) -> Duration {
        self.tally().leaderless_by(now)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters that differ in their labels' values. Held for an addition or a copy, never
/// across a wait.
#[derive(Debug)]
struct Counts<const LABELS: usize>(Mutex<BTreeMap<[&'static str; LABELS], u64>>);

impl<const LABELS: usize> Counts<LABELS> {
    fn new(series: impl IntoIterator<Item = [&'static str; LABELS]>) -> Self {
        let zero = series.into_iter().map(|labels| (labels, 0));
        Self(Mutex::new(zero.collect()))
    }

    fn add(&self, labels: [&'static str; LABELS]) {
        *self.lock().entry(labels).or_default() += 1;
    }

    fn all(&self) -> Vec<([&'static str; LABELS], u64)> {
        let counts = self.lock();
        counts
            .iter()
            .map(|(labels, count)| (*labels, *count))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[&'static str; LABELS], u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The upper bounds of a histogram's buckets, in seconds: from a call within one
/// machine to the longest call timeout that is usual.
const BOUNDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// How long something took.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one is for what took longer than every bound.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = self.counts.get(place.unwrap_or(BOUNDS.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Each bound in seconds, and how many took so long, but longer than the bound
    /// before it. The last bound is infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        bounds.zip(counts).collect()
    }

    /// The sum of all, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_there_before_anything_happens_and_none_is_lost() {
        let metrics = Metrics::new(Moment::from_millis(0));
        let transitions = metrics.transitions();
        assert!(transitions.len() > 25);
        assert!(transitions.iter().all(|(_, count)| *count == 0));
        metrics.transitions.add(["leader", "something_new"]);
        let all = metrics.transitions();
        assert!(all.contains(&(["leader", "something_new"], 1)));
    }

    #[test]
    fn a_duration_falls_into_its_bucket() {
        let histogram = Histogram::default();
        for micros in [100, 101, 999_999, 1_000_000, 60_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let buckets = histogram.buckets();
        let of = |bound: f64| buckets.iter().find(|(at, _)| *at == bound).map(|it| it.1);
        assert_eq!(of(0.000_1), Some(1));
        assert_eq!(of(0.000_25), Some(1));
        assert_eq!(of(1.0), Some(2));
        assert_eq!(of(f64::INFINITY), Some(1));
        assert!((histogram.sum() - 62.0002).abs() < 1e-6);
    }
}
