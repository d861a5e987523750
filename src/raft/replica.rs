//! The records of this member, as its log has made them, and who waits for what.
//!
//! They live in memory. On disk are the newest snapshot and the log after it, which give
//! them back at a start.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use tokio::sync::{broadcast, watch};

use super::disk::{Disk, aside};
use super::types::TypeConfig;
use super::types::{Entry, LogId, Membership, SnapshotMeta, StorageError, StorageIoError};
use super::{Outcome, Records, Request, Stamps};
use crate::lease::{Drift, ElectionName, Hint};
use crate::time::{Clock, Moment};

/// Hints that a reader may lag behind before it is told of a gap.
const HINT_BACKLOG: usize = 64;

/// What the log has made so far.
pub struct Applied {
    /// The records.
    pub records: Records,
    /// When they end.
    pub stamps: Stamps,
    /// Up to here.
    pub last: Option<LogId>,
    /// Who the members are.
    pub membership: Membership,
}

struct Shared {
    clock: Arc<dyn Clock>,
    disk: Disk,
    applied: Mutex<Applied>,
    hints: Mutex<HashMap<ElectionName, broadcast::Sender<Hint>>>,
    /// Up to which entry it is; told after each change.
    changed: watch::Sender<u64>,
}

/// Shared by `openraft`, which changes it, and by those who read.
#[derive(Clone)]
pub struct Replica(Arc<Shared>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reading(error: io::Error) -> StorageError {
    StorageIoError::read_state_machine(openraft::AnyError::new(&error)).into()
}

fn snapshot_failed(meta: &SnapshotMeta, error: io::Error) -> StorageError {
    let signature = Some(meta.signature());
    StorageIoError::write_snapshot(signature, openraft::AnyError::new(&error)).into()
}

impl Replica {
    /// Begins with the newest snapshot on disk.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open(disk: Disk, clock: Arc<dyn Clock>, drift: Drift) -> io::Result<Self> {
        let mut applied = Applied {
            records: Records::default(),
            stamps: Stamps::new(drift),
            last: None,
            membership: Membership::default(),
        };
        if let Some((meta, bytes)) = disk.snapshot()? {
            applied.records = serde_json::from_slice(&bytes)?;
            applied.last = meta.last_log_id;
            applied.membership = meta.last_membership;
            applied.stamps.replaced(clock.now(), &applied.records);
        }
        let index = applied.last.map_or(0, |last| last.index);
        Ok(Self(Arc::new(Shared {
            clock,
            disk,
            applied: Mutex::new(applied),
            hints: Mutex::default(),
            changed: watch::channel(index).0,
        })))
    }

    /// Reads.
    pub fn with<T>(&self, read: impl FnOnce(&Applied) -> T) -> T {
        read(&lock(&self.0.applied))
    }

    /// Reads, and the wake-ups of one election for what changes after that: none for what
    /// is in the answer already.
    pub fn subscribe<T>(
        &self,
        election: &ElectionName,
        read: impl FnOnce(&Applied) -> T,
    ) -> (T, broadcast::Receiver<Hint>) {
        let applied = lock(&self.0.applied);
        let mut hints = lock(&self.0.hints);
        let sender = hints
            .entry(election.clone())
            .or_insert_with(|| broadcast::channel(HINT_BACKLOG).0);
        (read(&applied), sender.subscribe())
    }

    /// Tells of each change up to which entry it came.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Nobody listening is no error.
    fn tell(&self, election: &ElectionName, hint: Hint) {
        if let Some(sender) = lock(&self.0.hints).get(election) {
            let _ = sender.send(hint);
        }
    }

    /// The records were replaced: whoever waits has missed something.
    fn tell_of_gap(&self, records: &Records) {
        let hints = lock(&self.0.hints);
        for (election, sender) in hints.iter() {
            let _ = sender.send(Hint::Gap);
            let _ = sender.send(Hint::Present(records.get(election).observe()));
        }
    }

    fn told(&self) {
        let index = self.with(|applied| applied.last.map_or(0, |last| last.index));
        self.0.changed.send_replace(index);
    }

    fn take(&self, entry: Entry) -> Vec<Outcome> {
        let applied = &mut *lock(&self.0.applied);
        applied.last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Membership(membership) => {
                applied.membership = Membership::new(Some(entry.log_id), membership);
                Vec::new()
            }
            EntryPayload::Normal(requests) => {
                let now = self.0.clock.now();
                let each = |request: &Request| self.one(applied, now, request);
                requests.iter().map(each).collect()
            }
        }
    }

    fn one(&self, applied: &mut Applied, now: Moment, request: &Request) -> Outcome {
        let (outcome, told) = applied.records.apply(request);
        let until = applied.records.get(&request.election).until();
        applied.stamps.applied(now, &request.election, until);
        if let Some(hint) = told {
            self.tell(&request.election, hint);
        }
        outcome
    }

    fn copy(&self) -> serde_json::Result<(SnapshotMeta, Vec<u8>)> {
        let applied = lock(&self.0.applied);
        let at = applied.last.map_or(0, |last| last.index);
        let meta = SnapshotMeta {
            last_log_id: applied.last,
            last_membership: applied.membership.clone(),
            snapshot_id: format!("{at}-{:x}", fastrand::u32(..)),
        };
        Ok((meta, serde_json::to_vec(&applied.records)?))
    }
}

impl Replica {
    /// On disk first, then in memory.
    async fn install(&self, meta: &SnapshotMeta, bytes: Vec<u8>) -> Result<(), StorageError> {
        let records: Records = serde_json::from_slice(&bytes)
            .map_err(io::Error::from)
            .map_err(reading)?;
        let (disk, noted) = (self.0.disk.clone(), meta.clone());
        aside(move || disk.set_snapshot(&noted, &bytes))
            .await
            .map_err(|error| snapshot_failed(meta, error))?;
        {
            let applied = &mut *lock(&self.0.applied);
            applied.records = records;
            applied.last = meta.last_log_id;
            applied.membership = meta.last_membership.clone();
            let now = self.0.clock.now();
            applied.stamps.replaced(now, &applied.records);
            self.tell_of_gap(&applied.records);
        }
        self.told();
        Ok(())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Replica {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let copied = self.copy().map_err(io::Error::from).map_err(reading)?;
        let disk = self.0.disk.clone();
        let written = aside(move || {
            disk.set_snapshot(&copied.0, &copied.1)?;
            Ok(copied)
        });
        let (meta, bytes) = written
            .await
            .map_err(|error| snapshot_failed(&SnapshotMeta::default(), error))?;
        Ok(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(bytes)),
        })
    }
}

impl RaftStateMachine<TypeConfig> for Replica {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok(self.with(|applied| (applied.last, applied.membership.clone())))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Outcome>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let outcomes = entries.into_iter().map(|entry| self.take(entry)).collect();
        self.told();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        self.0.disk.receiving.begins();
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let installed = self.install(meta, snapshot.into_inner()).await;
        if installed.is_err() {
            self.0.disk.receiving.failed();
        }
        installed
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let stored = self.0.disk.snapshot().map_err(reading)?;
        Ok(stored.map(|(meta, bytes)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(bytes)),
        }))
    }
}
