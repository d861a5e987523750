//! A sidecar's calls on one election.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio_stream::wrappers::BroadcastStream;

use super::member::Door;
use super::{Running, Shared};
use crate::backend::{Backend, Hints, PeerCount};
use crate::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, Hint,
    NodeId, Observed, Released, Renewed, StoreError,
};
use crate::quorum::{Answer, Request};
use crate::time::pause;

/// Between two looks where too few members answer.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

pub(super) struct QuorumElection {
    running: Arc<Running>,
    door: Option<Door>,
}

impl QuorumElection {
    pub fn new(running: Arc<Running>, name: &ElectionName) -> Self {
        let door = Shared::door(&running.shared, name, false);
        Self { running, door }
    }

    async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        match &self.door {
            Some(door) => door.ask(request).await,
            None => Err(StoreError::Unavailable(
                "this member has stopped".to_owned(),
            )),
        }
    }
}

fn other(answer: &Answer) -> StoreError {
    StoreError::Indeterminate(format!("another question was answered: {answer:?}"))
}

#[async_trait]
impl Backend for QuorumElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        let wall = self.running.shared.clock.wall();
        let bid = bid.clone();
        match self.ask(Request::Acquire { bid, wall }).await? {
            Answer::Acquired(answer) => Ok(answer),
            answer => Err(other(&answer)),
        }
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        match self.ask(Request::Renew(claim.clone())).await? {
            Answer::Renewed(answer) => Ok(answer),
            answer => Err(other(&answer)),
        }
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        let (claim, prefer) = (claim.clone(), prefer.cloned());
        match self.ask(Request::Release { claim, prefer }).await? {
            Answer::Released(answer) => Ok(answer),
            answer => Err(other(&answer)),
        }
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        match self.ask(Request::Observe).await? {
            Answer::Observed(answer) => Ok(answer),
            answer => Err(other(&answer)),
        }
    }

    fn changes(&self) -> Hints {
        let Some(door) = self.door.clone() else {
            return stream::pending().boxed();
        };
        // Subscribed before the state is read, so that no change falls in between.
        let hints = BroadcastStream::new(door.listen());
        let running = Arc::clone(&self.running);
        let first = stream::once(present(door.clone()));
        let later = hints.flat_map(move |hint| {
            let _alive = &running;
            match hint {
                Ok(Hint::Gap) | Err(_) => {
                    let gap = stream::iter([Hint::Gap]);
                    gap.chain(stream::once(present(door.clone()))).boxed()
                }
                Ok(hint) => stream::iter([hint]).boxed(),
            }
        });
        first.chain(later).boxed()
    }

    fn peers(&self) -> Option<PeerCount> {
        Some(self.running.peers())
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        match self.ask(Request::Read).await? {
            Answer::Read(answer) => Ok(answer),
            answer => Err(other(&answer)),
        }
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        match self.ask(Request::Write(write.clone())).await? {
            Answer::Written(answer) => Ok(answer),
            answer => Err(other(&answer)),
        }
    }
}

/// The state, once a majority tells it.
async fn present(door: Door) -> Hint {
    loop {
        if let Ok(Answer::Observed(observed)) = door.glimpse().await {
            return Hint::Present(observed);
        }
        pause(LOOK_AGAIN).await;
    }
}
