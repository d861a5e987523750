//! A handle on one election: what the HTTP API and an embedding app hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::abstention::{Abstention, Abstentions};
use super::calls::Caller;
use super::driver::{Command, Departure};
use super::events::Events;
use super::history::{Entry, Next};
use super::metrics::Metrics;
use super::published::Published;
use super::watch::Watch;
use crate::lease::{ElectionName, Epoch, NodeId, Profile, Revision, StoreError, Timing, Validity};
use crate::machine::{AppHealth, Percent, Snapshot, campaign_delay};
use crate::time::{Clock, Moment, UnixMs};

/// One election that this process takes part in. Cheap to clone; when the last
/// handle and its [`Sidecar`](super::Sidecar) are gone, leadership is given back.
#[derive(Clone)]
pub struct Election {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub caller: Caller,
    pub published: Published,
    pub commands: mpsc::Sender<Command>,
    pub abstentions: watch::Sender<Abstentions>,
    pub health: watch::Sender<Option<AppHealth>>,
    pub priority: Percent,
    pub last_turn: Arc<AtomicU64>,
    pub last_known: LastKnown,
}

/// What the sidecar knows of the stored revision, and under which epoch it read it.
#[derive(Debug, Default)]
pub(super) struct LastKnown {
    pub known: Mutex<Option<(Epoch, Option<Revision>)>>,
}

/// What the store says of a token, beside what it says of the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validation {
    /// What the token is worth.
    pub validity: Validity,
    /// The newest epoch.
    pub current: Option<Epoch>,
}

impl Election {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The election's name.
    #[must_use]
    pub fn name(&self) -> &ElectionName {
        &self.shared.caller.name
    }

    /// What this node tells the others about itself.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.shared.caller.profile
    }

    /// The durations of the lease.
    #[must_use]
    pub fn timing(&self) -> &Timing {
        &self.shared.caller.timing
    }

    /// The clock that this election's moments are read from.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.published.clock
    }

    /// What this node knows, as of now: nothing in it has run out.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::clone(&self.now().0)
    }

    /// What this node knows, and the moment that this is true of. Revisions read this
    /// way never fall.
    #[must_use]
    pub fn now(&self) -> (Arc<Snapshot>, Moment) {
        self.shared.published.now()
    }

    /// Whether this node leads now. Ask again before each act; the answer ages.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.fence_token().is_some()
    }

    /// The token to write with, while this node leads.
    #[must_use]
    pub fn fence_token(&self) -> Option<Epoch> {
        let snapshot = Arc::clone(&self.shared.published.snapshots.borrow());
        // Read after the snapshot was: a moment before would be judged too kindly.
        snapshot.fence_token(self.shared.published.clock.now())
    }

    /// Follows the election.
    ///
    /// # Errors
    /// Where the process has no file descriptor left for a timer.
    pub fn watch(&self) -> std::io::Result<Watch> {
        Watch::new(self.shared.published.clone())
    }

    /// Follows the election event by event, from the one after `revision`; that must be
    /// a revision which this election has had.
    ///
    /// # Errors
    /// Where the process has no file descriptor left for a timer.
    pub fn events(&self, revision: u64) -> std::io::Result<Events> {
        let history = Arc::clone(&self.shared.published.history);
        Ok(Events::new(self.watch()?, history, revision))
    }

    /// Whether the history tells of everything that followed a revision, which must
    /// have been.
    #[must_use]
    pub fn remembers_since(&self, revision: u64) -> bool {
        let (snapshot, _) = self.now();
        let next = self.shared.published.history.next(revision);
        revision <= snapshot.revision && !matches!(next, Next::Forgotten)
    }

    /// The last transitions, newest first.
    #[must_use]
    pub fn history(&self) -> Vec<Entry> {
        // What has run out unnoticed belongs to it.
        let _ = self.now();
        self.shared.published.history.newest_first()
    }

    /// When this node won its newest epoch, by its wall clock of that moment: the same
    /// at every reading, which a difference of two clocks is not.
    #[must_use]
    pub fn won_at(&self, epoch: Epoch) -> Option<UnixMs> {
        self.shared.published.history.won_at(epoch)
    }

    /// By how many milliseconds the store's clock has moved further than this
    /// machine's since its first answer.
    #[must_use]
    pub fn store_clock_step_ms(&self) -> i64 {
        self.shared.caller.backend.clock_step_ms()
    }

    /// The other members, where the store is the sidecars themselves.
    #[must_use]
    pub fn peers(&self) -> Option<crate::backend::PeerCount> {
        self.shared.caller.backend.peers()
    }

    /// How far the log is, where the members keep one.
    #[must_use]
    pub fn log(&self) -> Option<crate::cluster::LogStatus> {
        self.shared.caller.backend.log()
    }

    /// What this election has counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.caller.metrics
    }

    /// When the election loop last turned.
    #[must_use]
    pub fn last_turn(&self) -> Moment {
        Moment::from_nanos(self.shared.last_turn.load(Ordering::Acquire))
    }

    /// Gives leadership up: not leader at once, then the app drains, then the lease
    /// is released. For `cooldown` this node campaigns last; `to` may try first.
    /// Returns when the lease is free, or is left to run out.
    pub async fn step_down(&self, cooldown: Duration, to: Option<NodeId>) -> Departure {
        let (reply, departure) = oneshot::channel();
        let command = Command::StepDown {
            cooldown,
            to,
            reply,
        };
        if self.shared.commands.send(command).await.is_err() {
            return Departure::NotLeader;
        }
        departure.await.unwrap_or(Departure::NotLeader)
    }

    /// Tells the election that the app that worked under this epoch is surely stopped.
    pub async fn drained(&self, epoch: Epoch) {
        // An election that has ended needs no telling.
        let _ = self.shared.commands.send(Command::Drained(epoch)).await;
    }

    /// Tells the election that the app that works under this epoch ends by itself:
    /// leadership is given up, for `cooldown` this node campaigns last, and the lease is
    /// released as soon as [`Self::drained`] says that nothing of the app is left.
    pub async fn app_ended(&self, epoch: Epoch, cooldown: Duration) {
        let command = Command::AppEnded { epoch, cooldown };
        let _ = self.shared.commands.send(command).await;
    }

    /// Tells the election that the app that works under this epoch is unfit and will be
    /// ended. The same follows, even where [`Self::set_health`] says by now that it is fit.
    pub async fn app_unfit(&self, epoch: Epoch, cooldown: Duration) {
        let command = Command::AppUnfit { epoch, cooldown };
        let _ = self.shared.commands.send(command).await;
    }

    /// Takes this node out of the candidates until the answer is dropped: it goes on
    /// watching who leads. A lease that it holds is not touched.
    #[must_use]
    pub fn abstain(&self, why: &'static str) -> Abstention {
        Abstention::begin(&self.shared.abstentions, why)
    }

    /// Why this node is no candidate; nothing where it is one.
    #[must_use]
    pub fn abstains(&self) -> Vec<&'static str> {
        self.shared.abstentions.borrow().reasons()
    }

    /// Tells the election how the app is: while it is not fit, this node gives leadership
    /// up and is no candidate; the lower its score, the longer the others go first.
    pub fn set_health(&self, health: AppHealth) {
        self.shared.health.send_if_modified(|told| {
            let news = *told != Some(health);
            *told = Some(health);
            news
        });
    }

    /// The longest that this node lets the others go first when the lease is free: all of
    /// a call where it has an app with a score, else what its priority lacks.
    #[must_use]
    pub fn largest_delay(&self) -> Duration {
        let health = *self.shared.health.borrow();
        let worst = health.map(|_| AppHealth::fit(Percent::NONE));
        campaign_delay(self.shared.priority, worst, self.timing().call_timeout())
    }

    /// What the election loop last published, to be judged with the clock: unlike
    /// [`Self::watch`], every renewal is a change here.
    pub(crate) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.published.snapshots.clone()
    }

    pub(super) async fn stop(&self) {
        let _ = self.shared.commands.send(Command::Stop).await;
    }

    /// Asks the store what a fencing token is worth. The answer is advisory: it may
    /// be outdated when it arrives. The protected resource must refuse lower tokens
    /// itself.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot confirm; never an answer from memory.
    pub async fn validate(&self, token: Epoch) -> Result<Validation, StoreError> {
        let answer = self.ask_worth(token).await;
        self.metrics().fence_check(&answer);
        answer
    }

    async fn ask_worth(&self, token: Epoch) -> Result<Validation, StoreError> {
        let caller = &self.shared.caller;
        let observed = caller.for_app(caller.backend.observe()).await?;
        if let Some(epoch) = observed.epoch {
            let seen = caller.memory.see_epoch(epoch).await;
            seen.map_err(|error| StoreError::Rejected(error.to_string()))?;
        }
        let floor = caller.memory.epoch();
        Ok(Validation {
            validity: observed.validate(token, floor),
            current: observed.epoch.max(floor),
        })
    }
}
