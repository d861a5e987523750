//! One test's surroundings: a fixture, an election, candidates and nodes, and the
//! record that is judged in the end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tenure::backend::{Hints, Store};
use tenure::lease::{Drift, ElectionName, Epoch, Hint, Timing};
use tenure::time::{BootClock, Clock as _, Moment, pause, within};

pub use crate::candidate::{Candidate, sure};
use crate::fault::Way;
use crate::fixture::{Backup, Fixture};
pub use crate::node::BOUND;
use crate::node::{Node, Start};
use crate::recorder::Recorder;

/// A lease that no test sees the end of.
pub const LONG: Duration = Duration::from_secs(60);
/// For calls that are expected to succeed; a loaded machine is slow.
pub const PATIENT: Duration = Duration::from_secs(10);
/// For calls that are expected to fail.
pub const CALL: Duration = Duration::from_millis(400);

/// What a store that counts whole milliseconds may take from a hold; a node asks for
/// that much more.
pub const ROUNDING: Duration = Duration::from_millis(2);

pub fn now() -> Moment {
    BootClock.now()
}

/// One test's surroundings.
#[derive(Clone)]
pub struct Bench {
    pub fixture: Arc<dyn Fixture>,
    pub election: ElectionName,
    pub recorder: Arc<Recorder>,
}

impl Bench {
    pub async fn start<F: Fixture>(item: &str) -> Self {
        let salt = fastrand::u32(..);
        Self {
            fixture: Arc::new(F::start().await),
            election: format!("{item}-{salt:x}").parse().unwrap(),
            recorder: Arc::default(),
        }
    }

    /// Another election in the same store, with a record of its own.
    pub fn other_election(&self, name: &str) -> Self {
        Self {
            fixture: Arc::clone(&self.fixture),
            election: format!("{}.{name}", self.election).parse().unwrap(),
            recorder: Arc::default(),
        }
    }

    /// What must hold over every history.
    pub fn judge(&self) {
        self.recorder.check();
    }

    /// Waits for the next millisecond of the wall clock. It numbers the tenures of a
    /// store that has lost everything, so a loss right after a grant, faster than any
    /// operator or restart, is beyond what is promised.
    pub async fn tick(&self) {
        let before = BootClock.wall();
        while BootClock.wall() <= before {
            pause(Duration::from_millis(1)).await;
        }
    }

    pub async fn wipe(&self) {
        self.tick().await;
        self.fixture.wipe(&self.election).await;
    }

    pub async fn restore(&self, backup: &Backup) {
        self.tick().await;
        self.fixture.restore(&self.election, backup).await;
    }

    pub async fn restart(&self, keep_data: bool) {
        self.tick().await;
        self.fixture.restart(&self.election, keep_data).await;
    }

    /// A candidate over a connection of its own.
    pub async fn candidate(&self, node: &str) -> Candidate {
        let store = self.fixture.store(PATIENT).await;
        self.candidate_on(&*store, node)
    }

    /// A candidate over a way that can fail.
    pub async fn faulty_candidate(&self, node: &str) -> (Candidate, Arc<dyn Way>) {
        self.faulty_candidate_with(node, CALL).await
    }

    pub async fn faulty_candidate_with(
        &self,
        node: &str,
        call: Duration,
    ) -> (Candidate, Arc<dyn Way>) {
        let (store, way) = self.fixture.faulty_store(call).await;
        let candidate = self.candidate_on(&*store, node);
        candidate.reached().await;
        (candidate, way)
    }

    pub fn candidate_on(&self, store: &dyn Store, node: &str) -> Candidate {
        let backend = store.election(&self.election);
        Candidate::new(backend, node, Arc::clone(&self.recorder))
    }

    /// For a call of which the last answer alone is lost. Where there are others before it,
    /// a test sees what they did and changes the way in between: a loaded machine must not
    /// be too slow for that.
    pub fn call_with_its_last_answer_lost(&self) -> Duration {
        match self.fixture.round_trips() {
            1 => CALL,
            _ => CALL * 8,
        }
    }

    /// Timing of a node whose lease a test lets run out.
    pub fn timing(&self) -> Timing {
        let ttl = self.fixture.node_ttl();
        Timing::new(ttl, ttl / 4, CALL, Duration::ZERO, Drift::ONE_PERCENT).unwrap()
    }

    /// The same for one whose answers are late. Where a grant takes several, the time between
    /// them must not be less than a loaded machine needs.
    pub fn timing_for_late_answers(&self) -> Timing {
        let ttl = self.fixture.node_ttl();
        let (ttl, call) = match self.fixture.round_trips() {
            1 => (ttl, CALL),
            _ => (ttl * 2, CALL * 6),
        };
        Timing::new(ttl, ttl / 4, call, Duration::ZERO, Drift::ONE_PERCENT).unwrap()
    }

    /// Timing of a node whose lease no test sees the end of.
    pub fn calm(&self) -> Timing {
        Timing::new(LONG, LONG / 3, PATIENT, Duration::ZERO, Drift::ONE_PERCENT).unwrap()
    }

    /// A node over a connection of its own.
    pub async fn node(&self, id: &str, timing: Timing) -> Node {
        let store = self.fixture.store(timing.call_timeout()).await;
        self.node_on(&*store, id, timing, None)
    }

    pub fn node_on(
        &self,
        store: &dyn Store,
        id: &str,
        timing: Timing,
        floor: Option<Epoch>,
    ) -> Node {
        Node::start(Start {
            id: id.parse().unwrap(),
            backend: store.election(&self.election),
            timing,
            floor,
            recorder: Arc::clone(&self.recorder),
        })
    }
}

/// The next hint.
pub async fn next(hints: &mut Hints) -> Hint {
    within(BOUND, hints.next())
        .await
        .expect("no hint came")
        .expect("the stream ended")
}

/// The next hint that is like that; what comes before it is dropped.
pub async fn hears(hints: &mut Hints, what: &str, like: impl Fn(&Hint) -> bool) -> Hint {
    let mut heard = Vec::new();
    let listen = async {
        loop {
            match hints.next().await {
                Some(hint) if like(&hint) => return hint,
                Some(hint) => heard.push(hint),
                None => panic!("the stream ended before {what}"),
            }
        }
    };
    match within(BOUND, listen).await {
        Some(hint) => hint,
        None => panic!("never heard {what}, only {heard:?}"),
    }
}
