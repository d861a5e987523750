//! The only loop: drives one machine per election over one connection to a store.

mod abstention;
mod callbacks;
mod calls;
mod checkpoint;
mod driver;
mod election;
mod history;
mod metrics;
mod tally;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use abstention::Abstention;
pub use checkpoint::{CheckpointError, Condition};
pub use driver::Departure;
pub use election::{Election, Validation};
pub use history::Entry;
pub use metrics::{Delivery, Histogram, Metrics};
pub use watch::Watch;

use crate::backend::{Guarantees, Store};
use crate::lease::{ElectionName, Profile, SessionId, Timing};
use crate::machine::{Machine, Settings};
use crate::memory::{Memory, MemoryError, StateDir};
use crate::time::{BootClock, Clock};

/// Commands that may wait for the loop; it takes each in microseconds.
const COMMAND_BACKLOG: usize = 16;

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// The elections, at least one.
    pub elections: Vec<ElectionName>,
    /// What this node tells the others.
    pub profile: Profile,
    /// The durations of the lease.
    pub timing: Timing,
    /// Where the highest epoch seen is kept across restarts.
    pub state_dir: Option<PathBuf>,
    /// An app has to be stopped after each leadership, and [`Election::drained`] will be
    /// called then. On a voluntary step-down the lease is renewed for that long meanwhile;
    /// what drains for longer finds it running out.
    pub drain: Option<Duration>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// A node in one election, with nothing to drain, on the boot clock.
    #[must_use]
    pub fn new(election: ElectionName, profile: Profile, timing: Timing) -> Self {
        Self {
            elections: vec![election],
            profile,
            timing,
            state_dir: None,
            drain: None,
            clock: Arc::new(BootClock),
        }
    }
}

/// Why a sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The system.
    #[error("the system gives no random bytes for a session: {0}")]
    Random(#[from] getrandom::Error),
    /// The options.
    #[error("no election is named: name at least one")]
    NoElection,
}

/// A running node: its elections over one store.
pub struct Sidecar {
    store: Arc<dyn Store>,
    elections: Vec<Election>,
    loops: JoinSet<std::io::Result<()>>,
}

impl Sidecar {
    /// Joins the elections; each campaigns at once. Must be called inside a tokio
    /// runtime, which the election loops then run on.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started then.
    pub fn start(store: Arc<dyn Store>, options: &Options) -> Result<Self, StartError> {
        if options.elections.is_empty() {
            return Err(StartError::NoElection);
        }
        let dir = options
            .state_dir
            .as_deref()
            .map(StateDir::open)
            .transpose()?;
        let mut prepared = Vec::new();
        for name in &options.elections {
            let memory = Arc::new(Memory::load(dir.clone(), name)?);
            prepared.push((name, memory, SessionId::random()?));
        }
        let mut loops = JoinSet::new();
        let mut elections = Vec::new();
        for (name, memory, session) in prepared {
            let caller = calls::Caller {
                name: name.clone(),
                session,
                profile: options.profile.clone(),
                timing: options.timing,
                backend: store.election(name),
                memory,
                clock: Arc::clone(&options.clock),
                metrics: Arc::new(Metrics::new(options.clock.now())),
            };
            let (election, driver) = join(caller, options);
            loops.spawn(driver.run());
            elections.push(election);
        }
        Ok(Self {
            store,
            elections,
            loops,
        })
    }

    /// The elections, in the order of the options.
    #[must_use]
    pub fn elections(&self) -> &[Election] {
        &self.elections
    }

    /// What the store promises.
    #[must_use]
    pub fn guarantees(&self) -> Guarantees {
        self.store.guarantees()
    }

    /// Where the store is, for people.
    #[must_use]
    pub fn store_address(&self) -> String {
        self.store.address()
    }

    /// Leaves every election in order: not leader, app drained, lease released.
    /// Takes as long as the app drains, and then at most a few calls.
    pub async fn stop(mut self) {
        for election in &self.elections {
            election.stop().await;
        }
        while self.loops.join_next().await.is_some() {}
    }
}

impl Drop for Sidecar {
    /// Without [`Sidecar::stop`] the loops end when the last handle is gone.
    fn drop(&mut self) {
        self.loops.detach_all();
    }
}

fn join(caller: calls::Caller, options: &Options) -> (Election, driver::Driver) {
    let settings = Settings {
        node: options.profile.node.clone(),
        timing: options.timing,
        drain: options.drain,
        seed: fastrand::u64(..),
    };
    let machine = Machine::new(settings, caller.memory.epoch());
    let (publish, snapshots) = tokio::sync::watch::channel(Arc::new(machine.snapshot().clone()));
    let (send, commands) = mpsc::channel(COMMAND_BACKLOG);
    let (abstain, abstentions) = tokio::sync::watch::channel(abstention::Abstentions::default());
    let history = Arc::new(history::History::default());
    let last_turn = Arc::new(AtomicU64::new(options.clock.now().as_nanos()));
    let driver = driver::Driver {
        clock: Arc::clone(&options.clock),
        machine,
        caller: caller.clone(),
        hints: caller.backend.changes(),
        commands,
        abstentions,
        snapshots: publish,
        history: Arc::clone(&history),
        last_turn: Arc::clone(&last_turn),
        turn_every: options.timing.ttl() / 2,
    };
    let election = Election::new(election::Shared {
        caller,
        clock: Arc::clone(&options.clock),
        snapshots,
        commands: send,
        abstentions: abstain,
        history,
        last_turn,
        last_known: election::LastKnown::default(),
    });
    (election, driver)
}
