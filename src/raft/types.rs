//! The words that `openraft` is told to use.

use std::fmt;
use std::io::Cursor;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Outcome, Request};
use crate::peers::{DiskId, MemberId};

openraft::declare_raft_types!(
    /// Tenure's.
    pub TypeConfig:
        D = Vec<Request>,
        R = Vec<Outcome>,
        NodeId = RaftId,
        Node = Seat,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
);

/// A member, as Raft counts it. The entry that begins every log is of nobody, and no
/// member has an empty name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RaftId(pub MemberId);

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for RaftId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for RaftId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        if name.is_empty() {
            return Ok(Self::default());
        }
        name.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A member's place in the replicated list of members. It is the disk's, not the id's: a
/// member whose disk was wiped has forgotten its votes, and must not vote in its own place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Whose.
    pub disk: Option<DiskId>,
}

pub(super) type LogId = openraft::LogId<RaftId>;
pub(super) type Vote = openraft::Vote<RaftId>;
pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type Membership = openraft::StoredMembership<RaftId, Seat>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<RaftId, Seat>;
pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type StorageError = openraft::StorageError<RaftId>;
pub(super) type StorageIoError = openraft::StorageIOError<RaftId>;
