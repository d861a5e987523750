//! The sidecars themselves, by a log that they replicate: no store is needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Answer, Backend, Guarantees, Hints, Membership, PeerCount, Scope, Seats, Store};
use crate::cluster::{ClusterStatus, LogStatus, Role, SeatChange};
use crate::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, Hint,
    NodeId, Observed, Released, Renewed, StoreError,
};
use crate::peers::MemberError;
use crate::raft::{Change, Outcome, RaftNode};
use crate::time::UnixMs;

/// What an entry takes from being proposed to being applied, in a healthy cluster.
pub const EXPIRY_STEP: Duration = Duration::from_millis(50);

/// One member, as the store of its sidecar.
#[derive(Clone)]
pub struct RaftStore {
    node: Arc<RaftNode>,
    call_timeout: Duration,
    /// The operator was told whether the voters are well chosen.
    voters_told: Arc<Once>,
    /// What this node gave back, and of which TTL.
    given_back: Arc<Mutex<HashMap<ElectionName, Duration>>>,
}

impl RaftStore {
    /// Each call takes `call_timeout` at most.
    #[must_use]
    pub fn new(node: Arc<RaftNode>, call_timeout: Duration) -> Self {
        Self {
            node,
            call_timeout,
            voters_told: Arc::new(Once::new()),
            given_back: Arc::default(),
        }
    }

    fn given_back(&self) -> MutexGuard<'_, HashMap<ElectionName, Duration>> {
        self.given_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called when a majority has answered: who votes is known then.
    fn tell_of_voters(&self) {
        if self.voters_told.is_completed() {
            return;
        }
        let members = self.node.status().members;
        let voters = members.iter().filter(|seat| seat.role == Role::Voter);
        let voters = voters.count();
        if voters == 0 {
            return;
        }
        self.voters_told.call_once(|| {
            if voters.is_multiple_of(2) {
                tracing::warn!(
                    "{voters} voters survive no more failures than {} would: a majority is {}; \
                     use an odd number",
                    voters - 1,
                    voters / 2 + 1
                );
            }
        });
    }
}

#[async_trait]
impl Store for RaftStore {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            kind: "raft",
            scope: Scope::Network,
            epochs_never_repeat: Answer::Yes,
            one_leader: Answer::Yes,
            one_leader_after_data_loss: Answer::If(
                "fewer than half of the voters lose their disks, or every candidate remembers its \
                 epochs"
                    .into(),
            ),
            survives_store_crash: Answer::Yes,
            wakes_followers: true,
            expiry_step: EXPIRY_STEP,
        }
    }

    fn address(&self) -> String {
        format!("raft: member {}", self.node.status().member)
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(RaftElection {
            store: self.clone(),
            name: name.clone(),
        })
    }

    fn membership(&self) -> Membership {
        Membership::Seated(Arc::clone(&self.node) as Arc<dyn Seats>)
    }

    async fn ended(&self) -> StoreError {
        self.node.ended().await
    }

    async fn leave(&self) {
        let given_back = std::mem::take(&mut *self.given_back());
        let limit = self.call_timeout;
        self.node.stay_for_heirs(&given_back, limit).await;
    }
}

#[async_trait]
impl Seats for RaftNode {
    fn status(&self) -> ClusterStatus {
        self.status()
    }

    async fn change(
        &self,
        change: SeatChange,
        member: &str,
        limit: Duration,
    ) -> Result<(), StoreError> {
        let member = member
            .parse()
            .map_err(|error: MemberError| StoreError::Rejected(error.to_string()))?;
        self.seat(change, member, limit).await
    }
}

#[derive(Clone)]
struct RaftElection {
    store: RaftStore,
    name: ElectionName,
}

/// Whether a reader of wake-ups has its place.
enum Following {
    Not { gap: bool },
    Yes(broadcast::Receiver<Hint>),
}

fn strange(outcome: &Outcome) -> StoreError {
    StoreError::Indeterminate(format!("the log answered something else: {outcome:?}"))
}

impl RaftElection {
    async fn change(&self, change: Change) -> Result<Outcome, StoreError> {
        let limit = self.store.call_timeout;
        let outcome = self.store.node.change(&self.name, change, limit).await?;
        self.store.tell_of_voters();
        Ok(outcome)
    }
}

#[async_trait]
impl Backend for RaftElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        bid.check()?;
        let bid = bid.clone();
        // The Raft leader puts its own wall clock there.
        let wall = UnixMs(0);
        match self.change(Change::Acquire { bid, wall }).await? {
            Outcome::Acquired(answer) => Ok(answer),
            Outcome::Exhausted(why) => Err(StoreError::Rejected(why)),
            other => Err(strange(&other)),
        }
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        claim.check()?;
        match self.change(Change::Renew(claim.clone())).await? {
            Outcome::Renewed(answer) => Ok(answer),
            other => Err(strange(&other)),
        }
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        let ttl = claim.ttl;
        let (claim, prefer) = (claim.clone(), prefer.cloned());
        match self.change(Change::Release { claim, prefer }).await? {
            Outcome::Released(answer) => {
                if answer == Released::Released {
                    self.store.given_back().insert(self.name.clone(), ttl);
                }
                Ok(answer)
            }
            other => Err(strange(&other)),
        }
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        let limit = self.store.call_timeout;
        self.store.node.observe(&self.name, limit).await
    }

    fn changes(&self) -> Hints {
        let (node, name) = (Arc::clone(&self.store.node), self.name.clone());
        let limit = self.store.call_timeout;
        let hints = stream::unfold(Following::Not { gap: false }, move |following| {
            let (node, name) = (Arc::clone(&node), name.clone());
            async move {
                match following {
                    Following::Not { gap } => {
                        let (present, hints) = node.follow(&name, limit).await;
                        let mut told = vec![Hint::Present(present)];
                        if gap {
                            told.insert(0, Hint::Gap);
                        }
                        Some((told, Following::Yes(hints)))
                    }
                    Following::Yes(mut hints) => match hints.recv().await {
                        Ok(hint) => Some((vec![hint], Following::Yes(hints))),
                        Err(RecvError::Lagged(_)) => {
                            Some((Vec::new(), Following::Not { gap: true }))
                        }
                        Err(RecvError::Closed) => None,
                    },
                }
            }
        });
        hints.flat_map(stream::iter).boxed()
    }

    fn peers(&self) -> Option<PeerCount> {
        let node = &self.store.node;
        Some(PeerCount {
            // Witnesses do not count, and the Raft leader knows better who answers.
            has_quorum: node.status().has_quorum,
            ..PeerCount::of(node.mesh())
        })
    }

    fn log(&self) -> Option<LogStatus> {
        Some(self.store.node.status().log)
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        let limit = self.store.call_timeout;
        self.store.node.checkpoint(&self.name, limit).await
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        match self.change(Change::Write(write.clone())).await? {
            Outcome::Written(answer) => Ok(answer),
            other => Err(strange(&other)),
        }
    }
}
