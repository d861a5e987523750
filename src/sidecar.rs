//! The only loop: drives one machine per election over one connection to a store.

mod abstention;
mod callbacks;
mod calls;
mod checkpoint;
mod deliveries;
mod drain;
mod driver;
mod election;
mod events;
mod heartbeat;
mod history;
mod metrics;
mod published;
mod tally;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch::{Receiver, channel};
use tokio::task::JoinSet;

pub use abstention::Abstention;
pub use checkpoint::{CheckpointError, Condition};
pub use deliveries::{Deliveries, Outcome};
pub use drain::Part;
pub use driver::Departure;
pub use election::{Election, Validation};
pub use events::{Events, EventsEnd};
pub use history::Entry;
pub use metrics::{Histogram, Metrics};
pub use watch::Watch;

use crate::backend::{Guarantees, Membership, Store};
use crate::lease::{ElectionName, Profile, SessionId, Timing};
use crate::machine::{AppHealth, Machine, Percent, Settings};
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
    /// Below 100 %, the others go first: each time that the lease is free this node waits
    /// for what is missing of a call timeout.
    pub priority: Percent,
    /// Somebody looks how the app is and calls [`Election::set_health`]; until then this
    /// node is no candidate.
    pub has_health: bool,
    /// While every election loop turns, [`Sidecar::heartbeat`] changes this often, at
    /// least.
    pub heartbeat: Option<Duration>,
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
            priority: Percent::FULL,
            has_health: false,
            heartbeat: None,
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
    heart: Option<Arc<heartbeat::Heart>>,
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
        let heart = options.heartbeat.map(|every| {
            let count = prepared.len();
            Arc::new(heartbeat::Heart::new(count, every, options.clock.now()))
        });
        let app_requests = Arc::new(Semaphore::new(calls::APP_REQUESTS));
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
                app_requests: Arc::clone(&app_requests),
            };
            let pulse = heart.clone().map(|heart| driver::Pulse {
                heart,
                which: elections.len(),
            });
            let (election, driver) = join(caller, options, pulse);
            loops.spawn(driver.run());
            elections.push(election);
        }
        Ok(Self {
            store,
            elections,
            heart,
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

    /// Who the members are, where the store is the sidecars themselves.
    #[must_use]
    pub fn membership(&self) -> Membership {
        self.store.membership()
    }

    /// Where the store is, for people.
    #[must_use]
    pub fn store_address(&self) -> String {
        self.store.address()
    }

    /// A number that changes while every election loop turns, and only then: the loops'
    /// own turns change it, no timer beside them. For a watchdog. `None` where the options
    /// ask for none.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Receiver<u64>> {
        self.heart.as_ref().map(|heart| heart.beats())
    }

    /// Leaves every election in order: not leader, app drained, lease released.
    /// Takes as long as the app drains, and then at most a few calls.
    pub async fn stop(mut self) {
        for election in &self.elections {
            election.stop().await;
        }
        while self.loops.join_next().await.is_some() {}
        self.store.leave().await;
    }
}

impl Drop for Sidecar {
    /// Without [`Sidecar::stop`] the loops end when the last handle is gone.
    fn drop(&mut self) {
        self.loops.detach_all();
    }
}

fn join(
    caller: calls::Caller,
    options: &Options,
    pulse: Option<driver::Pulse>,
) -> (Election, driver::Driver) {
    let health = options.has_health.then_some(AppHealth::UNFIT);
    let settings = Settings {
        node: options.profile.node.clone(),
        timing: options.timing,
        drain: options.drain,
        priority: options.priority,
        health,
        seed: fastrand::u64(..),
    };
    let machine = Machine::new(settings, caller.memory.epoch());
    let (publish, snapshots) = channel(Arc::new(machine.snapshot().clone()));
    let (send, commands) = mpsc::channel(COMMAND_BACKLOG);
    let (abstain, abstentions) = channel(abstention::Abstentions::default());
    let (tell_health, told_health) = channel(health);
    let history = Arc::new(history::History::of(options.profile.node.clone()));
    let last_turn = Arc::new(AtomicU64::new(options.clock.now().as_nanos()));
    let turn_every = options.timing.ttl() / 2;
    let driver = driver::Driver {
        clock: Arc::clone(&options.clock),
        machine,
        caller: caller.clone(),
        hints: caller.backend.changes(),
        commands,
        abstentions,
        health: told_health,
        snapshots: publish,
        history: Arc::clone(&history),
        last_turn: Arc::clone(&last_turn),
        turn_every: pulse
            .as_ref()
            .map_or(turn_every, |pulse| turn_every.min(pulse.heart.turn_every())),
        pulse,
    };
    let election = Election::new(election::Shared {
        caller,
        published: published::Published {
            snapshots,
            clock: Arc::clone(&options.clock),
            history,
        },
        commands: send,
        abstentions: abstain,
        health: tell_health,
        priority: options.priority,
        last_turn,
        last_known: election::LastKnown::default(),
    });
    (election, driver)
}
