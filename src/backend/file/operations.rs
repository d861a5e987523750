//! The operations of an election, each a decision by the register's rules.

use async_trait::async_trait;

use super::election::{ATTEMPTS, Commit, Decision, FileElection};
use super::head::Durability;
use super::record;
use super::watch;
use crate::backend::{Backend, Hints};
use crate::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, HoldReason, NodeId,
    Observed, Released, Renewed, StoreError,
};

impl FileElection {
    fn acquire_now(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        self.update(|record, present| {
            let before = record.register.leader.clone();
            let answer = record.register.acquire(bid, present);
            let answer = answer.map_err(|error| StoreError::Rejected(error.to_string()))?;
            let mut commit = Commit::new(answer.clone(), Durability::Disk);
            match &answer {
                Acquired::Won { epoch, .. } => {
                    let prolonged = before.filter(|leader| leader.epoch == *epoch);
                    if prolonged.is_none() {
                        record.prefer = None;
                    }
                    commit.not_after_ms = prolonged.map(|leader| leader.expires_ms);
                    Ok(Decision::Commit(commit))
                }
                Acquired::Hold { why, .. } if *why != HoldReason::Standing => {
                    Ok(Decision::Commit(commit))
                }
                Acquired::Hold { .. } | Acquired::Held { .. } => Ok(Decision::Leave(answer)),
            }
        })
    }

    fn renew_now(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        self.update(|record, present| {
            let before = record.register.leader.clone();
            let answer = record.register.renew(claim, present);
            if answer != (Renewed::Kept { left: claim.ttl }) {
                return Ok(Decision::Leave(answer));
            }
            let mut commit = Commit::new(answer, Durability::PageCache);
            commit.not_after_ms = before.map(|leader| leader.expires_ms);
            Ok(Decision::Commit(commit))
        })
    }

    fn release_now(&self, claim: &Claim, prefer: Option<&NodeId>) -> Result<Released, StoreError> {
        self.update(|record, present| {
            let held = record.register.leader.is_some();
            let answer = record.register.release(claim, present);
            // Released before, by a call whose answer was lost: all is said.
            if answer == Released::NotHeld || !held {
                return Ok(Decision::Leave(answer));
            }
            record.prefer = prefer.cloned();
            let mut commit = Commit::new(answer, Durability::PageCache);
            // Removing files locks the folder for milliseconds, just when the next
            // leader wants it; its own commit removes them.
            commit.tidies = false;
            Ok(Decision::Commit(commit))
        })
    }

    fn read_checkpoint_now(&self) -> Result<CheckpointRead, StoreError> {
        for _ in 0..ATTEMPTS {
            let (head, record) = self.read()?;
            let written = record.register.state.as_ref();
            let written = written.and_then(|state| state.checkpoint);
            match (self.value_of(&record)?, written) {
                (Some(checkpoint), _) => return Ok(CheckpointRead::Present(checkpoint)),
                (None, None) => return Ok(CheckpointRead::Absent),
                (None, Some(revision)) => {
                    // A newer value may have replaced it meanwhile.
                    if let Some(head) = head
                        && self.stands(&head)?
                    {
                        return Ok(CheckpointRead::Lost(revision));
                    }
                }
            }
        }
        Err(self.contended())
    }

    fn write_checkpoint_now(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        self.update(|record, _present| {
            let stored = self.value_of(record)?;
            let stored = stored.map(|checkpoint| checkpoint.revision);
            let answer = record.register.write_checkpoint(write, stored);
            let CheckpointWritten::Written(revision) = answer else {
                return Ok(Decision::Leave(answer));
            };
            let mut commit = Commit::new(answer, Durability::Disk);
            commit.checkpoint = Some(record::checkpoint_bytes(revision, &write.bytes));
            Ok(Decision::Commit(commit))
        })
    }
}

#[async_trait]
impl Backend for FileElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        bid.check()?;
        let bid = bid.clone();
        self.blocking(move |here| here.acquire_now(&bid)).await
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        claim.check()?;
        let claim = claim.clone();
        self.blocking(move |here| here.renew_now(&claim)).await
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        let (claim, prefer) = (claim.clone(), prefer.cloned());
        self.blocking(move |here| here.release_now(&claim, prefer.as_ref()))
            .await
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        self.blocking(|here| Ok(here.look()?.1)).await
    }

    fn changes(&self) -> Hints {
        watch::hints(self.clone())
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        self.blocking(Self::read_checkpoint_now).await
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        let write = write.clone();
        self.blocking(move |here| here.write_checkpoint_now(&write))
            .await
    }
}
