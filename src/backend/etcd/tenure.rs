//! Going on with a lease, and giving it back.

use std::sync::Arc;

use super::change::Change;
use super::election::{Committed, Election, TRIES, busy, seconds_of};
use super::link::Deadline;
use super::record::{Owner, Record, Stored};
use crate::lease::register::State;
use crate::lease::{Claim, NodeId, Released, Renewed, StoreError};

impl Owner {
    fn of(claim: &Claim) -> Self {
        Self {
            epoch: claim.epoch,
            session: claim.session.clone(),
        }
    }
}

impl Election {
    pub(super) async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        claim.check()?;
        let deadline = self.link().deadline();
        if let Some(lease) = self.lease_of(&Owner::of(claim)) {
            return self.keep(claim, lease, deadline).await;
        }
        let record = self.topic.read(deadline).await?;
        match record.lease_of(claim) {
            Some(lease) => self.keep(claim, lease, deadline).await,
            None => Ok(self.lost(claim, &record)),
        }
    }

    /// Keeps the claim's etcd lease alive, and makes sure that the record still says
    /// that it is the claim's: a keep-alive does not see that keys were deleted.
    pub(super) async fn keep(
        &self,
        claim: &Claim,
        lease: i64,
        deadline: Deadline,
    ) -> Result<Renewed, StoreError> {
        let answer = self.renewer.renew(self.link(), deadline, lease).await?;
        if answer.ttl <= 0 {
            self.forget(claim);
            // Whether or not anybody can tell who holds it now.
            return Ok(match self.topic.read(deadline).await {
                Ok(record) => self.lost(claim, &record),
                Err(_) => Renewed::Lost(None),
            });
        }
        let left = seconds_of(answer.ttl);
        let known = self.topic.known();
        // Nothing in all of etcd has changed since the record was known to be so.
        let unchanged = |record: &Arc<Record>| Some(record.revision) == answer.revision;
        let record = match known.filter(unchanged) {
            Some(record) => record,
            None => self.topic.read(deadline).await?,
        };
        if record.lease_of(claim) != Some(lease) {
            self.forget(claim);
            return Ok(self.lost(claim, &record));
        }
        self.hold_on(Owner::of(claim), lease);
        Ok(Renewed::Kept { left })
    }

    fn forget(&self, claim: &Claim) {
        self.let_go(&Owner::of(claim));
        self.renewer.rest();
    }

    /// Who holds the lease instead of the claim. Where the record names the claim and is
    /// not whole, nobody does.
    fn lost(&self, claim: &Claim, record: &Record) -> Renewed {
        let answer = record.register().renew(claim, record.present(self.wall()));
        match answer {
            Renewed::Kept { .. } => Renewed::Lost(None),
            lost @ Renewed::Lost(_) => lost,
        }
    }

    pub(super) async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        let deadline = self.link().deadline();
        // What was known last saves a read: where it is out of date, nothing is applied.
        let mut at_hand = self.topic.known().map(|record| (record, false));
        for _ in 0..TRIES {
            let (record, sure) = match at_hand.take() {
                Some(record) => record,
                None => (self.topic.read(deadline).await?, true),
            };
            let owner = Owner::of(claim);
            let Some(leader) = record
                .leader
                .as_ref()
                .filter(|leader| leader.value == owner)
            else {
                if sure {
                    self.forget(claim);
                    let present = record.present(self.wall());
                    return Ok(record.register().release(claim, present));
                }
                continue;
            };
            let change = self.freed(&record, claim, leader.lease, prefer)?;
            match self.commit(deadline, change).await? {
                Committed::Applied(_) => {
                    // The etcd lease holds nothing any more. The next leader goes on with
                    // it, or it runs out.
                    self.forget(claim);
                    return Ok(Released::Released);
                }
                Committed::Beaten(record) => at_hand = Some((record, true)),
            }
        }
        Err(busy())
    }

    /// The change that gives the claim's lease back.
    fn freed(
        &self,
        record: &Record,
        claim: &Claim,
        lease: i64,
        prefer: Option<&NodeId>,
    ) -> Result<Change<'_>, StoreError> {
        let mut register = record.register();
        register.release(claim, record.present(self.wall()));
        let change = Change::of(&self.topic.keys, record).free();
        let of_claim = |state: &&State| state.epoch == claim.epoch;
        let Some(state) = register.state.as_ref().filter(of_claim) else {
            return Ok(change);
        };
        let stored = record.state.as_ref().map(|state| &state.value);
        change.state(&Stored {
            granted_ms: stored.map_or(state.ttl_ms, |stored| stored.granted_ms),
            raft_term: stored.map_or(0, |stored| stored.raft_term),
            prefer: prefer.cloned(),
            handed_over: Some(lease),
            ..Stored::of(state)
        })
    }
}
