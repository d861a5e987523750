//! etcd: a lease register in transactions, on a cluster that already runs.
//!
//! Each change is one transaction, so that it happens whole or not at all, and only
//! where the record still stands as it was read; the rules are those of
//! [`crate::lease::register`]. etcd's own clock ends a lease, by an etcd lease to which
//! two keys are bound. What must outlive it, the newest epoch above all, stands in a key
//! that never expires.
//!
//! # Keys
//! For an election `E`, readable with `etcdctl get --prefix tenure/E/`:
//!
//! | key | what |
//! |---|---|
//! | `tenure/E/leader` | `epoch:session`, gone with the holder's etcd lease |
//! | `tenure/E/lease` | the same, bound to the same etcd lease: it tells whether that lives where the leader key was deleted |
//! | `tenure/E/hold` | no grant while it stands; gone with an etcd lease of its own |
//! | `tenure/E/state` | JSON: who holds or held the newest epoch, for how long, under which URL |
//! | `tenure/E/checkpoint` | its revision on a line, then the bytes |
//!
//! # What it costs
//! A leader sends one keep-alive a renewal, and reads the record along where anything
//! in etcd has changed since: a keep-alive does not see that keys were deleted. Before
//! 3.4.31 and 3.5.13 it always reads it along: there a member that hangs on its disk answers
//! keep-alives of leases that the others have ended (etcd#15247). A
//! follower reads the record once a TTL and is woken by a watch. A handover is one
//! transaction of the old leader, a lease and a transaction of the new one.
//!
//! # Layout
//! `target` reads the address; `connection` opens and checks one connection, `stranger`
//! tells who answers instead of an etcd, `member` keeps the connection to one member,
//! `link` chooses among members; `rpc` and `client` speak etcd's protocol, `trouble`
//! judges failures; `keys`, `record`, `checkpoint` and `change` are what is stored;
//! `topic` watches; `election`, `campaign`, `tenure` and `keepalive` do the work.

mod campaign;
mod change;
mod checkpoint;
mod client;
mod connection;
mod election;
mod keepalive;
mod keys;
mod link;
mod member;
mod record;
#[allow(missing_docs)]
mod rpc;
mod stranger;
mod target;
mod tenure;
mod topic;
mod trouble;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;

pub use target::{EtcdTarget, EtcdTargetError};

use self::election::Election;
use self::keys::Keys;
use self::link::{Link, Rotation};
use self::topic::Topic;
use super::{Answer, Backend, Guarantees, Hints, Scope, Store};
use crate::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, NodeId,
    Observed, Released, Renewed, StoreError,
};
use crate::time::Clock;
use crate::wire::{CredentialFiles, Credentials, CredentialsError, Speech};

/// How often an etcd looks for leases that have run out.
pub const EXPIRY_STEP: Duration = Duration::from_millis(500);

/// One etcd cluster, over one connection to one of its members at a time.
#[derive(Clone)]
pub struct EtcdStore {
    shared: Arc<Shared>,
}

/// Dropped with the last store, election and stream: the connections end then.
struct Shared {
    link: Arc<Link>,
    topics: Mutex<HashMap<ElectionName, Weak<Topic>>>,
    _rotation: Rotation,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EtcdStore({})", self.shared.link.address())
    }
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Which etcd.
    pub target: EtcdTarget,
    /// What it is shown, beside what stands in its address.
    pub credentials: CredentialFiles,
    /// Bounds each attempt to connect and each call.
    pub call_timeout: Duration,
}

impl EtcdStore {
    /// Makes a store. It connects when it is first asked for something.
    ///
    /// # Errors
    /// Where a file of the credentials cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(options: EtcdOptions, clock: Arc<dyn Clock>) -> Result<Self, CredentialsError> {
        let EtcdOptions {
            target,
            credentials,
            call_timeout,
        } = options;
        let speech = target.tls().then_some(Speech::Store {
            protocols: &[b"h2"],
        });
        let credentials = Credentials::load(credentials, target.login().clone(), speech)?;
        let link = Arc::new(Link::new(&target, credentials, call_timeout, clock));
        Ok(Self {
            shared: Arc::new(Shared {
                _rotation: Rotation::start(&link),
                link,
                topics: Mutex::default(),
            }),
        })
    }
}

impl Shared {
    /// The topic of that election, shared by all who use it.
    fn topic(&self, name: &ElectionName) -> Arc<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name).and_then(Weak::upgrade) {
            return topic;
        }
        topics.retain(|_, topic| topic.strong_count() > 0);
        let topic = Arc::new(Topic::new(Keys::of(name), Arc::clone(&self.link)));
        topics.insert(name.clone(), Arc::downgrade(&topic));
        topic
    }
}

impl Store for EtcdStore {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            kind: "etcd",
            scope: Scope::Network,
            epochs_never_repeat: Answer::Yes,
            one_leader: Answer::Yes,
            one_leader_after_data_loss: Answer::If(
                "every candidate remembers its epochs (--state-dir)".into(),
            ),
            survives_store_crash: Answer::Yes,
            wakes_followers: true,
            expiry_step: EXPIRY_STEP,
        }
    }

    fn address(&self) -> String {
        self.shared.link.address().to_owned()
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(EtcdElection {
            election: Election::new(self.shared.topic(name)),
            shared: Arc::clone(&self.shared),
        })
    }
}

struct EtcdElection {
    election: Election,
    shared: Arc<Shared>,
}

#[async_trait]
impl Backend for EtcdElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        self.election.acquire(bid).await
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        self.election.renew(claim).await
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        self.election.release(claim, prefer).await
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        self.election.observe().await
    }

    fn changes(&self) -> Hints {
        let listening = (self.election.topic.listen(), Arc::clone(&self.shared));
        futures_util::stream::unfold(listening, |(mut listener, shared)| async move {
            let hint = listener.next().await?;
            Some((hint, (listener, shared)))
        })
        .boxed()
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        self.election.read_checkpoint().await
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        self.election.write_checkpoint(write).await
    }
}
