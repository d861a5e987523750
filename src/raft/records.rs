//! What the log says: the records of all elections, changed by one request at a time.
//! Pure, and the same on each replica: whatever is not in the request has no say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Until;
use crate::lease::register::{Present, Register};
use crate::lease::{
    Acquired, Bid, Checkpoint, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim,
    ElectionName, Hint, HoldReason, NodeId, Observed, Released, Renewed,
};
use crate::time::UnixMs;

/// Where the register's clock stands, always. Leases end by entries of the log, so for
/// the register no time passes.
const STILL_MS: u64 = 1;

fn present(wall: UnixMs) -> Present<'static> {
    Present {
        lease_ms: STILL_MS,
        wall,
        server: "",
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Of which election.
    pub election: ElectionName,
    /// What is asked.
    pub change: Change,
}

/// What may be asked of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// For the lease.
    Acquire {
        /// Who asks, for what.
        bid: Bid,
        /// The Raft leader's wall clock when it took the request: epochs are at least at
        /// it, so that even members who lost all their disks repeat none.
        wall: UnixMs,
    },
    /// To go on with the lease.
    Renew(Claim),
    /// To give it back.
    Release {
        /// Whose.
        claim: Claim,
        /// Who may try first.
        prefer: Option<NodeId>,
    },
    /// For the checkpoint.
    Write(CheckpointWrite),
    /// The lease, or the hold, that this change began is over; a later change wins.
    Expire {
        /// Which change of the record.
        seq: u64,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// To a bid. What is left of another's lease is its whole TTL here: only a replica's
    /// own clock knows better.
    Acquired(Acquired),
    /// To a bid: no epoch is left.
    Exhausted(String),
    /// To a renewal.
    Renewed(Renewed),
    /// To a release.
    Released(Released),
    /// To a checkpoint.
    Written(CheckpointWritten),
    /// To an expiry: whether something ended by it.
    Expired(bool),
}

/// One election.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    register: Register,
    checkpoint: Option<Checkpoint>,
    /// Counts the changes that begin or end a wait.
    seq: u64,
}

impl Record {
    /// Looks at it. What is left of a lease is its whole TTL here.
    #[must_use]
    pub fn observe(&self) -> Observed {
        self.register.clone().observe(present(UnixMs(0)))
    }

    /// Reads the checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointRead {
        let state = self.register.state.as_ref();
        match (&self.checkpoint, state.and_then(|state| state.checkpoint)) {
            (Some(checkpoint), _) => CheckpointRead::Present(checkpoint.clone()),
            (None, Some(revision)) => CheckpointRead::Lost(revision),
            (None, None) => CheckpointRead::Absent,
        }
    }

    /// What `bid` is answered where that changes nothing: an entry is not needed then.
    #[must_use]
    pub fn idle_answer(&self, bid: &Bid) -> Option<Acquired> {
        let mut tried = self.register.clone();
        match tried.acquire(bid, present(UnixMs(0))) {
            Ok(answer @ Acquired::Held { .. }) => Some(answer),
            Ok(
                answer @ Acquired::Hold {
                    why: HoldReason::Standing,
                    ..
                },
            ) => Some(answer),
            _ => None,
        }
    }

    /// What is to end by itself, and how long after it was applied.
    #[must_use]
    pub fn until(&self) -> Option<Until> {
        let seq = self.seq;
        let span = |until_ms: u64| std::time::Duration::from_millis(until_ms - STILL_MS);
        if let Some(leader) = &self.register.leader {
            let ttl = span(leader.expires_ms.max(STILL_MS));
            return Some(Until::LeaseOver { seq, ttl });
        }
        let hold_until_ms = self.register.state.as_ref()?.hold_until_ms;
        (hold_until_ms > STILL_MS).then(|| Until::HoldOver {
            seq,
            hold: span(hold_until_ms),
        })
    }

    fn expire(&mut self, seq: u64) -> bool {
        if seq != self.seq || self.until().is_none() {
            return false;
        }
        self.register.leader = None;
        if let Some(state) = &mut self.register.state {
            // In time, and by the rules: no later bidder finds it missing.
            state.expires_ms = 0;
            state.hold_until_ms = 0;
        }
        self.seq += 1;
        true
    }

    fn write(&mut self, write: &CheckpointWrite) -> CheckpointWritten {
        let stored = self.checkpoint.as_ref().map(|stored| stored.revision);
        let answer = self.register.write_checkpoint(write, stored);
        if let CheckpointWritten::Written(revision) = answer {
            self.checkpoint = Some(Checkpoint {
                revision,
                bytes: write.bytes.clone(),
            });
        }
        answer
    }

    fn apply(&mut self, change: &Change) -> (Outcome, Option<Hint>) {
        match change {
            Change::Acquire { bid, wall } => self.acquire(bid, *wall),
            Change::Renew(claim) => {
                let answer = self.register.renew(claim, present(UnixMs(0)));
                self.seq += u64::from(matches!(answer, Renewed::Kept { .. }));
                (Outcome::Renewed(answer), None)
            }
            Change::Release { claim, prefer } => {
                let held = self.register.leader.is_some();
                let answer = self.register.release(claim, present(UnixMs(0)));
                self.seq += u64::from(held && self.register.leader.is_none());
                let told = (answer == Released::Released).then(|| Hint::Ended {
                    epoch: claim.epoch,
                    prefer: prefer.clone(),
                });
                (Outcome::Released(answer), told)
            }
            Change::Write(write) => (Outcome::Written(self.write(write)), None),
            Change::Expire { seq } => {
                let over = self.expire(*seq);
                let told = over.then(|| Hint::Present(self.observe()));
                (Outcome::Expired(over), told)
            }
        }
    }

    fn acquire(&mut self, bid: &Bid, wall: UnixMs) -> (Outcome, Option<Hint>) {
        let before = self.register.epoch();
        let answer = match self.register.acquire(bid, present(wall)) {
            Ok(answer) => answer,
            Err(error) => return (Outcome::Exhausted(error.to_string()), None),
        };
        let told = match answer {
            Acquired::Won { epoch, .. } if before != Some(epoch) => Some(Hint::Began(epoch)),
            _ => None,
        };
        let begins = match answer {
            Acquired::Won { .. } => true,
            Acquired::Hold { why, .. } => why != HoldReason::Standing,
            Acquired::Held { .. } => false,
        };
        self.seq += u64::from(begins);
        (Outcome::Acquired(answer), told)
    }
}

/// All elections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Records(BTreeMap<ElectionName, Record>);

impl Records {
    /// Applies one request; the wake-up that the waiting are owed.
    pub fn apply(&mut self, request: &Request) -> (Outcome, Option<Hint>) {
        // What never was cannot end, and a record is for ever.
        if let Change::Expire { .. } = request.change
            && !self.0.contains_key(&request.election)
        {
            return (Outcome::Expired(false), None);
        }
        let record = self.0.entry(request.election.clone()).or_default();
        record.apply(&request.change)
    }

    /// One election's record; empty where nothing was ever asked.
    #[must_use]
    pub fn get(&self, election: &ElectionName) -> Record {
        self.0.get(election).cloned().unwrap_or_default()
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ElectionName, &Record)> {
        self.0.iter()
    }
}
