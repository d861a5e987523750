//! One election: the record is read, the rules of the register decide, and one
//! transaction of etcd carries that out where the record still stands as it was read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::change::{Change, range};
use super::checkpoint;
use super::keepalive::Renewer;
use super::link::{Deadline, Failure, Link};
use super::member::Live;
use super::record::{Owner, Record, Stored};
use super::rpc::{LeaseGrantRequest, TxnRequest};
use super::topic::Topic;
use crate::lease::{
    CheckpointRead, CheckpointWrite, CheckpointWritten, EpochError, Observed, StoreError,
};
use crate::time::{UnixMs, millis};

/// Attempts at one change within a call, each from the record that beat the last one.
pub(super) const TRIES: usize = 8;

/// An etcd lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub id: i64,
    /// What etcd made of what was asked: whole seconds, and not below its own least.
    pub ttl: Duration,
}

/// What came of a change.
pub(super) enum Committed {
    /// It was applied, and the record is this now.
    Applied(Arc<Record>),
    /// Nothing was applied: the record had become this.
    Beaten(Arc<Record>),
}

pub(super) struct Election {
    pub topic: Arc<Topic>,
    pub renewer: Renewer,
    /// Whose lease this process has last been granted.
    held: Mutex<Option<(Owner, i64)>>,
    told_of_rounding: AtomicBool,
}

impl Election {
    pub(super) fn new(topic: Arc<Topic>) -> Self {
        Self {
            topic,
            renewer: Renewer::default(),
            held: Mutex::default(),
            told_of_rounding: AtomicBool::new(false),
        }
    }

    /// Tells once that a lease lasts other than was asked.
    pub(super) fn tell_of_rounding(&self, asked: Duration, granted: Duration) {
        if asked != granted && !self.told_of_rounding.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                store = %self.link().address(),
                asked_ms = millis(asked),
                granted_ms = millis(granted),
                "etcd grants leases of whole seconds, and none below 1.5 times its election \
                 timeout: after a crash the others wait for what it granted"
            );
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.topic.link
    }

    pub(super) fn wall(&self) -> UnixMs {
        self.link().clock().wall()
    }

    fn held(&self) -> MutexGuard<'_, Option<(Owner, i64)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold_on(&self, owner: Owner, lease: i64) {
        *self.held() = Some((owner, lease));
    }

    /// Forgets the lease of that owner.
    pub(super) fn let_go(&self, owner: &Owner) {
        self.held().take_if(|(held, _)| held == owner);
    }

    /// The etcd lease that this process holds as that owner.
    pub(super) fn lease_of(&self, owner: &Owner) -> Option<i64> {
        let held = self.held();
        held.as_ref()
            .filter(|(held, _)| held == owner)
            .map(|(_, lease)| *lease)
    }

    /// Makes one change.
    ///
    /// # Errors
    /// After `Indeterminate` it may have been applied.
    pub(super) async fn commit(
        &self,
        deadline: Deadline,
        change: Change<'_>,
    ) -> Result<Committed, Failure> {
        let request = change.request();
        let tell = |live: Live| {
            let request: TxnRequest = request.clone();
            async move { Ok((live.client.txn(request).await?, live.ends_early)) }
        };
        let (answer, ends_early) = self.link().tell(deadline, tell).await?;
        let look = answer.responses.last();
        let found = look.and_then(|look| look.range.as_ref());
        let found = found.map_or([].as_slice(), |found| found.kvs.as_slice());
        let record = Record::read(&self.topic.keys, answer.header.as_ref(), found, ends_early)
            .map_err(Failure::of)?;
        let record = self.topic.learn(record);
        Ok(if answer.succeeded {
            Committed::Applied(record)
        } else {
            Committed::Beaten(record)
        })
    }

    /// Asks etcd for a lease. One whose answer is lost runs out by itself.
    ///
    /// # Errors
    /// [`StoreError`] where nobody granted one for sure.
    pub(super) async fn grant(
        &self,
        deadline: Deadline,
        asked: Duration,
    ) -> Result<Granted, StoreError> {
        let seconds = asked.as_secs() + u64::from(asked.subsec_nanos() > 0);
        let request = LeaseGrantRequest {
            ttl: i64::try_from(seconds).unwrap_or(i64::MAX).max(1),
            id: 0,
        };
        let ask = |live: Live| async move { live.client.grant(request).await };
        let answer = self.link().ask(deadline, ask).await?;
        Ok(Granted {
            id: answer.id,
            ttl: seconds_of(answer.ttl),
        })
    }

    /// Ends a lease. Returns when it is surely dead.
    ///
    /// # Errors
    /// [`StoreError`] where that is not sure.
    pub(super) async fn revoke(&self, deadline: Deadline, lease: i64) -> Result<(), StoreError> {
        revoke(self.link(), deadline, lease).await
    }

    /// Ends a lease that nobody waits for: it would run out by itself.
    pub(super) fn drop_lease(&self, lease: i64) {
        let link = Arc::clone(self.link());
        tokio::spawn(async move {
            let deadline = link.deadline();
            if let Err(error) = revoke(&link, deadline, lease).await {
                tracing::debug!(%error, lease, "an unused etcd lease is left to run out");
            }
        });
    }

    /// How long a lease has left, in whole seconds and rounded down; `None` where it is
    /// dead.
    pub(super) async fn left_of(
        &self,
        deadline: Deadline,
        lease: i64,
    ) -> Result<Option<Duration>, StoreError> {
        let ask = |live: Live| async move { live.client.time_to_live(lease).await };
        let answer = self.link().ask(deadline, ask).await?;
        Ok((answer.ttl >= 0).then(|| seconds_of(answer.ttl)))
    }

    pub(super) async fn observe(&self) -> Result<Observed, StoreError> {
        let deadline = self.link().deadline();
        let record = self.topic.read(deadline).await?;
        let mut observed = record.observed();
        if let (Some((_, left)), Some(leader)) = (&mut observed.holder, &record.leader) {
            match self.left_of(deadline, leader.lease).await? {
                Some(rest) => *left = rest.min(*left),
                None => observed.holder = None,
            }
        }
        Ok(observed)
    }

    pub(super) async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        let (record, stored) = self.read_all(self.link().deadline()).await?;
        let written = record.state.and_then(|state| state.value.checkpoint);
        Ok(match (stored, written) {
            (Some(checkpoint), _) => CheckpointRead::Present(checkpoint.value),
            (None, Some(revision)) => CheckpointRead::Lost(revision),
            (None, None) => CheckpointRead::Absent,
        })
    }

    async fn read_all(&self, deadline: Deadline) -> Result<(Record, StoredCheckpoint), StoreError> {
        let keys = &self.topic.keys;
        let ask = |live: Live| async move {
            let answer = live.client.range(range(keys.all())).await?;
            Ok((answer, live.ends_early))
        };
        let (answer, ends_early) = self.link().ask(deadline, ask).await?;
        let record = Record::read(keys, answer.header.as_ref(), &answer.kvs, ends_early)?;
        Ok((record, checkpoint::read(keys, &answer.kvs)?))
    }

    pub(super) async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        let deadline = self.link().deadline();
        for _ in 0..TRIES {
            let (record, stored) = self.read_all(deadline).await?;
            let revision = stored.as_ref().map(|stored| stored.value.revision);
            let mut register = record.register();
            // A cluster restored from a copy has another id, and may lack revisions that
            // were acknowledged: they are given to no other value.
            let cluster = record.present(self.wall()).server;
            let answer = register.write_checkpoint_at(write, revision, cluster);
            let (CheckpointWritten::Written(revision), Some(state)) = (answer, &record.state)
            else {
                return Ok(answer);
            };
            let state = Stored {
                checkpoint: Some(revision),
                ..state.value.clone()
            };
            let changed = stored.as_ref().map(|stored| stored.changed);
            let change = Change::of(&self.topic.keys, &record)
                .state(&state)?
                .checkpoint(changed, revision, &write.bytes);
            if let Committed::Applied(_) = self.commit(deadline, change).await? {
                return Ok(answer);
            }
        }
        Err(busy())
    }
}

type StoredCheckpoint = Option<super::record::Entry<crate::lease::Checkpoint>>;

async fn revoke(link: &Link, deadline: Deadline, lease: i64) -> Result<(), StoreError> {
    let ask = |live: Live| async move { live.client.revoke(lease).await };
    match link.ask(deadline, ask).await {
        Err(failure) if !failure.lease_gone => Err(failure.error),
        _ => Ok(()),
    }
}

pub(super) fn seconds_of(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

pub(super) fn exhausted(error: EpochError) -> StoreError {
    StoreError::Rejected(error.to_string())
}

/// Every attempt was beaten by another change: nothing was applied.
pub(super) fn busy() -> StoreError {
    StoreError::Unavailable("the record changed again and again meanwhile".to_owned())
}
