//! What was seen, on one monotonic clock: the material of the oracle.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A moment, counted from the start of the history.
pub type At = Duration;

/// `epoch.seq`
pub type Revision = (u64, u64);

pub fn revision(text: &str) -> Option<Revision> {
    let (epoch, seq) = text.split_once('.')?;
    Some((epoch.parse().ok()?, seq.parse().ok()?))
}

/// One answer of `/status`.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub node: usize,
    /// Which start of that node.
    pub boot: String,
    pub sent: At,
    pub received: At,
    pub is_leader: bool,
    pub token: Option<u64>,
    pub term: Option<u64>,
    /// How long the lease still lasts, where it is known.
    pub left: Option<Duration>,
    pub leader: Option<String>,
    pub connected: bool,
    pub trouble: Option<String>,
    pub hold: Option<String>,
}

/// What became of a checkpoint write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Accepted(Revision),
    /// Surely not applied.
    Refused,
    /// It may have been applied.
    Unknown,
}

/// One checkpoint write.
#[derive(Clone, Debug)]
pub struct Write {
    pub node: usize,
    pub token: u64,
    /// The revision it was to replace.
    pub over: Option<Revision>,
    /// No two writes of a history have the same value.
    pub value: String,
    pub sent: At,
    pub received: At,
    pub fate: Fate,
}

/// One read of the checkpoint.
#[derive(Clone, Debug)]
pub struct Read {
    pub revision: Revision,
    pub value: String,
    pub sent: At,
    pub received: At,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub answers: Vec<Answer>,
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    /// When the store lost data that it does not claim to keep.
    pub losses: Vec<At>,
}

/// A history that grows.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    history: Mutex<History>,
    grown: Condvar,
    worst_stall: Mutex<Duration>,
}

impl Recorder {
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            history: Mutex::default(),
            grown: Condvar::new(),
            worst_stall: Mutex::default(),
        });
        let watched = Arc::downgrade(&shared);
        // How badly this machine stalls is measured, not guessed.
        std::thread::spawn(move || {
            let nap = Duration::from_millis(10);
            let mut before = Instant::now();
            while let Some(shared) = watched.upgrade() {
                std::thread::sleep(nap);
                let stall = before.elapsed().saturating_sub(nap);
                before = Instant::now();
                let mut worst = shared.worst_stall.lock().unwrap();
                *worst = stall.max(*worst);
            }
        });
        Self { shared }
    }

    pub fn now(&self) -> At {
        self.shared.began.elapsed()
    }

    /// What to allow for observing and for a busy machine.
    pub fn allowance(&self) -> Duration {
        Duration::from_millis(250) + self.stalls()
    }

    /// What to allow for a busy machine where a bound is wide enough to observe.
    pub fn stalls(&self) -> Duration {
        *self.shared.worst_stall.lock().unwrap() * 4
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.shared.history.lock().unwrap()
    }

    pub fn add(&self, change: impl FnOnce(&mut History)) {
        change(&mut self.history());
        self.shared.grown.notify_all();
    }

    /// Waits until `found` finds something in the history.
    pub fn wait<T>(
        &self,
        what: &str,
        bound: Duration,
        mut found: impl FnMut(&History) -> Option<T>,
    ) -> T {
        let until = Instant::now() + bound;
        let mut history = self.history();
        loop {
            if let Some(found) = found(&history) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last = history.answers.iter().rev().take(12);
                let last: Vec<_> = last.map(|answer| format!("{answer:?}")).collect();
                drop(history);
                panic!("not seen within {bound:?}: {what}; the last answers: {last:#?}");
            }
            history = self.shared.grown.wait_timeout(history, left).unwrap().0;
        }
    }
}
