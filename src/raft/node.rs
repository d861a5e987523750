//! One member at work: `openraft` between its disk, its peers and those who ask.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::disk::{Disk, DiskError};
use super::log::Log;
use super::member::{Member, observed};
use super::network::Network;
use super::options::RaftOptions;
use super::replica::{Applied, Replica};
use super::serving::serve;
use super::types::{Raft, RaftId};
use super::wire::{Answer, Ask, SeatsAsk};
use super::{Change, Outcome, Request, duties, first_start, proposals, seats};
use crate::cluster::{ClusterStatus, SeatChange};
use crate::lease::{CheckpointRead, ElectionName, Hint, Observed, StoreError};
use crate::peers::sockets::{Network as Sockets, Tcp};
use crate::peers::{Identity, IdentityError, MemberId, Mesh, MeshError, Missing};
use crate::time::{Clock, within};

/// For a change of the seats to reach this member; one that has no seat any more hears of none.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// Its other file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The way to its peers.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// Anything else that the disk refuses.
    #[error("the member's state cannot be used: {0}")]
    State(#[from] io::Error),
    /// What `openraft` refuses.
    #[error("Raft does not start: {0}")]
    Raft(String),
}

/// One member of a Raft cluster. Dropping it ends its work, soon.
pub struct RaftNode {
    pub(super) member: Arc<Member>,
    pub(super) tasks: Mutex<JoinSet<()>>,
}

impl RaftNode {
    /// The identity of `member` in `dir`, as [`Identity::open`] has it. A blank disk is given
    /// one without more ado: it has no vote until the cluster gives it a seat. A first start
    /// that is broken off after this may be begun again.
    ///
    /// # Errors
    /// As [`Identity::open`].
    pub fn identity(dir: &Path, cluster: &str, member: MemberId) -> Result<Identity, RaftError> {
        first_start::note(dir)?;
        Ok(Identity::open(dir, cluster, member, Missing::Create)?)
    }

    /// Opens the member's disk, listens, and takes part.
    ///
    /// # Errors
    /// Where its disk is doubtful or its port taken.
    pub async fn start(
        options: RaftOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, RaftError> {
        Self::start_on(Arc::new(Tcp), options, clock).await
    }

    /// The same on other sockets than the kernel's: a simulated network's, as a rule.
    ///
    /// # Errors
    /// As [`RaftNode::start`].
    pub async fn start_on(
        network: Arc<dyn Sockets>,
        options: RaftOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, RaftError> {
        let disk = Disk::open(&options.state_dir, &options.mesh.identity)?;
        Self::start_with(disk, network, options, clock).await
    }

    pub(super) async fn start_with(
        disk: Disk,
        network: Arc<dyn Sockets>,
        options: RaftOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, RaftError> {
        let replica = Replica::open(disk.clone(), Arc::clone(&clock), options.drift)?;
        let started = Mesh::start_on(network, options.mesh.clone(), Arc::clone(&clock));
        let (mesh, events) = started.await?;
        let mesh = Arc::new(mesh);
        let refused = |error: &dyn std::error::Error| RaftError::Raft(error.to_string());
        let config = options
            .config()
            .validate()
            .map_err(|error| refused(&error))?;
        let raft = Raft::new(
            RaftId(options.own()),
            Arc::new(config),
            Network(Arc::clone(&mesh)),
            Log {
                disk: disk.clone(),
                own: RaftId(options.own()),
            },
            replica.clone(),
        );
        let raft = raft.await.map_err(|error| refused(&error))?;
        let (proposals, taken) = mpsc::channel(proposals::WAITING);
        let member = Arc::new(Member {
            options,
            clock,
            mesh,
            raft,
            replica,
            disk,
            proposals,
            changing: tokio::sync::Mutex::default(),
            heard: Mutex::default(),
            other_disks: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(Arc::clone(&member), events));
        tasks.spawn(proposals::write(member.raft.clone(), taken));
        tasks.spawn(duties::stand_when_a_majority_would_vote(Arc::clone(
            &member,
        )));
        tasks.spawn(duties::end_what_is_over(Arc::clone(&member)));
        tasks.spawn(seats::look_after(Arc::clone(&member)));
        tasks.spawn(duties::tell_of_the_end(Arc::clone(&member)));
        Ok(Arc::new(Self {
            member,
            tasks: Mutex::new(tasks),
        }))
    }

    /// Ends its work; what it has promised is on disk.
    pub async fn stop(&self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
        if let Err(error) = self.member.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop well");
        }
    }

    /// Waits until this member can take part no more: its disk has refused a write, as a rule.
    /// Only another start makes that good.
    pub async fn ended(&self) -> StoreError {
        self.member.until_ended().await
    }

    /// The members' way, for the metrics.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.member.mesh
    }

    /// How this member sees its cluster, without asking anybody.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.member.status()
    }

    /// Changes who has a seat, and waits a little until this member knows it, too.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] says what stands against it.
    pub async fn seat(
        &self,
        change: SeatChange,
        id: MemberId,
        limit: Duration,
    ) -> Result<(), StoreError> {
        let ask = Ask::Seats(match change {
            SeatChange::Add => SeatsAsk::Add(id),
            SeatChange::Remove => SeatsAsk::Remove(id),
            SeatChange::Replace => SeatsAsk::Replace(id),
        });
        match self.ask(ask, limit).await? {
            Answer::Index(index) => {
                let mut changes = self.member.replica.changes();
                let known = changes.wait_for(|applied| *applied >= index);
                within(limit.min(KNOWN_WITHIN), known).await;
                Ok(())
            }
            other => Err(strange(&other)),
        }
    }

    /// What an election looks like now, and the wake-ups for what comes after that, as this
    /// member applies the log. While there is no Raft leader it is what this member knows:
    /// not the newest perhaps, and good for a wake-up.
    pub(crate) async fn follow(
        &self,
        election: &ElectionName,
        limit: Duration,
    ) -> (Observed, broadcast::Receiver<Hint>) {
        let member = &self.member;
        if let Ok(Answer::Index(index)) = self.ask(Ask::Confirm, limit).await {
            let mut changes = member.replica.changes();
            within(limit, changes.wait_for(|applied| *applied >= index)).await;
        }
        let now = member.clock.now();
        let read = |applied: &Applied| observed(applied, now, election);
        member.replica.subscribe(election, read)
    }

    /// Asks the Raft leader, wherever it is, for `limit` at most.
    pub(super) async fn ask(&self, ask: Ask, limit: Duration) -> Result<Answer, StoreError> {
        self.member.ask(ask, limit).await
    }

    /// Puts a change into the log.
    pub(crate) async fn change(
        &self,
        election: &ElectionName,
        change: Change,
        limit: Duration,
    ) -> Result<Outcome, StoreError> {
        let election = election.clone();
        match self
            .ask(Ask::Change(Request { election, change }), limit)
            .await?
        {
            Answer::Outcome(outcome) => Ok(outcome),
            other => Err(strange(&other)),
        }
    }

    /// Looks, after a majority has confirmed the Raft leader.
    pub(crate) async fn observe(
        &self,
        election: &ElectionName,
        limit: Duration,
    ) -> Result<Observed, StoreError> {
        match self.ask(Ask::Observe(election.clone()), limit).await? {
            Answer::Observed(observed) => Ok(observed),
            other => Err(strange(&other)),
        }
    }

    /// Reads the checkpoint, in the same way.
    pub(crate) async fn checkpoint(
        &self,
        election: &ElectionName,
        limit: Duration,
    ) -> Result<CheckpointRead, StoreError> {
        match self.ask(Ask::Checkpoint(election.clone()), limit).await? {
            Answer::Checkpoint(read) => Ok(read),
            other => Err(strange(&other)),
        }
    }
}

fn strange(answer: &impl std::fmt::Debug) -> StoreError {
    StoreError::Indeterminate(format!(
        "the Raft leader answered something else: {answer:?}"
    ))
}
