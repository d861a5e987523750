//! The way from this node to all the others: one connection each, made by who sends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::frame::{Body, Frame, VERSION};
use super::link::Link;
use super::options::{MeshError, MeshOptions};
use super::secure::Secure;
use super::sockets::{Network, Tcp};
use super::{Detector, DiskId, MemberId, Verdict, dialer, listener};
use crate::time::{Clock, pause, within};

/// A frame that is not acknowledged for so long costs the connection.
pub(super) const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(300);
/// The finest that timers can wait.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// For connecting, and for the first words on a connection.
pub(super) const BEGUN_WITHIN: Duration = Duration::from_secs(1);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer did not get it and never will.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The peer may have acted on it.
    #[error("sent, and no answer came: {0}")]
    Indeterminate(String),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A message.
    Message {
        /// From whom.
        from: MemberId,
        /// Which start of it.
        incarnation: u64,
        /// What.
        body: Value,
    },
    /// A request; whoever drops the handle gives no answer.
    Request {
        /// From whom.
        from: MemberId,
        /// Which start of it.
        incarnation: u64,
        /// What.
        body: Value,
        /// For the answer.
        reply: ReplyHandle,
    },
    /// A peer is suspected of being down.
    Suspected(MemberId),
    /// A suspected peer was heard.
    Recovered(MemberId),
    /// A peer came with another disk than the one that was known, and was refused. It comes
    /// again, and is taken if [`Mesh::accept_disk`] was called by then.
    OtherDisk {
        /// Who.
        from: MemberId,
        /// The disk that it shows.
        disk: DiskId,
    },
}

/// Answers one request.
#[derive(Debug)]
pub struct ReplyHandle {
    pub(super) frame: Box<Frame>,
    pub(super) way: mpsc::Sender<Frame>,
}

impl ReplyHandle {
    /// Sends the answer. It is lost where the connection is; the caller then knows
    /// nothing.
    pub async fn send(self, body: Value) {
        let Self { mut frame, way } = self;
        frame.body = Body::Reply { body };
        let _ = way.send(*frame).await;
    }
}

/// One peer as `/status` and the metrics may show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: MemberId,
    /// Whether this node's connection to it stands.
    pub connected: bool,
    /// Whether it is suspected.
    pub suspected: bool,
    /// The newest start of it; 0 where none was seen.
    pub incarnation: u64,
    /// Its disk, once it was seen.
    pub disk: Option<DiskId>,
    /// Frames thrown away because its queue was full, or that no connection could carry.
    pub dropped: u64,
    /// The newest reason why there is no connection.
    pub trouble: Option<String>,
}

/// How often peers were suspected and recovered, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Suspicions.
    pub suspected: u64,
    /// Recoveries.
    pub recovered: u64,
}

pub(super) struct State {
    pub detector: Detector,
    pub links: BTreeMap<MemberId, Link>,
    verdicts: Verdicts,
}

/// What all tasks of a mesh share.
pub(super) struct Shared {
    pub options: MeshOptions,
    pub clock: Arc<dyn Clock>,
    pub events: mpsc::Sender<Event>,
    pub wake: BTreeMap<MemberId, Notify>,
    pub network: Arc<dyn Network>,
    pub secure: Option<Secure>,
    state: Mutex<State>,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with one peer's link, where there is one.
    pub fn link<T>(&self, id: MemberId, work: impl FnOnce(&mut Link) -> T) -> Option<T> {
        self.state().links.get_mut(&id).map(work)
    }

    pub fn frame(&self, seq: u64, body: Body) -> Frame {
        let identity = &self.options.identity;
        Frame {
            v: VERSION,
            cluster: identity.cluster.clone(),
            from: identity.member,
            inc: identity.incarnation,
            seq,
            body,
        }
    }

    /// A frame of this peer arrived.
    pub async fn heard(&self, id: MemberId) {
        let now = self.clock.now();
        let verdict = {
            let mut state = self.state();
            if let Some(link) = state.links.get_mut(&id) {
                link.heard = Some(now);
            }
            state.detector.heard(now, id)
        };
        self.tell(verdict).await;
    }

    pub async fn tell(&self, verdicts: impl IntoIterator<Item = Verdict>) {
        for verdict in verdicts {
            let event = match verdict {
                Verdict::Suspected(peer) => {
                    tracing::warn!(%peer, event = "peer.suspected", "a peer is suspected of being down");
                    self.state().verdicts.suspected += 1;
                    Event::Suspected(peer)
                }
                Verdict::Recovered(peer) => {
                    tracing::info!(%peer, event = "peer.recovered", "a suspected peer was heard");
                    self.state().verdicts.recovered += 1;
                    Event::Recovered(peer)
                }
            };
            let _ = self.events.send(event).await;
        }
    }
}

/// A node among its peers. Dropping it closes every connection.
pub struct Mesh {
    shared: Arc<Shared>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Mesh {
    /// Listens, and begins to reach every peer. The events must be taken: a node that
    /// does not take them acknowledges nothing, and its peers suspect it, rightly.
    ///
    /// # Errors
    /// Where it cannot or must not listen.
    pub async fn start(
        options: MeshOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, mpsc::Receiver<Event>), MeshError> {
        Self::start_on(Arc::new(Tcp), options, clock).await
    }

    /// The same on other sockets than the kernel's: a simulated network's, as a rule.
    ///
    /// # Errors
    /// As [`Mesh::start`].
    pub async fn start_on(
        network: Arc<dyn Network>,
        options: MeshOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, mpsc::Receiver<Event>), MeshError> {
        let (own, listed) = (options.identity.member, options.members.own());
        if own != listed {
            return Err(MeshError::Mismatch(own, listed));
        }
        let (heartbeat, suspect_after) = (options.heartbeat, options.suspect_after);
        if heartbeat < SHORTEST_PAUSE || suspect_after <= heartbeat {
            return Err(MeshError::Times {
                heartbeat,
                suspect_after,
            });
        }
        let address = options.listen;
        let open = options.tls.is_none() && !options.insecure_peers;
        if open && !address.ip().is_loopback() {
            return Err(MeshError::Insecure(address));
        }
        let secure = options.tls.clone().map(Secure::load).transpose()?;
        let failed = |source| MeshError::Listen { address, source };
        let socket = network.listen(address).await.map_err(failed)?;
        let address = socket.address().map_err(failed)?;
        let peers: Vec<MemberId> = options.members.peers().map(|(id, _)| id).collect();
        let (events, taken) = mpsc::channel(1024);
        let shared = Arc::new(Shared {
            wake: peers.iter().map(|id| (*id, Notify::new())).collect(),
            state: Mutex::new(State {
                detector: Detector::new(clock.now(), options.suspect_after, peers.clone()),
                links: peers.iter().map(|id| (*id, Link::default())).collect(),
                verdicts: Verdicts::default(),
            }),
            options,
            clock,
            events,
            network,
            secure,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listener::run(Arc::clone(&shared), socket));
        tasks.spawn(watch(Arc::clone(&shared)));
        tasks.spawn(follow(Arc::clone(&shared)));
        for id in peers {
            tasks.spawn(dialer::run(Arc::clone(&shared), id));
        }
        let mesh = Self {
            shared,
            address,
            _tasks: tasks,
        };
        Ok((mesh, taken))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a message into the peer's queue. It arrives at most once, after those that
    /// were sent before it; it is lost where the queue overflows, in frames or in bytes, where
    /// the peer restarts, or where it is long and three connections could not carry it.
    ///
    /// # Errors
    /// `NotSent` where it is too long, or for who is no peer.
    pub fn send(&self, to: MemberId, body: Value) -> Result<(), CallError> {
        let room = self.shared.options.queue;
        let body = Body::Message { body };
        let bytes = self.fits(&body)?;
        let queued = self.shared.link(to, |link| link.push(body, bytes, room));
        self.wake(to);
        let nobody = || CallError::NotSent(format!("{to} is no peer of this node"));
        queued.map(|_| ()).ok_or_else(nobody)
    }

    /// Sends to every peer.
    ///
    /// # Errors
    /// `NotSent` where it is too long; nobody gets it then.
    pub fn broadcast(&self, body: &Value) -> Result<(), CallError> {
        let mut peers = self.shared.options.members.peers();
        peers.try_for_each(|(id, _)| self.send(id, body.clone()))
    }

    /// Takes another disk for a peer's from now on: the layer above has let it in.
    pub fn accept_disk(&self, id: MemberId, disk: DiskId) {
        self.shared.link(id, |link| {
            // The starts of the same disk go on being counted.
            if link.known.disk.as_ref() != Some(&disk) {
                link.known.disk = Some(disk);
                link.known.incarnation = 0;
            }
        });
    }

    /// Forgets a peer's disk: it may come with any one from now on. The layer above does not
    /// count on it any more.
    pub fn forget_disk(&self, id: MemberId) {
        self.shared.link(id, |link| {
            link.known.disk = None;
            link.known.incarnation = 0;
        });
    }

    /// A frame that no receiver takes would break each connection that it is sent on.
    /// The length of one that fits.
    fn fits(&self, body: &Body) -> Result<usize, CallError> {
        let longest = self.shared.frame(u64::MAX, body.clone());
        let too_long = |error: super::frame::FrameError| CallError::NotSent(error.to_string());
        longest.encode().map(|bytes| bytes.len()).map_err(too_long)
    }

    /// Asks a peer and waits for its answer, for `timeout` at most.
    ///
    /// # Errors
    /// [`CallError`]: whether the peer may have acted on it.
    pub async fn call(
        &self,
        to: MemberId,
        body: Value,
        timeout: Duration,
    ) -> Result<Value, CallError> {
        let room = self.shared.options.queue;
        let body = Body::Request { body };
        let bytes = self.fits(&body)?;
        let asked = self.shared.link(to, |link| {
            link.connected.then(|| link.ask(body, bytes, room))
        });
        let Some(Some((seq, awaited))) = asked else {
            return Err(CallError::NotSent(format!(
                "there is no connection to {to}"
            )));
        };
        self.wake(to);
        if let Some(Ok(answer)) = within(timeout, awaited).await {
            return answer;
        }
        let sent = self
            .shared
            .link(to, |link| link.give_up(seq))
            .unwrap_or(true);
        let why = format!("{to} did not answer within {} ms", timeout.as_millis());
        Err(if sent {
            CallError::Indeterminate(why)
        } else {
            CallError::NotSent(why)
        })
    }

    /// All peers, in the order of their rank.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let state = self.shared.state();
        let status = |(id, link): (&MemberId, &Link)| PeerStatus {
            id: *id,
            connected: link.connected,
            suspected: state.detector.suspects(*id),
            incarnation: link.known.incarnation,
            disk: link.known.disk.clone(),
            dropped: link.dropped,
            trouble: link.trouble.clone(),
        };
        state.links.iter().map(status).collect()
    }

    /// For the metrics.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        self.shared.state().verdicts
    }

    fn wake(&self, to: MemberId) {
        if let Some(wake) = self.shared.wake.get(&to) {
            wake.notify_one();
        }
    }
}

/// Follows the files.
async fn follow(shared: Arc<Shared>) {
    if let Some(secure) = &shared.secure {
        secure.follow().await;
    }
}

/// Looks for silence.
async fn watch(shared: Arc<Shared>) {
    loop {
        let now = shared.clock.now();
        let (verdicts, wake_at) = {
            let mut state = shared.state();
            (state.detector.step(now), state.detector.wake_at())
        };
        shared.tell(verdicts).await;
        let left = wake_at.map_or(shared.options.suspect_after, |moment| moment.since(now));
        // At most a heartbeat: a recovered peer brings an earlier moment.
        pause(left.clamp(SHORTEST_PAUSE, shared.options.heartbeat)).await;
    }
}
