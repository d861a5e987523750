//! Asking for the lease.
//!
//! The invariant: a new epoch is granted only where the etcd lease of the one before is
//! known to be dead, by its expiry or its release. Where it may have been told in any
//! other way to go on, it is revoked first, and from then on a hold of the longest TTL
//! known must pass. Only the incumbent, still inside its lease, needs no hold.
//!
//! A lease that etcd ended takes both of its keys along in one step, so a lease key
//! that stands alone tells of a leader key that somebody deleted. What an operator's
//! `lease revoke` ends looks like an expiry; that is left to the fence.

use std::sync::Arc;
use std::time::Duration;

use super::change::Change;
use super::election::{Committed, Election, Granted, TRIES, busy, exhausted, seconds_of};
use super::link::Deadline;
use super::record::{Owner, Record, Stored};
use crate::lease::register::Register;
use crate::lease::{Acquired, Bid, Claim, Epoch, HoldReason, Renewed, StoreError};
use crate::time::{millis, pause};

/// A member may not know yet of a lease that another one has just granted.
const LEASE_ON_ITS_WAY: Duration = Duration::from_millis(5);

/// What one attempt came to.
enum Step {
    Answer(Acquired),
    /// To be tried again from this record; from a fresh one where there is none.
    Again(Option<Arc<Record>>),
}

/// One call to acquire.
struct Attempt<'a> {
    election: &'a Election,
    bid: &'a Bid,
    deadline: Deadline,
    /// Granted in this call, so that its time counts from after the call began.
    lease: Option<Granted>,
    /// What was handed over is dead.
    heirless: bool,
}

impl Election {
    pub(super) async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        bid.check()?;
        let mut attempt = Attempt {
            election: self,
            bid,
            deadline: self.link().deadline(),
            lease: None,
            heirless: false,
        };
        let answer = attempt.run().await;
        // It may be the leader's now, unless that is known not to be so.
        let unsure = matches!(&answer, Err(error) if error.may_have_happened());
        if let Some(lease) = attempt.lease.take_if(|_| !unsure) {
            self.drop_lease(lease.id);
        }
        answer
    }
}

impl Attempt<'_> {
    async fn run(&mut self) -> Result<Acquired, StoreError> {
        // What was known last saves a read where the lease is free. It is only ever
        // tried: no answer is given from it.
        let mut at_hand = self.election.topic.known().map(|record| (record, false));
        for _ in 0..TRIES {
            let (record, sure) = match at_hand.take() {
                Some(record) => record,
                None => (self.election.topic.read(self.deadline).await?, true),
            };
            match self.step(record, sure).await? {
                Step::Answer(answer) => return Ok(answer),
                Step::Again(record) => at_hand = record.map(|record| (record, true)),
            }
        }
        Err(busy())
    }

    async fn step(&mut self, record: Arc<Record>, sure: bool) -> Result<Step, StoreError> {
        let mut register = record.register();
        let present = record.present(self.election.wall());
        let answer = register.acquire(self.bid, present).map_err(exhausted)?;
        match answer {
            Acquired::Won { epoch, .. } if record.epoch_in_force() != Some(epoch) => {
                self.grant(record, &register, epoch).await
            }
            _ if !sure => Ok(Step::Again(None)),
            Acquired::Won { epoch, .. } => self.own(&record, epoch).await,
            Acquired::Hold { why, .. } => self.hold(&record, &register, why).await,
            Acquired::Held { .. } => Ok(Step::Answer(answer)),
        }
    }

    /// The bidder has won that epoch before, and lost the answer.
    async fn own(&mut self, record: &Record, epoch: Epoch) -> Result<Step, StoreError> {
        let claim = Claim {
            epoch,
            session: self.bid.session.clone(),
            ttl: self.bid.ttl,
            hold: self.bid.hold,
        };
        let Some(lease) = record.lease_of(&claim) else {
            // Not whole: it needs a new epoch, and the old lease is the bidder's own.
            return self.anew(record, epoch).await;
        };
        let kept = self.election.keep(&claim, lease, self.deadline).await?;
        Ok(match kept {
            Renewed::Kept { left } => Step::Answer(Acquired::Won { epoch, left }),
            Renewed::Lost(_) => Step::Again(None),
        })
    }

    /// Replaces the bidder's own lease, as if it had called that epoch dead.
    async fn anew(&mut self, record: &Record, dead: Epoch) -> Result<Step, StoreError> {
        let bid = Bid {
            floor: self.bid.floor.max(Some(dead)),
            ..self.bid.clone()
        };
        let mut register = record.register();
        let present = record.present(self.election.wall());
        match register.acquire(&bid, present).map_err(exhausted)? {
            Acquired::Won { epoch, .. } => {
                self.grant(Arc::new(record.clone()), &register, epoch).await
            }
            Acquired::Hold { why, .. } => self.hold(record, &register, why).await,
            held @ Acquired::Held { .. } => Ok(Step::Answer(held)),
        }
    }

    async fn grant(
        &mut self,
        record: Arc<Record>,
        register: &Register,
        epoch: Epoch,
    ) -> Result<Step, StoreError> {
        let owner = Owner {
            epoch,
            session: self.bid.session.clone(),
        };
        let handed_over = record.handed_over(self.bid.ttl);
        let handed_over = handed_over.filter(|_| self.lease.is_none() && !self.heirless);
        if let Some(lease) = handed_over
            && let Some(step) = self.inherit(&record, register, &owner, lease).await?
        {
            return Ok(step);
        }
        let lease = match self.lease {
            Some(lease) => lease,
            None => self.election.grant(self.deadline, self.bid.ttl).await?,
        };
        self.lease = Some(lease);
        self.election.tell_of_rounding(self.bid.ttl, lease.ttl);
        if self.is_beaten(&record) {
            return Ok(Step::Again(None));
        }
        let change = self.granted(&record, register, &owner, lease)?;
        match self.election.commit(self.deadline, change).await {
            Ok(Committed::Applied(_)) => {
                self.lease = None;
                self.election.hold_on(owner, lease.id);
                // The bidder's own, under an epoch that it called dead.
                if let Some(before) = record.orphan() {
                    self.election.drop_lease(before);
                }
                let left = lease.ttl;
                Ok(Step::Answer(Acquired::Won { epoch, left }))
            }
            Ok(Committed::Beaten(record)) => Ok(Step::Again(Some(record))),
            Err(failure) if failure.lease_gone => {
                pause(LEASE_ON_ITS_WAY).await;
                Ok(Step::Again(None))
            }
            Err(failure) => Err(failure.error),
        }
    }

    /// Goes on with the etcd lease that the last holder left alive, which saves a write to
    /// all of etcd: the transaction that names the new holder and a keep-alive, whose
    /// answer only the leading member gives, go together. `None` where that lease is dead.
    /// It is nobody's own: it is never revoked from here.
    async fn inherit(
        &mut self,
        record: &Record,
        register: &Register,
        owner: &Owner,
        lease: Granted,
    ) -> Result<Option<Step>, StoreError> {
        let (election, deadline) = (self.election, self.deadline);
        let change = self.granted(record, register, owner, lease)?;
        let kept = election.renewer.renew(election.link(), deadline, lease.id);
        let (committed, kept) = tokio::join!(election.commit(deadline, change), kept);
        match committed {
            Ok(Committed::Applied(_)) => {
                // Whatever became of the keep-alive: the keys are there.
                let kept = kept.map_err(|error| StoreError::Indeterminate(error.to_string()))?;
                if kept.ttl <= 0 {
                    // It ended after all, and the keys with it.
                    self.heirless = true;
                    return Ok(Some(Step::Again(None)));
                }
                election.hold_on(owner.clone(), lease.id);
                let left = seconds_of(kept.ttl);
                election.tell_of_rounding(self.bid.ttl, left);
                let epoch = owner.epoch;
                Ok(Some(Step::Answer(Acquired::Won { epoch, left })))
            }
            Ok(Committed::Beaten(record)) => {
                election.renewer.rest();
                Ok(Some(Step::Again(Some(record))))
            }
            Err(failure) if failure.lease_gone => {
                election.renewer.rest();
                self.heirless = true;
                Ok(None)
            }
            Err(failure) => Err(failure.error),
        }
    }

    /// Whether a hint has told meanwhile that somebody else was quicker.
    fn is_beaten(&self, record: &Record) -> bool {
        let known = self.election.topic.known();
        known.is_some_and(|known| known.revision > record.revision && known.leader.is_some())
    }

    fn granted(
        &self,
        record: &Record,
        register: &Register,
        owner: &Owner,
        lease: Granted,
    ) -> Result<Change<'_>, StoreError> {
        let mut change = Change::of(&self.election.topic.keys, record).grant(owner, lease.id);
        if record.hold.is_some() {
            change = change.unhold();
        }
        match &register.state {
            Some(state) => change.state(&Stored {
                granted_ms: millis(lease.ttl),
                raft_term: record.raft_term,
                ..Stored::of(state)
            }),
            None => Ok(change),
        }
    }

    /// Nobody is granted the lease for a while. The first to find that out writes it
    /// down.
    async fn hold(
        &mut self,
        record: &Record,
        register: &Register,
        why: HoldReason,
    ) -> Result<Step, StoreError> {
        let Some(state) = &register.state else {
            return Ok(Step::Again(None));
        };
        let orphan = record.orphan();
        if why == HoldReason::Standing && orphan.is_none() {
            return self.wait_out(record, why).await;
        }
        let state = Stored {
            revoke: orphan,
            ..Stored::of(state)
        };
        let Some(orphan) = orphan else {
            return self.begin_hold(record, &state, why).await;
        };
        // Marked first: should this process end before the lease is dead, the next one
        // goes on from here, and nobody takes the end of that lease for an expiry.
        let marked = record.state.as_ref().is_some_and(|stored| {
            stored.value.revoke == Some(orphan) && record.leader.is_none() && record.lease.is_none()
        });
        let record = if marked && why == HoldReason::Standing {
            record.clone()
        } else {
            let change = Change::of(&self.election.topic.keys, record)
                .free()
                .state(&state)?;
            match self.election.commit(self.deadline, change).await? {
                Committed::Applied(record) => (*record).clone(),
                Committed::Beaten(record) => return Ok(Step::Again(Some(record))),
            }
        };
        self.election.revoke(self.deadline, orphan).await?;
        let state = Stored {
            revoke: None,
            ..state
        };
        self.begin_hold(&record, &state, why).await
    }

    /// From now on the hold counts: no lease is alive that could be told to go on.
    async fn begin_hold(
        &mut self,
        record: &Record,
        state: &Stored,
        why: HoldReason,
    ) -> Result<Step, StoreError> {
        let span = Duration::from_millis(state.hold_ms);
        let lease = self.election.grant(self.deadline, span).await?;
        let change = Change::of(&self.election.topic.keys, record)
            .hold(lease.id)
            .state(state)?;
        match self.election.commit(self.deadline, change).await {
            Ok(Committed::Applied(_)) => {
                let retry_in = lease.ttl;
                Ok(Step::Answer(Acquired::Hold { retry_in, why }))
            }
            Ok(Committed::Beaten(record)) => {
                self.election.drop_lease(lease.id);
                Ok(Step::Again(Some(record)))
            }
            Err(failure) => Err(failure.error),
        }
    }

    /// A hold that stands already.
    async fn wait_out(&self, record: &Record, why: HoldReason) -> Result<Step, StoreError> {
        let Some(hold) = &record.hold else {
            return Ok(Step::Again(None));
        };
        let left = self.election.left_of(self.deadline, hold.lease).await?;
        // Told in whole seconds, rounded down.
        let retry_in = left.map_or(Duration::ZERO, |left| left + Duration::from_secs(1));
        Ok(Step::Answer(Acquired::Hold { retry_in, why }))
    }
}
