//! A node's memory of an election across restarts: the highest epoch and the
//! newest checkpoint revision that it has ever seen.
//!
//! A store may forget; what a node has seen, it must not. With a state directory
//! the epoch is on disk, fsynced, *before* the node acts on it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::lease::{ElectionName, Epoch, Revision};

/// What is remembered of one election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    epoch: Option<Epoch>,
    checkpoint: Option<Revision>,
}

/// Why the memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A file or directory.
    #[error("state directory: cannot {verb} {}: {source}; check the path, its owner and free space", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process.
    #[error(
        "state directory {} is in use by another process: give each node its own --state-dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// A record that is none.
    #[error(
        "{} is not a record of the highest epoch seen ({reason}); restore it, or move it away \
         if no leader of that election can still be inside its lease",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MemoryError {
    let path = path.to_owned();
    move |source| MemoryError::Io { verb, path, source }
}

impl From<durable::Refused> for MemoryError {
    fn from(refused: durable::Refused) -> Self {
        let durable::Refused { verb, path, source } = refused;
        Self::Io { verb, path, source }
    }
}

/// A directory that one process keeps its memory in.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Two processes would overwrite each other's epochs with lower ones.
    _lock: Arc<File>,
}

impl StateDir {
    /// Opens the directory for this process alone, making it when missing.
    ///
    /// # Errors
    /// Where it cannot be made or written, or another process has it.
    pub fn open(path: &Path) -> Result<Self, MemoryError> {
        fs::create_dir_all(path).map_err(failed("make", path))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("write", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(MemoryError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: Arc::new(lock),
        })
    }

    fn file(&self, election: &ElectionName) -> PathBuf {
        self.path.join(format!("{election}.seen.json"))
    }
}

/// The memory of one election; without a directory it ends with the process.
#[derive(Debug)]
pub struct Memory {
    file: Option<(StateDir, PathBuf)>,
    now: Mutex<Remembered>,
    /// What is on disk. Held for a moment only: the election's thread looks at it.
    durable: Arc<Mutex<Remembered>>,
    /// Held while writing, so that writes are in order; a disk may take its time.
    writing: Arc<Mutex<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// What an earlier start of this node left, or nothing.
    ///
    /// # Errors
    /// Where the record is there and cannot be read: guessing would be forgetting.
    pub fn load(dir: Option<StateDir>, election: &ElectionName) -> Result<Self, MemoryError> {
        let file = dir.map(|dir| {
            let path = dir.file(election);
            (dir, path)
        });
        let mut remembered = Remembered::default();
        if let Some((_, path)) = &file {
            remembered = match fs::read(path) {
                Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                    let path = path.clone();
                    let reason = error.to_string();
                    MemoryError::Corrupt { path, reason }
                })?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => remembered,
                Err(error) => return Err(failed("read", path)(error)),
            };
        }
        Ok(Self {
            file,
            now: Mutex::new(remembered),
            durable: Arc::new(Mutex::new(remembered)),
            writing: Arc::default(),
        })
    }

    /// The highest epoch seen.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        lock(&self.now).epoch
    }

    /// The newest checkpoint revision seen. On disk only its epoch is exact.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Revision> {
        lock(&self.now).checkpoint
    }

    /// Remembers an epoch; when this returns, it is on disk.
    ///
    /// # Errors
    /// Where the disk refused. The epoch must not be acted on then.
    pub async fn see_epoch(&self, epoch: Epoch) -> Result<(), MemoryError> {
        lock(&self.now).raise(Remembered {
            epoch: Some(epoch),
            checkpoint: None,
        });
        if Some(epoch) <= lock(&self.durable).epoch {
            return Ok(());
        }
        self.save().await
    }

    /// Remembers a checkpoint's revision. The disk is written once a tenure: that
    /// is enough to notice that a value went missing or became an older leader's.
    ///
    /// # Errors
    /// Where the disk refused.
    pub async fn see_checkpoint(&self, revision: Revision) -> Result<(), MemoryError> {
        lock(&self.now).raise(Remembered {
            epoch: None,
            checkpoint: Some(revision),
        });
        let durable = lock(&self.durable).checkpoint.map(|durable| durable.epoch);
        if Some(revision.epoch) <= durable {
            return Ok(());
        }
        self.save().await
    }

    async fn save(&self) -> Result<(), MemoryError> {
        let goal = *lock(&self.now);
        let (durable, writing) = (Arc::clone(&self.durable), Arc::clone(&self.writing));
        let Some((_, path)) = self.file.clone() else {
            *lock(&durable) = goal;
            return Ok(());
        };
        let path_of_error = path.clone();
        let write = move || {
            let _in_order = lock(&writing);
            let on_disk = *lock(&durable);
            let mut next = on_disk;
            next.raise(goal);
            if next != on_disk {
                write_durably(&path, &next)?;
                *lock(&durable) = next;
            }
            Ok(())
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(written) => written,
            Err(join) => Err(failed("write", &path_of_error)(io::Error::other(join))),
        }
    }
}

impl Remembered {
    fn raise(&mut self, other: Self) {
        self.epoch = self.epoch.max(other.epoch);
        self.checkpoint = self.checkpoint.max(other.checkpoint);
    }
}

fn write_durably(path: &Path, remembered: &Remembered) -> Result<(), MemoryError> {
    let text = serde_json::to_vec(remembered)
        .map_err(|error| failed("write", path)(io::Error::other(error)))?;
    Ok(durable::replace(path, &text)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn epoch(number: u64) -> Epoch {
        Epoch::new(number).unwrap()
    }

    #[tokio::test]
    async fn an_epoch_survives_a_restart_and_never_falls() {
        let home = tempfile::tempdir().unwrap();
        let name: ElectionName = "orders".parse().unwrap();
        {
            let dir = StateDir::open(home.path()).unwrap();
            let memory = Memory::load(Some(dir), &name).unwrap();
            assert_eq!(memory.epoch(), None);
            memory.see_epoch(epoch(7)).await.unwrap();
            memory.see_epoch(epoch(5)).await.unwrap();
            memory.see_checkpoint("7.3".parse().unwrap()).await.unwrap();
        }
        let dir = StateDir::open(home.path()).unwrap();
        let memory = Memory::load(Some(dir), &name).unwrap();
        assert_eq!(memory.epoch(), Some(epoch(7)));
        assert_eq!(memory.checkpoint(), "7.3".parse().ok());
    }

    #[test]
    fn a_disk_that_takes_its_time_delays_nobody_who_need_not_write() {
        let home = tempfile::tempdir().unwrap();
        let name: ElectionName = "orders".parse().unwrap();
        let dir = StateDir::open(home.path()).unwrap();
        let memory = Arc::new(Memory::load(Some(dir), &name).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(memory.see_epoch(epoch(7))).unwrap();
        // As a write that stands still holds it.
        let stuck = Arc::clone(&memory.writing);
        let _stuck = lock(&stuck);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let seen = runtime.block_on(memory.see_epoch(epoch(7)));
            tell.send((seen.is_ok(), memory.epoch())).unwrap();
        });
        let bound = std::time::Duration::from_secs(20);
        assert_eq!(told.recv_timeout(bound), Ok((true, Some(epoch(7)))));
    }

    #[test]
    fn a_second_process_and_a_torn_record_are_refused_by_name() {
        let home = tempfile::tempdir().unwrap();
        let dir = StateDir::open(home.path()).unwrap();
        let error = StateDir::open(home.path()).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        let name: ElectionName = "orders".parse().unwrap();
        fs::write(home.path().join("orders.seen.json"), b"{\"epoch\":9").unwrap();
        let error = Memory::load(Some(dir), &name).unwrap_err().to_string();
        assert!(error.contains("orders.seen.json"), "{error}");
    }
}
