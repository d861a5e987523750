//! What a member must not forget of an election, and which disks count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease::{Checkpoint, Epoch, Holder, Profile, Revision, SessionId};
use crate::peers::{DiskId, MemberId};
use crate::time::UnixMs;

/// A lease as an acceptor grants it. Its holder is the member *and* the session: the
/// same member after a restart is another holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The number of the tenure.
    pub epoch: Epoch,
    /// The member that holds it.
    pub member: MemberId,
    /// The session of that member.
    pub session: SessionId,
    /// How long a grant or a renewal lasts, in milliseconds.
    pub lease_ms: u64,
    /// What the holder tells about itself.
    pub profile: Profile,
    /// When it was claimed, by the holder's wall clock; shown to people only.
    pub since: UnixMs,
}

impl Grant {
    /// Whether it is the same tenure of the same holder.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.held_by(other.member, &other.session)
    }

    /// Whether that session of that member holds it.
    #[must_use]
    pub fn held_by(&self, member: MemberId, session: &SessionId) -> bool {
        self.member == member && self.session == *session
    }

    /// How long a grant or a renewal lasts.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    pub(super) fn holder(&self) -> Holder {
        Holder {
            epoch: self.epoch,
            session: self.session.clone(),
            profile: self.profile.clone(),
            since: self.since,
            ttl: self.lease(),
        }
    }
}

/// The checkpoint as a member keeps it. A new holder writes the value that it found back
/// under its own epoch: else a write that reached one member only, long ago, could
/// outrank what was read and acknowledged since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The tenure that put it here.
    pub under: Epoch,
    /// Which write it is; `None`: there was no value then.
    pub revision: Option<Revision>,
    /// The value.
    #[serde(with = "crate::lease::base64_bytes")]
    pub bytes: Vec<u8>,
}

impl Stored {
    /// Of two, the one with the greater key counts.
    #[must_use]
    pub fn key(&self) -> (Epoch, Option<Revision>) {
        (self.under, self.revision)
    }

    pub(super) fn value(&self) -> Option<Checkpoint> {
        self.revision.map(|revision| Checkpoint {
            revision,
            bytes: self.bytes.clone(),
        })
    }

    pub(super) fn greatest(of: impl Iterator<Item = Self>) -> Option<Self> {
        of.max_by_key(Self::key)
    }
}

/// Every disk that a member ever had, the present one last. Whoever knows of a later one
/// refuses those who count the earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roster(BTreeMap<MemberId, Vec<DiskId>>);

impl Roster {
    /// The disk that speaks for a member.
    #[must_use]
    pub fn current(&self, member: MemberId) -> Option<&DiskId> {
        self.0.get(&member)?.last()
    }

    /// Whether the disk was a member's and is not any more.
    #[must_use]
    pub fn retired(&self, member: MemberId, disk: &DiskId) -> bool {
        let disks = self.0.get(&member).map_or(&[][..], Vec::as_slice);
        disks.contains(disk) && disks.last() != Some(disk)
    }

    /// The first disks of a cluster.
    #[must_use]
    pub fn of(disks: impl IntoIterator<Item = (MemberId, DiskId)>) -> Self {
        let bound = disks.into_iter();
        Self(bound.map(|(member, disk)| (member, vec![disk])).collect())
    }

    /// What several elections know of disks, the later one of each member; and of members
    /// that none of them knows, these.
    #[must_use]
    pub fn gathered<'a>(
        known: impl IntoIterator<Item = &'a Self>,
        else_these: impl IntoIterator<Item = (MemberId, DiskId)>,
    ) -> Self {
        let mut all = Self::default();
        for roster in known {
            all.merge(roster);
        }
        for (member, disk) in else_these {
            all.0.entry(member).or_insert_with(|| vec![disk]);
        }
        all
    }

    pub(super) fn bind(&mut self, member: MemberId, disk: DiskId) {
        self.0.entry(member).or_default().push(disk);
    }

    /// What a sender may be believed about disks. Nobody puts a disk of his own in the place
    /// of one that is bound here unless others have let it in, which makes his list longer:
    /// a wiped member that was started as a new one has no vote.
    pub(super) fn without_usurper(&self, from: MemberId, disk: &DiskId, bound: &Self) -> Self {
        let mut told = self.clone();
        let known = |roster: &Self| roster.0.get(&from).map_or(0, Vec::len);
        let another = bound.current(from).is_some_and(|current| current != disk);
        if another && known(self) <= known(bound) {
            told.0.remove(&from);
        }
        told
    }

    /// All members with a disk that speaks for them.
    pub fn bound(&self) -> impl Iterator<Item = (MemberId, &DiskId)> {
        self.0
            .iter()
            .filter_map(|(member, disks)| Some((*member, disks.last()?)))
    }

    fn rank(disks: Option<&Vec<DiskId>>) -> (usize, Option<&DiskId>) {
        disks.map_or((0, None), |disks| (disks.len(), disks.last()))
    }

    /// Whether `other` knows of a later disk of some member.
    #[must_use]
    pub fn behind(&self, other: &Self) -> bool {
        let later = |(member, theirs): (&MemberId, &Vec<DiskId>)| {
            Self::rank(Some(theirs)) > Self::rank(self.0.get(member))
        };
        other.0.iter().any(later)
    }

    /// Takes the later disks of `other`; which members have another disk now than one
    /// that was bound before, and whether anything changed.
    pub(super) fn merge(&mut self, other: &Self) -> (BTreeSet<MemberId>, bool) {
        let mut replaced = BTreeSet::new();
        let mut changed = false;
        for (member, theirs) in &other.0 {
            let own = self.0.get(member);
            if Self::rank(Some(theirs)) <= Self::rank(own) {
                continue;
            }
            if own.is_some_and(|own| own.last() != theirs.last()) {
                replaced.insert(*member);
            }
            changed = true;
            self.0.insert(*member, theirs.clone());
        }
        (replaced, changed)
    }
}

/// The durable part of one election on one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The highest epoch granted. None up to it is granted again.
    pub known: Option<Epoch>,
    /// The newest grant.
    pub grant: Option<Grant>,
    /// Its holder gave it up: it binds this member no more, also after a restart, and a
    /// late renewal does not bring it back. See `QuorumLease::free`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// The newest checkpoint.
    pub checkpoint: Option<Stored>,
    /// Which disks count.
    pub disks: Roster,
    /// The disk came in for a lost one, and has not yet learned what that one knew: it
    /// has no vote.
    #[serde(default)]
    pub joining: bool,
}
