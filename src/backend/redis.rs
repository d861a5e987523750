//! Redis: a lease register in Lua, on one server that already runs.
//!
//! Each operation is one script (`lua/*.lua`), so that it happens whole or not at
//! all; the rules are those of [`crate::lease::register`]. Redis's own clock ends a
//! lease, and the key that is the lease expires by itself. What must outlive the
//! lease, the newest epoch above all, stands in a key that never expires.
//!
//! # Keys
//! For an election `E`, all in one hash slot, readable with `redis-cli`:
//!
//! | key | what |
//! |---|---|
//! | `tenure:{E}:leader` | string `epoch:session`, expires with the lease |
//! | `tenure:{E}:state` | hash: who holds or held the newest epoch, until when, under which URL |
//! | `tenure:{E}:checkpoint` | hash: revision and bytes |
//! | `tenure:{E}:changes` | channel: `began EPOCH`, `ended EPOCH [NODE]` |
//!
//! # Layout
//! `target` reads the address, `connection` opens and checks one connection, `link`
//! keeps it, `topic` spreads its wake-ups, `scripts` and `reply` speak to the Lua,
//! `trouble` judges failures.

mod connection;
mod link;
mod reply;
mod scripts;
mod target;
mod topic;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;

pub use target::{RedisTarget, RedisTargetError, Topology};

use self::link::{Link, Supervisor};
use self::reply::Reply;
use self::scripts::{Keys, Named};
use self::topic::{Listener, Topic};
use super::wire::{CredentialFiles, Credentials, CredentialsError, Speech};
use super::{Answer, Backend, Guarantees, Hints, Scope, Store, StoreClock};
use crate::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, NodeId,
    Observed, Released, Renewed, StoreError,
};
use crate::time::{Clock, millis, millis_up};

/// One Redis server, over one connection.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

/// Dropped with the last store, election and stream: the connection ends then.
struct Shared {
    link: Arc<Link>,
    server_clock: StoreClock,
    _supervisor: Supervisor,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisStore({})", self.shared.link.address())
    }
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Which Redis.
    pub target: RedisTarget,
    /// What it is shown, beside what stands in its address.
    pub credentials: CredentialFiles,
    /// Bounds each attempt to connect and each answer.
    pub call_timeout: Duration,
}

impl RedisStore {
    /// Begins to connect, in the background; the first request waits for it.
    ///
    /// # Errors
    /// Where a file of the credentials cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(options: RedisOptions, clock: Arc<dyn Clock>) -> Result<Self, CredentialsError> {
        let RedisOptions {
            target,
            credentials,
            call_timeout,
        } = options;
        // Redis negotiates no protocol inside TLS.
        let speech = target.tls().then_some(Speech { protocols: &[] });
        let credentials = Credentials::load(credentials, target.login().clone(), speech)?;
        let link = Arc::new(Link::new(target, credentials, call_timeout, clock));
        let supervisor = Supervisor::start(&link);
        Ok(Self {
            shared: Arc::new(Shared {
                link,
                server_clock: StoreClock::default(),
                _supervisor: supervisor,
            }),
        })
    }
}

impl Store for RedisStore {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            kind: "redis",
            scope: Scope::Network,
            epochs_never_repeat: Answer::Yes,
            one_leader: Answer::Yes,
            one_leader_after_data_loss: Answer::If(
                "every candidate remembers its epochs (--state-dir)".into(),
            ),
            survives_store_crash: Answer::If(
                "Redis runs with appendonly yes and appendfsync always".into(),
            ),
            wakes_followers: true,
            expiry_step: Duration::from_millis(1),
        }
    }

    fn address(&self) -> String {
        self.shared.link.address().to_owned()
    }

    fn clock_step_ms(&self) -> i64 {
        self.shared.server_clock.step_ms()
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        let keys = Keys::of(name);
        Arc::new(RedisElection {
            topic: self.shared.link.topic(&keys.channel),
            keys,
            shared: Arc::clone(&self.shared),
        })
    }
}

#[derive(Clone)]
struct RedisElection {
    shared: Arc<Shared>,
    keys: Keys,
    topic: Arc<Topic>,
}

impl RedisElection {
    /// Runs a script on this election's keys. `arguments` are told which server
    /// answers: a lease is vouched for by the server that granted it.
    async fn run(
        &self,
        script: &Named,
        keys: &[&str],
        arguments: impl FnOnce(&str) -> Vec<Vec<u8>> + Send,
    ) -> Result<Reply, StoreError> {
        let link = &self.shared.link;
        let live = link.live().await?;
        let arguments = arguments(&live.run_id);
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let value = link.run(&live, script, keys, &arguments).await?;
        let reply = Reply::new(script.name, &self.keys.state, value)?;
        if let Some(time) = reply.server_time() {
            self.shared.server_clock.saw(link.now(), time);
        }
        Ok(reply)
    }

    fn lease_keys(&self) -> [&str; 2] {
        [&self.keys.leader, &self.keys.state]
    }

    fn all_keys(&self) -> [&str; 3] {
        [&self.keys.leader, &self.keys.state, &self.keys.checkpoint]
    }
}

/// A script's argument: a number in digits, or text.
fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[async_trait]
impl Backend for RedisElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        bid.check()?;
        let record = serde_json::to_vec(&bid.profile)
            .map_err(|error| StoreError::Rejected(format!("the profile is no JSON: {error}")))?;
        let arguments = |server: &str| {
            vec![
                text(&bid.session),
                record,
                text(millis(bid.ttl)),
                text(millis_up(bid.hold)),
                text(bid.floor.map_or(0, |floor| floor.get())),
                text(u8::from(bid.incumbent)),
                text(server),
                text(&self.keys.channel),
            ]
        };
        let keys = self.lease_keys();
        self.run(&scripts::ACQUIRE, &keys, arguments)
            .await?
            .acquired()
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        claim.check()?;
        let arguments = |server: &str| {
            vec![
                text(claim.epoch),
                text(&claim.session),
                text(millis(claim.ttl)),
                text(server),
            ]
        };
        let keys = self.lease_keys();
        self.run(&scripts::RENEW, &keys, arguments).await?.renewed()
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        claim.check()?;
        let arguments = |server: &str| {
            vec![
                text(claim.epoch),
                text(&claim.session),
                text(millis(claim.ttl)),
                text(millis_up(claim.hold)),
                text(server),
                text(&self.keys.channel),
                prefer.map_or_else(Vec::new, text),
            ]
        };
        let keys = self.lease_keys();
        self.run(&scripts::RELEASE, &keys, arguments)
            .await?
            .released()
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        let keys = self.lease_keys();
        self.run(&scripts::OBSERVE, &keys, |_| Vec::new())
            .await?
            .observed()
    }

    fn changes(&self) -> Hints {
        let listening = Listening {
            listener: self.topic.listen(),
            _leave: Leave(Arc::clone(&self.shared)),
            election: self.clone(),
        };
        self.shared.link.listeners_changed();
        let next = |mut listening: Listening| async move {
            let election = &listening.election;
            let hint = listening.listener.next(|| election.observe()).await?;
            Some((hint, listening))
        };
        futures_util::stream::unfold(listening, next).boxed()
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        let keys = self.all_keys();
        self.run(&scripts::READ_CHECKPOINT, &keys, |_| Vec::new())
            .await?
            .checkpoint()
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        let arguments = |_: &str| {
            vec![
                text(write.epoch),
                text(&write.session),
                write.expected.map_or_else(Vec::new, text),
                write.bytes.clone(),
            ]
        };
        let keys = self.all_keys();
        self.run(&scripts::WRITE_CHECKPOINT, &keys, arguments)
            .await?
            .written()
    }
}

/// A stream of hints. Its parts drop in this order: the listener leaves, then the
/// supervisor is told so.
struct Listening {
    listener: Listener,
    _leave: Leave,
    election: RedisElection,
}

struct Leave(Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.link.listeners_changed();
    }
}
