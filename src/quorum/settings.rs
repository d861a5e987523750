//! What a member of an election is told once.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::lease::Drift;
use crate::peers::{DiskId, MemberId};

/// Who asks for a free lease. The majority's grants make it safe either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The highest live rank, after asking everybody.
    Bully,
    /// The highest live rank, found by a token that goes round.
    Ring,
}

/// What a member of an election is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This member.
    pub own: MemberId,
    /// Its disk.
    pub disk: DiskId,
    /// All members, this one among them.
    pub members: BTreeSet<MemberId>,
    /// Who asks for a free lease.
    pub algorithm: Algorithm,
    /// The bound on each clock's rate; the same on every member.
    pub drift: Drift,
    /// The longest lease that any member asks for.
    pub longest_lease: Duration,
    /// Within how long every question of the own sidecar is answered: a little less than
    /// its call timeout.
    pub patience: Duration,
    /// Seeds the back-off.
    pub seed: u64,
    /// A planted bug, for the simulation that must catch it.
    #[doc(hidden)]
    pub flaw: Option<Flaw>,
}

impl Settings {
    /// Q: any two sets of that many members have one in common.
    #[must_use]
    pub fn quorum(&self) -> usize {
        if self.flaw == Some(Flaw::HalfIsEnough) {
            return self.members.len().div_ceil(2);
        }
        self.members.len() / 2 + 1
    }

    /// How many *other* intact members must tell a blank disk what it may have granted:
    /// enough to meet every quorum that the lost disk was part of.
    #[must_use]
    pub fn welcomes(&self) -> usize {
        self.members.len() - (self.members.len() / 2 + 1) + 1
    }

    /// The other members.
    pub fn others(&self) -> impl Iterator<Item = MemberId> {
        self.members.iter().copied().filter(|id| *id != self.own)
    }

    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// How long a grant binds its acceptor: no holder's clock is so slow that its own
    /// lease outlasts it.
    pub(super) fn bound(&self, lease: Duration) -> Duration {
        if self.has(Flaw::DriftIgnored) {
            return lease;
        }
        self.drift.lengthen(lease) + ROUNDING
    }

    /// How long the holder itself counts on a grant, from before the send.
    pub(super) fn usable(&self, lease: Duration) -> Duration {
        let drift = self.drift.lengthen(lease).saturating_sub(lease);
        lease.saturating_sub(drift).saturating_sub(ROUNDING)
    }
}

const ROUNDING: Duration = Duration::from_millis(1);

/// One broken rule each.
#[doc(hidden)]
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    A1GrantsOldEpochs,
    A2GrantsOverALiveLease,
    A3AnswersWithoutDisk,
    A4RenewsAnybody,
    A5ReleasesAnybody,
    A6RestartFreesTheLease,
    A6EndOutlivesItsGrant,
    A7BlankDiskVotes,
    A7TwoDisksUnderOneId,
    C2OwnGrantLast,
    C4CountsFromTheAnswer,
    DriftIgnored,
    HalfIsEnough,
    OlderEpochsWrite,
    NewHolderTrustsItself,
    NoWriteBack,
    OneAckIsAWrite,
    BackOffNeverEnds,
}
