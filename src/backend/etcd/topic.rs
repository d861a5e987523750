//! The changes of one election: one watch, spread to whoever listens.
//!
//! It runs while somebody listens. What it learns, with every read and every change of
//! one's own, is also the last known record: a guess to try a change from, which etcd
//! applies only where it is still true.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;

use super::change::range;
use super::client::Watch;
use super::keys::Keys;
use super::link::{Deadline, Link};
use super::member::Live;
use super::record::Record;
use super::rpc::{WatchCreateRequest, WatchResponse};
use crate::lease::{Hint, StoreError};
use crate::time::{pause, within};

/// Events that a listener may lag behind before it is told of a gap.
const BACKLOG: usize = 64;
/// Between looks while the watch stands and the state could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between attempts to watch: doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What happens to a watch.
#[derive(Clone, Debug)]
enum Event {
    /// The record, from which on changes are told.
    Ready(Arc<Record>),
    /// Changes may have been missed.
    Cut,
    /// A change, and the revision that made it.
    Hint(Hint, i64),
}

pub(super) struct Topic {
    pub keys: Keys,
    pub link: Arc<Link>,
    known: Mutex<Option<Arc<Record>>>,
    events: broadcast::Sender<Event>,
    following: Mutex<Following>,
}

#[derive(Default)]
struct Following {
    listeners: usize,
    task: Option<AbortHandle>,
    flows: bool,
}

impl Topic {
    pub(super) fn new(keys: Keys, link: Arc<Link>) -> Self {
        Self {
            keys,
            link,
            known: Mutex::default(),
            events: broadcast::channel(BACKLOG).0,
            following: Mutex::default(),
        }
    }

    fn following(&self) -> MutexGuard<'_, Following> {
        self.following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The last record that anything told. It may be out of date.
    pub(super) fn known(&self) -> Option<Arc<Record>> {
        let known = self.known.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a record in, unless a later one is known.
    pub(super) fn learn(&self, record: Record) -> Arc<Record> {
        let record = Arc::new(record);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .as_ref()
            .is_none_or(|known| known.revision <= record.revision)
        {
            *known = Some(Arc::clone(&record));
        }
        record
    }

    /// A store that was set back counts its revisions from an earlier one.
    fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads the record: what was acknowledged before is in it.
    ///
    /// # Errors
    /// [`StoreError`] where nobody answers for sure.
    pub(super) async fn read(&self, deadline: Deadline) -> Result<Arc<Record>, StoreError> {
        let request = || range(self.keys.of_lease());
        let ask = |live: Live| async move {
            let answer = live.client.range(request()).await?;
            Ok((answer, live.ends_early))
        };
        let (answer, ends_early) = self.link.ask(deadline, ask).await?;
        let header = answer.header.as_ref();
        let record = Record::read(&self.keys, header, &answer.kvs, ends_early)?;
        let set_back = |known: Arc<Record>| known.revision > record.revision;
        if self.known().is_some_and(set_back) {
            self.forget();
        }
        Ok(self.learn(record))
    }

    pub(super) fn listen(self: &Arc<Self>) -> Listener {
        let mut following = self.following();
        following.listeners += 1;
        if following.task.is_none() {
            let task = tokio::spawn(follow(Arc::clone(self)));
            following.task = Some(task.abort_handle());
        }
        Listener {
            events: self.events.subscribe(),
            phase: if following.flows {
                Phase::Asking
            } else {
                Phase::Deaf
            },
            told: 0,
            topic: Arc::clone(self),
        }
    }

    fn leave(&self) {
        let mut following = self.following();
        following.listeners -= 1;
        if following.listeners == 0 {
            following.flows = false;
            if let Some(task) = following.task.take() {
                task.abort();
            }
        }
    }

    fn ready(&self, record: Arc<Record>) {
        // Under the lock, so that a listener that comes now hears of it or finds it so.
        let mut following = self.following();
        following.flows = true;
        let _ = self.events.send(Event::Ready(record));
    }

    fn cut(&self) {
        let mut following = self.following();
        if std::mem::take(&mut following.flows) {
            let _ = self.events.send(Event::Cut);
        }
    }

    fn flows(&self) -> bool {
        self.following().flows
    }

    /// Takes changes in and tells them, each revision by itself.
    fn hear(&self, record: &mut Record, response: &WatchResponse) -> Result<(), StoreError> {
        if let Some(header) = &response.header {
            record.raft_term = record.raft_term.max(header.raft_term);
        }
        let of = |event: &super::rpc::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for changes in response.events.chunk_by(|a, b| of(a) == of(b)) {
            let before = record.leader.as_ref().map(|leader| leader.value.epoch);
            for event in changes {
                record.apply(&self.keys, event)?;
            }
            self.learn(record.clone());
            if let Some(hint) = hint(before, record) {
                // Nobody listening is no error.
                let _ = self.events.send(Event::Hint(hint, record.revision));
            }
        }
        Ok(())
    }
}

/// What a change means to those who wait.
fn hint(before: Option<crate::lease::Epoch>, record: &Record) -> Option<Hint> {
    let after = record.leader.as_ref().map(|leader| leader.value.epoch);
    match (before, after) {
        (before, Some(epoch)) if before != Some(epoch) => Some(Hint::Began(epoch)),
        (Some(epoch), None) => {
            let state = record.state.as_ref().map(|state| &state.value);
            let released = state.filter(|state| state.epoch == epoch && state.ended);
            Some(Hint::Ended {
                epoch,
                prefer: released.and_then(|state| state.prefer.clone()),
            })
        }
        _ => None,
    }
}

/// Watches for as long as somebody listens.
async fn follow(topic: Arc<Topic>) {
    let mut failures = 0;
    let mut told = None;
    loop {
        let (flowed, error) = match follow_once(&topic).await {
            Ok(error) => (true, error),
            Err(error) => (false, error),
        };
        topic.cut();
        failures = if flowed { 0 } else { failures + 1 };
        if !flowed && told.as_ref() != Some(&error) {
            tracing::warn!(store = %topic.link.address(), %error, "etcd sends no wake-ups");
            told = Some(error);
        }
        pause(pause_after(failures)).await;
    }
}

/// Reads the record and watches from there. `Ok` holds why a watch ended that stood.
async fn follow_once(topic: &Topic) -> Result<StoreError, StoreError> {
    let deadline = topic.link.deadline();
    let first = topic.read(deadline).await?;
    let mut record = (*first).clone();
    let (live, mut watch) = open(topic, record.revision + 1, deadline).await?;
    topic.ready(first);
    loop {
        let response = match watch.next().await {
            Ok(response) => response,
            Err(status) => return Ok(topic.link.stream_ended(&live, &status)),
        };
        if let Err(error) = topic.hear(&mut record, &response) {
            return Ok(error);
        }
    }
}

async fn open(
    topic: &Topic,
    start_revision: i64,
    deadline: Deadline,
) -> Result<(Live, Watch), StoreError> {
    let (key, end) = topic.keys.of_lease();
    let request = WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        start_revision,
    };
    let ask = |live: Live| {
        let request = request.clone();
        async move {
            let mut watch = live.client.watch(request).await?;
            // The first answer says that it stands.
            watch.next().await?;
            Ok((live, watch))
        }
    };
    Ok(topic.link.ask(deadline, ask).await?)
}

/// Doubling, and spread so that many elections do not come back in one moment.
fn pause_after(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE * (1 << failures.min(8));
    doubled.min(LAST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No changes are told.
    Deaf,
    /// They are, and the record is to be read before they are passed on.
    Asking,
    /// They are passed on.
    Hearing,
}

/// One listener's place.
pub(super) struct Listener {
    topic: Arc<Topic>,
    events: broadcast::Receiver<Event>,
    phase: Phase,
    /// The revision of the last record that was told.
    told: i64,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.topic.leave();
    }
}

impl Listener {
    /// The next hint.
    pub(super) async fn next(&mut self) -> Option<Hint> {
        loop {
            match self.phase {
                Phase::Asking => {
                    let deadline = self.topic.link.deadline();
                    match self.topic.read(deadline).await {
                        Ok(record) => return Some(self.present(&record)),
                        Err(_) => self.phase = Phase::Deaf,
                    }
                }
                Phase::Deaf => match within(LOOK_AGAIN, self.events.recv()).await {
                    Some(Ok(Event::Ready(record))) => return Some(self.present(&record)),
                    // The record will tell what these told.
                    Some(Ok(Event::Hint(..) | Event::Cut) | Err(RecvError::Lagged(_))) => {}
                    Some(Err(RecvError::Closed)) => return None,
                    None if self.topic.flows() => self.phase = Phase::Asking,
                    None => {}
                },
                Phase::Hearing => match self.events.recv().await {
                    // It was on its way when the record was read.
                    Ok(Event::Hint(_, revision)) if revision <= self.told => {}
                    Ok(Event::Hint(hint, _)) => return Some(hint),
                    Ok(Event::Ready(record)) => return Some(self.present(&record)),
                    Ok(Event::Cut) => {
                        self.phase = Phase::Deaf;
                        return Some(Hint::Gap);
                    }
                    Err(RecvError::Lagged(_)) => {
                        self.phase = Phase::Asking;
                        return Some(Hint::Gap);
                    }
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    fn present(&mut self, record: &Record) -> Hint {
        self.phase = Phase::Hearing;
        self.told = record.revision;
        Hint::Present(record.observed())
    }
}
