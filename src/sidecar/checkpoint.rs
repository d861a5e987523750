//! The checkpoint as the app uses it: read by every node, written by the leader.

use super::election::Election;
use crate::lease::checkpoint::MAX_BYTES;
use crate::lease::{
    Checkpoint, CheckpointRead, CheckpointWrite, CheckpointWritten, Epoch, Revision, StoreError,
};

/// What must be stored for a write to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// What this node last saw: a delayed older write never lands on a newer one.
    LastKnown,
    /// Exactly this revision.
    Matches(Revision),
    /// No value, or one that was lost.
    Absent,
}

/// Why a checkpoint was not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The value.
    #[error("the checkpoint has {0} bytes; at most {MAX_BYTES} are kept")]
    TooLarge(usize),
    /// The token.
    #[error("the fencing token is not the one under which this node leads")]
    Stale {
        /// The newest epoch known.
        epoch: Option<Epoch>,
        /// The stored revision, where it could be read.
        revision: Option<Revision>,
    },
    /// The condition.
    #[error("another revision is stored")]
    Mismatch {
        /// The stored revision.
        revision: Option<Revision>,
    },
    /// The store lost a value that was there.
    #[error("the store has lost the checkpoint that was there at revision {lost}")]
    Lost {
        /// What was there.
        lost: Revision,
        /// An older value that is stored instead.
        stored: Option<Revision>,
    },
    /// The store.
    #[error("{0}")]
    Store(StoreError),
}

impl Election {
    /// Reads the checkpoint; `None` before the first write.
    ///
    /// # Errors
    /// [`CheckpointError::Lost`] where this node or the store knows of a newer value
    /// than the one stored; [`CheckpointError::Store`].
    pub async fn read_checkpoint(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let caller = &self.shared().caller;
        // Taken before the store is asked: against what is remembered meanwhile, by a
        // write beside this read, an answer that is merely older would look like a loss.
        let remembered = caller.memory.checkpoint();
        let read = caller.for_app(caller.backend.read_checkpoint()).await;
        match read.map_err(CheckpointError::Store)? {
            CheckpointRead::Present(checkpoint) => {
                let stored = checkpoint.revision;
                match remembered {
                    Some(lost) if lost > stored => Err(CheckpointError::Lost {
                        lost,
                        stored: Some(stored),
                    }),
                    _ => {
                        self.remember(stored).await?;
                        Ok(Some(checkpoint))
                    }
                }
            }
            CheckpointRead::Lost(lost) => Err(CheckpointError::Lost {
                lost: remembered.map_or(lost, |seen| seen.max(lost)),
                stored: None,
            }),
            CheckpointRead::Absent => match remembered {
                Some(lost) => Err(CheckpointError::Lost { lost, stored: None }),
                None => Ok(None),
            },
        }
    }

    /// Writes the checkpoint under a fencing token.
    ///
    /// # Errors
    /// [`CheckpointError`]. After [`StoreError::Indeterminate`] it may have been
    /// written: read and compare.
    pub async fn write_checkpoint(
        &self,
        token: Epoch,
        condition: Condition,
        bytes: Vec<u8>,
    ) -> Result<Revision, CheckpointError> {
        let answer = self.write_if(token, condition, bytes).await;
        self.metrics().checkpoint_write(&answer);
        answer
    }

    async fn write_if(
        &self,
        token: Epoch,
        condition: Condition,
        bytes: Vec<u8>,
    ) -> Result<Revision, CheckpointError> {
        if bytes.len() > MAX_BYTES {
            return Err(CheckpointError::TooLarge(bytes.len()));
        }
        // Held until the answer: two writes without a condition keep their order.
        let mut known = self.shared().last_known.known.lock().await;
        let expected = match condition {
            Condition::Matches(revision) => Some(revision),
            Condition::Absent => self.stored_instead().await?,
            Condition::LastKnown => match *known {
                Some((epoch, revision)) if epoch == token => revision,
                _ => self
                    .read_checkpoint()
                    .await?
                    .map(|checkpoint| checkpoint.revision),
            },
        };
        // Judged last, so that no wait lies between this look at the clock and the
        // send; what the store then decides is by its own epoch.
        if self.fence_token() != Some(token) {
            return Err(self.stale().await);
        }
        *known = None;
        let caller = &self.shared().caller;
        let write = CheckpointWrite {
            epoch: token,
            session: caller.session.clone(),
            expected,
            bytes,
        };
        let written = caller
            .bounded(caller.backend.write_checkpoint(&write))
            .await;
        match written.map_err(CheckpointError::Store)? {
            CheckpointWritten::Written(revision) => {
                *known = Some((token, Some(revision)));
                self.remember(revision).await?;
                Ok(revision)
            }
            CheckpointWritten::Stale { epoch, revision } => {
                Err(CheckpointError::Stale { epoch, revision })
            }
            CheckpointWritten::Mismatch { revision } => Err(CheckpointError::Mismatch { revision }),
        }
    }

    /// For a write over "no value": the older value that stands where a newer one was
    /// lost is to be replaced; any other value is not.
    async fn stored_instead(&self) -> Result<Option<Revision>, CheckpointError> {
        match self.read_checkpoint().await {
            Ok(None) => Ok(None),
            Ok(Some(checkpoint)) => Err(CheckpointError::Mismatch {
                revision: Some(checkpoint.revision),
            }),
            Err(CheckpointError::Lost { stored, .. }) => Ok(stored),
            Err(error) => Err(error),
        }
    }

    /// A refusal with what the store holds, where it can be read.
    async fn stale(&self) -> CheckpointError {
        let caller = &self.shared().caller;
        let observed = caller.for_app(caller.backend.observe()).await.ok();
        let revision = match self.read_checkpoint().await {
            Ok(Some(checkpoint)) => Some(checkpoint.revision),
            Err(CheckpointError::Lost { stored, .. }) => stored,
            _ => caller.memory.checkpoint(),
        };
        let epoch = observed
            .and_then(|observed| observed.epoch)
            .max(self.snapshot().term);
        CheckpointError::Stale { epoch, revision }
    }

    async fn remember(&self, revision: Revision) -> Result<(), CheckpointError> {
        let seen = self.shared().caller.memory.see_checkpoint(revision).await;
        // The value is stored; what may be forgotten is that it was.
        seen.map_err(|error| CheckpointError::Store(StoreError::Indeterminate(error.to_string())))
    }
}
