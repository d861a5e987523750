//! The small value that a new leader resumes from, and its revision.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Epoch, SessionId, base64_bytes};

/// The largest value a checkpoint holds.
pub const MAX_BYTES: usize = 64 * 1024;

/// `epoch.seq`: which tenure wrote the value, and its how-manieth write it was.
/// Ordered, and compared as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision {
    /// The tenure that wrote it.
    pub epoch: Epoch,
    /// Counts the writes of that tenure from 1.
    pub seq: u64,
}

impl Revision {
    /// The revision of the next write by `epoch` over `newest`, which may be a
    /// value that was lost: a revision is never given twice.
    #[must_use]
    pub fn next(newest: Option<Self>, epoch: Epoch) -> Self {
        Self::next_above(newest, epoch, 0)
    }

    /// The same, where numbers up to `base` may have been given by another server.
    #[must_use]
    pub fn next_above(newest: Option<Self>, epoch: Epoch, base: u64) -> Self {
        let newest = newest.filter(|newest| newest.epoch == epoch);
        let seq = newest.map_or(0, |newest| newest.seq).max(base);
        Self {
            epoch,
            seq: seq.saturating_add(1),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// A text that is no revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no revision: EPOCH.SEQ was expected, such as 42.7")]
pub struct RevisionError(String);

impl FromStr for Revision {
    type Err = RevisionError;
    fn from_str(text: &str) -> Result<Self, RevisionError> {
        let wrong = || RevisionError(text.chars().take(60).collect());
        let (epoch, seq) = text.split_once('.').ok_or_else(wrong)?;
        // The sequence obeys the range of an epoch: a script's numbers are doubles.
        let seq: Epoch = seq.parse().map_err(|_| wrong())?;
        let epoch = epoch.parse().map_err(|_| wrong())?;
        Ok(Self {
            epoch,
            seq: seq.get(),
        })
    }
}

impl TryFrom<String> for Revision {
    type Error = RevisionError;
    fn try_from(text: String) -> Result<Self, RevisionError> {
        text.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.to_string()
    }
}

/// A stored value with its revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which write this is.
    pub revision: Revision,
    /// The value, any bytes.
    #[serde(with = "base64_bytes")]
    pub bytes: Vec<u8>,
}

/// The answer to reading a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointRead {
    /// The value.
    Present(Checkpoint),
    /// Never written, as far as the store knows.
    Absent,
    /// It was written, at this revision, and the store has lost it.
    Lost(Revision),
}

/// A write, applied only where everything in it matches the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointWrite {
    /// The fencing token it is written under.
    pub epoch: Epoch,
    /// The session that holds that epoch.
    pub session: SessionId,
    /// The revision it replaces; `None`: there must be no value.
    pub expected: Option<Revision>,
    /// The value.
    #[serde(with = "base64_bytes")]
    pub bytes: Vec<u8>,
}

/// The answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointWritten {
    /// Applied, under this revision.
    Written(Revision),
    /// Not applied: the epoch is not the one in force, or not that session's.
    Stale {
        /// The newest epoch the store knows.
        epoch: Option<Epoch>,
        /// The stored revision.
        revision: Option<Revision>,
    },
    /// Not applied: another revision is stored.
    Mismatch {
        /// The stored revision.
        revision: Option<Revision>,
    },
}
