//! What the tasks of one member share, and how it asks the Raft leader, wherever that is.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use tokio::sync::mpsc;

use super::disk::Disk;
use super::options::RaftOptions;
use super::proposals::Proposal;
use super::replica::{Applied, Replica};
use super::types::{LogId, Raft};
use super::wire::{Answer, Ask, Reply, Wire};
use crate::lease::{ElectionName, Observed, StoreError};
use crate::peers::{CallError, DiskId, MemberId, Mesh};
use crate::time::{Clock, Moment, pause};

/// For so long a disk without a seat counts as waiting for one: peers try every two seconds.
const WAITS_FOR: Duration = Duration::from_secs(10);
/// Between two looks for a Raft leader.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What the tasks of one member share.
pub(super) struct Member {
    pub options: RaftOptions,
    pub clock: Arc<dyn Clock>,
    pub mesh: Arc<Mesh>,
    pub raft: Raft,
    pub replica: Replica,
    pub disk: Disk,
    pub proposals: mpsc::Sender<Proposal>,
    /// Held by whoever changes who votes, from the first entry of the change to the last.
    pub changing: tokio::sync::Mutex<()>,
    /// When a Raft leader was last heard, or this member led.
    pub heard: Mutex<Option<Moment>>,
    /// With which disk a peer last came that is not the one of its seat, and when.
    pub other_disks: Mutex<BTreeMap<MemberId, (DiskId, Moment)>>,
}

pub(super) fn observed(applied: &Applied, now: Moment, election: &ElectionName) -> Observed {
    let mut observed = applied.records.get(election).observe();
    let left = applied.stamps.left(now, election);
    // What is over by the stamps only awaits its entry.
    observed.holder = observed
        .holder
        .filter(|_| !left.is_zero())
        .map(|(holder, _)| (holder, left));
    observed
}

impl Member {
    pub fn own(&self) -> MemberId {
        self.options.own()
    }

    /// As far as this member has heard: whom to ask. It proves nothing.
    pub fn raft_leader(&self) -> Option<MemberId> {
        let metrics = self.raft.metrics();
        let leader = metrics.borrow().current_leader;
        leader.map(|leader| leader.0)
    }

    /// Whether it thinks so itself.
    pub fn is_raft_leader(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }

    pub fn last_log(&self) -> io::Result<Option<LogId>> {
        match self.disk.last()? {
            None => self.disk.purged(),
            last => Ok(last),
        }
    }

    /// How long no Raft leader was heard.
    pub fn silence(&self) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map_or(Duration::MAX, |heard| self.clock.now().since(heard))
    }

    pub fn heard_leader(&self) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some(self.clock.now());
    }

    /// A peer was refused, for its seat is another disk's.
    pub fn came_with(&self, id: MemberId, disk: DiskId) {
        let now = self.clock.now();
        let mut others = self
            .other_disks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        others.insert(id, (disk, now));
    }

    /// The disk without a seat that a peer came with a short time ago.
    pub fn other_disk(&self, id: MemberId) -> Option<DiskId> {
        let now = self.clock.now();
        let others = self
            .other_disks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (disk, at) = others.get(&id)?;
        (now.since(*at) < WAITS_FOR).then(|| disk.clone())
    }

    pub fn observed(&self, election: &ElectionName) -> Observed {
        let now = self.clock.now();
        self.replica
            .with(|applied| observed(applied, now, election))
    }

    pub async fn ask(&self, ask: Ask, limit: Duration) -> Result<Answer, StoreError> {
        let until = self.clock.now() + limit;
        loop {
            if let Some(ended) = self.ended() {
                return Err(ended);
            }
            let left = until.since(self.clock.now());
            if left.is_zero() {
                return Err(StoreError::Unavailable(format!(
                    "no Raft leader answered within {} ms: fewer than half of the members may \
                     be reached",
                    limit.as_millis()
                )));
            }
            let reply = match self.raft_leader() {
                None => Ok(Reply::NotLeader),
                Some(leader) if leader == self.own() => Ok(self.lead(ask.clone(), left).await),
                Some(leader) => self.forward(leader, &ask, left).await,
            };
            match reply {
                Ok(Reply::Answer(answer)) => return Ok(answer),
                Ok(Reply::Failed(error)) => return Err(error),
                Err(CallError::Indeterminate(why)) if !ask.is_read() => {
                    return Err(StoreError::Indeterminate(why));
                }
                Ok(Reply::NotLeader) | Err(_) => {
                    let left = until.since(self.clock.now());
                    pause(LOOK_AGAIN.min(left)).await;
                }
            }
        }
    }

    async fn forward(
        &self,
        leader: MemberId,
        ask: &Ask,
        limit: Duration,
    ) -> Result<Reply, CallError> {
        let within_ms = crate::time::millis(limit);
        let body = serde_json::to_value(Wire::Ask {
            ask: ask.clone(),
            within_ms,
        });
        let body = body.map_err(|error| CallError::NotSent(error.to_string()))?;
        // A read may be asked again, and the Raft leader that it went to may be dead.
        let limit = if ask.is_read() { limit / 3 } else { limit };
        let answer = self.mesh.call(leader, body, limit).await?;
        serde_json::from_value(answer).map_err(|error| CallError::Indeterminate(error.to_string()))
    }
}
