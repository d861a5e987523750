//! When each lease may be declared over, by this replica's own clock. Pure: every call is
//! told the time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Change, Records, Request};
use crate::lease::{Drift, ElectionName};
use crate::time::Moment;

/// Added to a lease: what rounding to whole milliseconds may take.
const MARGIN: Duration = Duration::from_millis(2);

/// What is to end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A lease, so long after its grant or renewal.
    LeaseOver {
        /// The change that began it.
        seq: u64,
        /// The lease that was asked for.
        ttl: Duration,
    },
    /// A hold. Whoever asked for it lengthened it for drift.
    HoldOver {
        /// The change that began it.
        seq: u64,
        /// How long.
        hold: Duration,
    },
}

impl Until {
    /// What was asked for.
    fn asked(self) -> Duration {
        match self {
            Self::LeaseOver { ttl, .. } => ttl,
            Self::HoldOver { hold, .. } => hold,
        }
    }

    fn seq(self) -> u64 {
        match self {
            Self::LeaseOver { seq, .. } | Self::HoldOver { seq, .. } => seq,
        }
    }

    /// The holder counts from before it sent, on a clock that may be slow, and this
    /// replica from after, on one that may be fast.
    fn span(self, drift: Drift) -> Duration {
        match self {
            Self::LeaseOver { ttl, .. } => drift.lengthen(ttl) + MARGIN,
            Self::HoldOver { hold, .. } => hold + MARGIN,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Stamp {
    seq: u64,
    /// As it was asked for.
    ends: Moment,
    /// Lengthened.
    due: Moment,
}

/// The notes of one replica. After a restart it notes everything anew, which is later.
#[derive(Clone, Debug)]
pub struct Stamps {
    drift: Drift,
    of: BTreeMap<ElectionName, Stamp>,
}

impl Stamps {
    /// Nothing noted; both clocks are off by less than `drift`.
    #[must_use]
    pub fn new(drift: Drift) -> Self {
        Self {
            drift,
            of: BTreeMap::new(),
        }
    }

    /// The record of one election was changed, at `now` at the latest.
    pub fn applied(&mut self, now: Moment, election: &ElectionName, until: Option<Until>) {
        let Some(until) = until else {
            self.of.remove(election);
            return;
        };
        let seq = until.seq();
        if self.of.get(election).is_some_and(|stamp| stamp.seq == seq) {
            return;
        }
        let due = now + until.span(self.drift);
        let ends = now + until.asked();
        self.of.insert(election.clone(), Stamp { seq, ends, due });
    }

    /// All records were replaced by newer ones.
    pub fn replaced(&mut self, now: Moment, records: &Records) {
        let before = std::mem::take(&mut self.of);
        for (election, record) in records.iter() {
            if let Some(stamp) = before.get(election) {
                self.of.insert(election.clone(), *stamp);
            }
            self.applied(now, election, record.until());
        }
    }

    /// What is left of the lease or hold of one election, never more than was asked for;
    /// zero only once it may be declared over.
    #[must_use]
    pub fn left(&self, now: Moment, election: &ElectionName) -> Duration {
        let Some(stamp) = self.of.get(election) else {
            return Duration::ZERO;
        };
        match stamp.ends.since(now) {
            Duration::ZERO => stamp.due.since(now),
            left => left,
        }
    }

    /// The next moment at which something is over.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        self.of.values().map(|stamp| stamp.due).min()
    }

    /// What the Raft leader proposes now.
    #[must_use]
    pub fn over(&self, now: Moment) -> Vec<Request> {
        let over = self.of.iter().filter(|(_, stamp)| stamp.due <= now);
        over.map(|(election, stamp)| Request {
            election: election.clone(),
            change: Change::Expire { seq: stamp.seq },
        })
        .collect()
    }
}
