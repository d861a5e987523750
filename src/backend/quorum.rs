//! No store: the sidecars keep the lease among themselves, by majority. The shell around
//! [`crate::quorum`], for `bully` and `ring`.
//!
//! One mesh carries all elections; each has a task of its own, which hands the core its
//! inputs and carries out what it wants, strictly in order: what is to be on disk is there,
//! fsynced, before anything after it is said. A member takes part in every election that
//! the others hold, whether its own sidecar is a candidate in it or not: its vote is asked.
//!
//! # Layout
//! ```text
//! QuorumStore ── router   the mesh's events to the elections; which disks may speak
//!      |           '───── member     one election: the core, its clock, its disk
//!      '── election ──────'  |       the calls of a sidecar
//!                            '── disk ─ list, message
//! ```

mod disk;
mod election;
mod guarantees;
mod list;
mod member;
mod message;
mod router;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

pub use disk::DiskError;
pub use guarantees::EXPIRY_STEP;
pub use list::{ListRefused, MemberIds};

use self::disk::{Disk, Owner};
use self::election::QuorumElection;
use self::member::{Door, Member};
use super::{Backend, Guarantees, Membership, PeerCount, Store};
use crate::lease::{Drift, ElectionName};
use crate::peers::{Members, Mesh, MeshError, MeshOptions};
use crate::quorum::{Algorithm, Record, Roster, Settings, Start};
use crate::time::Clock;
use crate::wire::CredentialFiles;

/// Frames that may wait for one peer: a hundred elections renew at once.
const QUEUE: usize = 4096;
/// Beyond so many, elections of the others are not taken part in.
const MOST_ELECTIONS: usize = 1024;

/// How a member takes part.
#[derive(Clone, Debug)]
pub struct QuorumOptions {
    /// Who asks for a free lease.
    pub algorithm: Algorithm,
    /// What members compare, so that nobody takes another cluster's for its own.
    pub cluster: String,
    /// All members, and which one this is.
    pub members: Members,
    /// Where it listens for the others.
    pub listen: SocketAddr,
    /// Listen off the loopback though nothing protects the way.
    pub insecure: bool,
    /// The files for TLS between members: `ca`, `cert` and `key`. `None`: in the clear.
    pub tls: Option<CredentialFiles>,
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// After so long a silence a member is suspected.
    pub suspicion: Duration,
    /// How long a lease may be free though somebody asks, before that is logged.
    pub election_timeout: Duration,
    /// The cluster is new, so a blank disk has lost nothing.
    pub bootstrap: bool,
    /// Where promises are kept; this node's own.
    pub state_dir: PathBuf,
    /// The bound on each clock's rate; the same on every member.
    pub drift: Drift,
    /// The longest lease that any member asks for.
    pub longest_lease: Duration,
    /// The longest that one call may take.
    pub call_timeout: Duration,
}

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    /// Its disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its place among the others.
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

/// A member among the others.
pub struct QuorumStore {
    running: Arc<Running>,
    algorithm: Algorithm,
    address: String,
}

/// Ends everything when the last one lets go.
struct Running {
    shared: Arc<Shared>,
    _router: JoinSet<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its tasks hold what is shared, and it holds them.
        self.shared.elections().take();
    }
}

/// What all tasks of a member share.
struct Shared {
    settings: Settings,
    election_timeout: Duration,
    mesh: Mesh,
    disk: Disk,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    /// `None` once it is over.
    elections: Mutex<Option<HashMap<ElectionName, Member>>>,
    rosters: Mutex<HashMap<ElectionName, Roster>>,
}

impl Shared {
    fn elections(&self) -> MutexGuard<'_, Option<HashMap<ElectionName, Member>>> {
        self.elections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn rosters(&self) -> MutexGuard<'_, HashMap<ElectionName, Roster>> {
        self.rosters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to an election's task, which is begun where there is none.
    fn door(self: &Arc<Self>, name: &ElectionName, asked_by_a_peer: bool) -> Option<Door> {
        let mut elections = self.elections();
        let elections = elections.as_mut()?;
        if let Some(member) = elections.get(name) {
            return Some(member.door.clone());
        }
        if asked_by_a_peer && elections.len() >= MOST_ELECTIONS {
            return None;
        }
        let member = Member::begin(self, name, self.disk.start());
        let door = member.door.clone();
        elections.insert(name.clone(), member);
        Some(door)
    }

    fn go_on(self: &Arc<Self>, records: BTreeMap<ElectionName, Record>) {
        let mut elections = self.elections();
        let Some(elections) = elections.as_mut() else {
            return;
        };
        for (name, record) in records {
            self.rosters().insert(name.clone(), record.disks.clone());
            let member = Member::begin(self, &name, Start::Record(Box::new(record)));
            elections.insert(name, member);
        }
    }
}

impl QuorumStore {
    /// Opens the disk and begins to reach the others.
    ///
    /// # Errors
    /// Where the disk cannot be trusted, or this node must not or cannot listen.
    pub async fn open(options: QuorumOptions, clock: Arc<dyn Clock>) -> Result<Self, QuorumError> {
        let owner = Owner {
            cluster: &options.cluster,
            member: options.members.own(),
            members: options.members.ids().collect(),
            bootstrap: options.bootstrap,
        };
        let (disk, records) = Disk::open(&options.state_dir, &owner)?;
        if matches!(disk.start(), Start::Blank) {
            tracing::warn!(
                "this disk is blank: the member has no vote until the others have told what its \
                 lost disk may have promised. Where the cluster is new, stop all members and start \
                 each with --bootstrap and an empty --state-dir"
            );
        }
        let settings = settings(&options, &disk);
        let mut mesh = MeshOptions::new(
            disk.identity().clone(),
            options.members.clone(),
            options.listen,
        );
        mesh.insecure_peers = options.insecure;
        mesh.tls.clone_from(&options.tls);
        mesh.heartbeat = options.heartbeat;
        mesh.suspect_after = options.suspicion;
        mesh.queue = QUEUE;
        let (mesh, events) = Mesh::start(mesh, Arc::clone(&clock)).await?;
        let shared = Arc::new(Shared {
            settings,
            election_timeout: options.election_timeout,
            mesh,
            disk,
            clock,
            runtime: Handle::current(),
            elections: Mutex::new(Some(HashMap::new())),
            rosters: Mutex::default(),
        });
        shared.go_on(records);
        router::know_disks(&shared);
        let mut router = JoinSet::new();
        router.spawn(router::run(Arc::clone(&shared), events));
        Ok(Self {
            algorithm: options.algorithm,
            address: format!("{} ({})", options.cluster, options.members),
            running: Arc::new(Running {
                shared,
                _router: router,
            }),
        })
    }

    /// Where it listens for the others.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.running.shared.mesh.address()
    }
}

fn settings(options: &QuorumOptions, disk: &Disk) -> Settings {
    Settings {
        own: options.members.own(),
        disk: disk.identity().disk.clone(),
        members: options.members.ids().collect(),
        algorithm: options.algorithm,
        drift: options.drift,
        longest_lease: options.longest_lease,
        // The rest is for the way of the answer to the caller.
        patience: options.call_timeout * 9 / 10,
        seed: fastrand::u64(..),
        flaw: None,
    }
}

impl Store for QuorumStore {
    fn guarantees(&self) -> Guarantees {
        guarantees::guarantees(self.algorithm)
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(QuorumElection::new(Arc::clone(&self.running), name))
    }

    fn membership(&self) -> Membership {
        Membership::Listed
    }
}

impl Running {
    fn peers(&self) -> PeerCount {
        PeerCount::of(&self.shared.mesh)
    }
}
