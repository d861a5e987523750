//! What a member must not forget, in one file: its vote, the log, the newest snapshot.
//!
//! Each change is on disk when it is told done. The file is checked as a whole when it is
//! opened; a member whose file is damaged does not take part, for it may have voted.

use std::fs;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _,
    StorageBackend as _, TableDefinition, TransactionError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::first_start::FirstStart;
use super::receiving::Receiving;
use super::types::{Entry, LogId, SnapshotMeta, Vote};
use crate::peers::{DiskId, Identity};

/// The log: index to entry, as JSON.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// All else, as JSON.
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");

const DISK: &str = "disk";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT_META: &str = "snapshot.meta";
const SNAPSHOT: &str = "snapshot";

/// What redb keeps in memory; the whole file is hardly ever larger.
const CACHE_BYTES: usize = 16 << 20;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It is gone.
    #[error(
        "{} is missing, and this member has been at work on this disk: without the votes that it \
         gave it takes no part; restore the file, or wipe the whole directory and let the cluster \
         take the member in anew", .0.display()
    )]
    Missing(PathBuf),
    /// It belongs to another disk.
    #[error(
        "{} is of disk {found}, and {} beside it of disk {expected}: the files of two members \
         were mixed up; restore the directory as a whole",
        path.display(), "peer.json"
    )]
    OfAnother {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose directory it is in.
        expected: String,
    },
    /// It was damaged, or the disk refuses.
    #[error(
        "{} cannot be relied on ({reason}): the member takes no part on a disk that it cannot \
         trust; restore the file, or wipe the whole directory and let the cluster take the member \
         in anew", path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The file of one member.
#[derive(Clone)]
pub struct Disk {
    pub(super) database: Arc<Database>,
    /// Of the entries that were appended since the newest snapshot.
    grown: Arc<AtomicU64>,
    /// The index of what was noted last as committed.
    committed: Arc<AtomicU64>,
    /// What is known of a snapshot that comes from another member.
    pub(super) receiving: Arc<Receiving>,
}

/// Any trouble with the database, as the system's.
fn io_error(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(io::Error::from)
}

fn put<T: Serialize>(write: &WriteTransaction, note: &str, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let mut notes = write.open_table(NOTES).map_err(io_error)?;
    notes.insert(note, bytes.as_slice()).map_err(io_error)?;
    Ok(())
}

impl Disk {
    /// Opens the file in the directory of `identity`; makes it at the member's first start.
    ///
    /// # Errors
    /// Where anything about it is doubtful.
    pub fn open(dir: &Path, identity: &Identity) -> Result<Self, DiskError> {
        let path = dir.join("raft.redb");
        let unusable = |error: io::Error| DiskError::Unusable {
            path: path.clone(),
            reason: error.to_string(),
        };
        let first_start = FirstStart::resume(dir, &path).map_err(unusable)?;
        let may_be_missing = first_start.is_some() || identity.incarnation == 1;
        if !path.exists() && !may_be_missing {
            return Err(DiskError::Missing(path));
        }
        if path.exists() {
            Self::copied(&path)
                .map_err(unusable)?
                .judge(&path, identity)?;
        }
        let disk = Self::opened(&path, &identity.disk).map_err(unusable)?;
        disk.judge(&path, identity)?;
        if let Some(first_start) = first_start {
            first_start.over().map_err(unusable)?;
        }
        Ok(disk)
    }

    /// The file as it is, in memory. redb repairs what it opens before it says whether that can
    /// be relied on: so this is judged first, and a file that is refused stays as it was found.
    fn copied(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        if bytes.is_empty() {
            return Err(io::Error::other("it is empty"));
        }
        let copy = InMemoryBackend::new();
        let copied = copy
            .set_len(bytes.len() as u64)
            .and_then(|()| copy.write(0, &bytes));
        copied.map_err(io::Error::other)?;
        Self::of(builder().create_with_backend(copy))
    }

    fn opened(path: &Path, owner: &DiskId) -> io::Result<Self> {
        if path.exists() {
            // An empty file would be made a database by `create`, and pass for a blank disk.
            return Self::of(builder().open(path));
        }
        Self::made(builder().create(path), owner)
    }

    /// A new one.
    pub(super) fn made(
        database: Result<Database, DatabaseError>,
        owner: &DiskId,
    ) -> io::Result<Self> {
        let disk = Self::of(database)?;
        disk.write(|write| {
            write.open_table(LOG).map_err(io_error)?;
            put(write, DISK, owner)
        })?;
        Ok(disk)
    }

    fn of(database: Result<Database, DatabaseError>) -> io::Result<Self> {
        Ok(Self {
            database: Arc::new(database.map_err(io_error)?),
            grown: Arc::default(),
            committed: Arc::default(),
            receiving: Arc::default(),
        })
    }

    /// Whether it is this member's, and whole: everything is read once, and what cannot be read
    /// now is no surprise later.
    fn judge(&self, path: &Path, identity: &Identity) -> Result<(), DiskError> {
        let unusable = |error: io::Error| DiskError::Unusable {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let found: Option<DiskId> = self.note(DISK).map_err(unusable)?;
        if found.as_ref() != Some(&identity.disk) {
            return Err(DiskError::OfAnother {
                path: path.to_owned(),
                found: found.map_or_else(|| "nobody".to_owned(), |disk| disk.short()),
                expected: identity.disk.short(),
            });
        }
        self.read_all().map_err(unusable)
    }

    fn read_all(&self) -> io::Result<()> {
        self.vote()?;
        self.committed()?;
        self.snapshot()?;
        let purged = self.purged()?;
        if let Some(purged) = purged
            && !self.replaced(purged)?
        {
            return Err(io::Error::other(format!(
                "the entries up to {} are gone, and no snapshot holds what they did",
                purged.index
            )));
        }
        let entries = self.entries(..)?;
        let mut expected = purged.map(|purged| purged.index + 1);
        for entry in entries {
            let index = entry.log_id.index;
            if expected.is_some_and(|expected| expected != index) {
                return Err(io::Error::other(format!("the log has a gap at {index}")));
            }
            expected = Some(index + 1);
        }
        Ok(())
    }

    /// In two commits of one phase, which write the disk twice, as one commit of two phases does.
    /// redb keeps the two newest commits and one unchecked bit that says which counts: after this
    /// both hold the change, so that no damage to either, nor to the bit, passes for the state
    /// before it. A vote would be forgotten.
    fn write(&self, work: impl FnOnce(&WriteTransaction) -> io::Result<()>) -> io::Result<()> {
        let write = self.database.begin_write().map_err(io_error)?;
        work(&write)?;
        write.commit().map_err(io_error)?;
        let same_again = self.database.begin_write().map_err(io_error)?;
        same_again.commit().map_err(io_error)
    }

    fn note<T: DeserializeOwned>(&self, note: &str) -> io::Result<Option<T>> {
        let read = self.database.begin_read().map_err(io_error)?;
        let notes = read.open_table(NOTES).map_err(io_error)?;
        let bytes = notes.get(note).map_err(io_error)?;
        bytes.map(|bytes| decoded(bytes.value())).transpose()
    }

    /// The vote.
    pub fn vote(&self) -> io::Result<Option<Vote>> {
        self.note(VOTE)
    }

    /// Notes the vote.
    pub fn set_vote(&self, vote: &Vote) -> io::Result<()> {
        self.write(|write| put(write, VOTE, vote))
    }

    /// Up to where entries were known to be committed.
    pub fn committed(&self) -> io::Result<Option<LogId>> {
        Ok(self.note::<Option<LogId>>(COMMITTED)?.flatten())
    }

    /// Notes that; a hint for the next start, which goes to disk with the next append. It waits
    /// for nobody: while another writer waits for the disk, the file keeps the older hint.
    pub fn set_committed(&self, committed: Option<LogId>) -> io::Result<()> {
        self.committed
            .store(committed.map_or(0, |log| log.index), Ordering::Relaxed);
        let mut write = match self.database.try_begin_write() {
            Err(TransactionError::WouldBlock) => return Ok(()),
            begun => begun.map_err(io_error)?,
        };
        let durability = write.set_durability(Durability::None);
        durability.map_err(io::Error::other)?;
        put(&write, COMMITTED, &committed)?;
        write.commit().map_err(io_error)
    }

    /// The same as a number, without a look at the disk; 0 until it is known.
    #[must_use]
    pub fn known_committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// The last entry that a snapshot has replaced.
    pub fn purged(&self) -> io::Result<Option<LogId>> {
        self.note(PURGED)
    }

    /// Entries by index.
    pub fn entries(&self, range: impl RangeBounds<u64>) -> io::Result<Vec<Entry>> {
        let read = self.database.begin_read().map_err(io_error)?;
        let log = read.open_table(LOG).map_err(io_error)?;
        let mut entries = Vec::new();
        for entry in log.range(range).map_err(io_error)? {
            let (index, bytes) = entry.map_err(io_error)?;
            let entry: Entry = decoded(bytes.value())?;
            if entry.log_id.index != index.value() {
                return Err(io::Error::other(format!(
                    "entry {} of the log says that it is {}",
                    index.value(),
                    entry.log_id.index
                )));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The last entry.
    pub fn last(&self) -> io::Result<Option<LogId>> {
        let read = self.database.begin_read().map_err(io_error)?;
        let log = read.open_table(LOG).map_err(io_error)?;
        let last = log.last().map_err(io_error)?;
        let entry = last.map(|(_, bytes)| decoded::<Entry>(bytes.value()));
        Ok(entry.transpose()?.map(|entry| entry.log_id))
    }

    /// Appends.
    pub fn append(&self, entries: &[Entry]) -> io::Result<()> {
        let mut grown = 0;
        self.write(|write| {
            let mut log = write.open_table(LOG).map_err(io_error)?;
            for entry in entries {
                let bytes = serde_json::to_vec(entry)?;
                grown += bytes.len() as u64;
                log.insert(entry.log_id.index, bytes.as_slice())
                    .map_err(io_error)?;
            }
            Ok(())
        })?;
        self.grown.fetch_add(grown, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the entries from `index` on.
    pub fn truncate(&self, index: u64) -> io::Result<()> {
        self.write(|write| {
            let mut log = write.open_table(LOG).map_err(io_error)?;
            log.retain_in(index.., |_, _| false).map_err(io_error)
        })
    }

    /// Removes the entries up to `upto`, which a snapshot has replaced.
    pub fn purge(&self, upto: LogId) -> io::Result<()> {
        self.write(|write| {
            let mut log = write.open_table(LOG).map_err(io_error)?;
            log.retain_in(..=upto.index, |_, _| false)
                .map_err(io_error)?;
            drop(log);
            put(write, PURGED, &upto)
        })
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> io::Result<Option<(SnapshotMeta, Vec<u8>)>> {
        let Some(meta) = self.note(SNAPSHOT_META)? else {
            return Ok(None);
        };
        let read = self.database.begin_read().map_err(io_error)?;
        let notes = read.open_table(NOTES).map_err(io_error)?;
        let bytes = notes.get(SNAPSHOT).map_err(io_error)?;
        let bytes = bytes.map(|bytes| bytes.value().to_vec());
        let missing = || io::Error::other("a snapshot is noted and missing");
        Ok(Some((meta, bytes.ok_or_else(missing)?)))
    }

    /// Whether it holds what the entries up to `upto` did.
    pub fn replaced(&self, upto: LogId) -> io::Result<bool> {
        let meta: Option<SnapshotMeta> = self.note(SNAPSHOT_META)?;
        Ok(meta.is_some_and(|meta| meta.last_log_id >= Some(upto)))
    }

    /// Replaces it.
    pub fn set_snapshot(&self, meta: &SnapshotMeta, snapshot: &[u8]) -> io::Result<()> {
        self.write(|write| {
            put(write, SNAPSHOT_META, meta)?;
            let mut notes = write.open_table(NOTES).map_err(io_error)?;
            notes.insert(SNAPSHOT, snapshot).map_err(io_error)?;
            Ok(())
        })?;
        self.grown.store(0, Ordering::Relaxed);
        self.receiving.stored();
        Ok(())
    }

    /// By how many bytes the log has grown since the newest snapshot, or the start.
    #[must_use]
    pub fn grown(&self) -> u64 {
        self.grown.load(Ordering::Relaxed)
    }

    /// Whether nothing was ever promised on it.
    pub fn is_blank(&self) -> io::Result<bool> {
        Ok(self.vote()?.is_none() && self.last()?.is_none() && self.snapshot()?.is_none())
    }
}

/// Work on the disk waits for the disk: not on the threads that answer.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(io::Error::other)?
}
