//! The first start of a member, which may be broken off between the two files that it makes.
//!
//! Later, a `raft.redb` that is missing beside a `peer.json` means that votes were lost. At
//! the first start it means nothing. So that start is noted before either is made; while the
//! note is there, nobody was ever told anything from this disk.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::durable;

const NOTE: &str = "raft.first";

/// Makes the note, where this disk has neither file.
pub(super) fn note(dir: &Path) -> io::Result<()> {
    if dir.join("peer.json").exists() || dir.join("raft.redb").exists() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    durable::replace(&dir.join(NOTE), b"").map_err(|refused| refused.source)
}

/// A first start that goes on. Another process on the same disk does not get it.
pub(super) struct FirstStart {
    note: PathBuf,
    _locked: File,
}

impl FirstStart {
    /// Takes back what a broken off one has made of `file`. `None`: it was over long ago.
    pub fn resume(dir: &Path, file: &Path) -> io::Result<Option<Self>> {
        let note = dir.join(NOTE);
        let locked = match File::options().write(true).open(&note) {
            Ok(locked) => locked,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        locked.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process is making it"),
            TryLockError::Error(error) => error,
        })?;
        // Another process may have ended its first start before this one had the lock.
        if !note.exists() {
            return Ok(None);
        }
        if file.exists() {
            fs::remove_file(file)?;
        }
        Ok(Some(Self {
            note,
            _locked: locked,
        }))
    }

    /// Both files are made.
    pub fn over(self) -> io::Result<()> {
        durable::remove(&self.note).map_err(|refused| refused.source)
    }
}
