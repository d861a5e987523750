//! A cluster of meshes in one process, on the loopback. A node is stopped when it is dropped.
//!
//! Self-contained: include it with `#[path = "support/cluster.rs"] mod cluster;`.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tenure::peers::frame::{Body, Decoder, Frame, VERSION};
use tenure::peers::handshake::hello;
use tenure::peers::sockets::{Listener, Network, Stream, Tcp};
use tenure::peers::{Event, Identity, MemberId, Members, Mesh, MeshOptions, Missing, PeerStatus};
use tenure::time::{BootClock, pause, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::Receiver;

use crate::ports::free_port;

pub const BOUND: Duration = Duration::from_secs(10);

/// The places of a cluster, and the disks.
pub struct Cluster {
    pub places: Vec<(MemberId, SocketAddr)>,
    pub disks: TempDir,
}

pub struct Running {
    pub mesh: Mesh,
    pub events: Receiver<Event>,
}

pub fn id(text: &str) -> MemberId {
    text.parse().unwrap()
}

impl Cluster {
    pub fn new(ids: &[&str]) -> Self {
        let places = ids
            .iter()
            .map(|text| (id(text), ([127, 0, 0, 1], free_port()).into()));
        Self {
            places: places.collect(),
            disks: tempfile::tempdir().unwrap(),
        }
    }

    pub fn place(&self, own: &str) -> SocketAddr {
        self.places
            .iter()
            .find(|(other, _)| *other == id(own))
            .unwrap()
            .1
    }

    pub fn options(&self, own: &str) -> MeshOptions {
        let dir = self.disks.path().join(own);
        let identity = Identity::open(&dir, "orders", id(own), Missing::Create).unwrap();
        let list = self
            .places
            .iter()
            .map(|(id, place)| (*id, place.to_string()));
        let mut options = MeshOptions::new(
            identity,
            Members::new(id(own), list).unwrap(),
            self.place(own),
        );
        options.heartbeat = Duration::from_millis(100);
        options.suspect_after = Duration::from_millis(800);
        options
    }

    pub async fn start(&self, own: &str) -> Running {
        Running::start(self.options(own)).await
    }
}

impl Running {
    pub async fn start(options: MeshOptions) -> Self {
        let (mesh, events) = Mesh::start(options, Arc::new(BootClock)).await.unwrap();
        Self { mesh, events }
    }

    /// With a count of what it dials.
    pub async fn counted(options: MeshOptions) -> (Self, Arc<Counted>) {
        let dialled = Arc::new(Counted::default());
        let network = Arc::clone(&dialled) as Arc<dyn Network>;
        let started = Mesh::start_on(network, options, Arc::new(BootClock)).await;
        let (mesh, events) = started.unwrap();
        (Self { mesh, events }, dialled)
    }

    pub fn peer(&self, of: &str) -> PeerStatus {
        let peers = self.mesh.peers().into_iter();
        peers.into_iter().find(|peer| peer.id == id(of)).unwrap()
    }

    /// Until what is known of a peer is so.
    pub async fn until(&self, of: &str, so: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        let wait = async {
            loop {
                let peer = self.peer(of);
                if so(&peer) {
                    return peer;
                }
                pause(Duration::from_millis(5)).await;
            }
        };
        let found = within(BOUND, wait).await;
        found.unwrap_or_else(|| panic!("never so: {:?}", self.peer(of)))
    }

    /// Until the reason why there is no connection says this.
    pub async fn trouble(&self, with: &str, part: &str) {
        let says = |peer: &PeerStatus| peer.trouble.as_ref().is_some_and(|why| why.contains(part));
        self.until(with, says).await;
    }

    pub async fn next(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let search = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        };
        within(BOUND, search).await.expect("the event comes")
    }

    pub async fn message(&mut self) -> (MemberId, u64, Value) {
        match self
            .next(|event| matches!(event, Event::Message { .. }))
            .await
        {
            Event::Message {
                from,
                incarnation,
                body,
            } => (from, incarnation, body),
            other => panic!("{other:?}"),
        }
    }

    pub async fn connected(&self, to: &str) {
        self.until(to, |peer| peer.connected).await;
    }
}

/// A peer for which the test itself speaks.
pub struct Spoken {
    pub stream: TcpStream,
    pub decoder: Decoder,
}

impl Spoken {
    pub fn on(stream: TcpStream) -> Self {
        let decoder = Decoder::default();
        Self { stream, decoder }
    }

    /// From another address of the loopback, such as 127.0.0.2.
    pub async fn from(address: &str, to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        let own = SocketAddr::new(address.parse().unwrap(), 0);
        socket.bind(own).unwrap();
        Self::on(socket.connect(to).await.unwrap())
    }

    pub async fn connect(options: &MeshOptions, to: &str) -> Self {
        Self::try_connect(options, to).await.unwrap()
    }

    /// The reason, where it is refused.
    pub async fn try_connect(options: &MeshOptions, to: &str) -> Result<Self, String> {
        let place = options.members.address(id(to)).unwrap();
        let stream = TcpStream::connect((place.host.as_str(), place.port));
        let spoken = Self::on(stream.await.unwrap());
        let said = hello(&options.identity, &options.members, id(to));
        spoken.introduced(options, Body::Hello(said)).await
    }

    /// Says the first words, and hears the answer.
    pub async fn introduced(mut self, options: &MeshOptions, body: Body) -> Result<Self, String> {
        self.say(options, 0, body).await;
        match self.hear().await.body {
            Body::Welcome(_) => Ok(self),
            Body::Refused { reason } => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    /// Takes a connection as the peer that `options` are of.
    pub async fn accept(listener: &TcpListener, options: &MeshOptions) -> Self {
        let mut spoken = Self::on(listener.accept().await.unwrap().0);
        let from = spoken.hear().await.from;
        let said = hello(&options.identity, &options.members, from);
        spoken.say(options, 0, Body::Welcome(said)).await;
        spoken
    }

    pub fn frame(&self, options: &MeshOptions, seq: u64, body: Body) -> Frame {
        Frame {
            v: VERSION,
            cluster: options.identity.cluster.clone(),
            from: options.identity.member,
            inc: options.identity.incarnation,
            seq,
            body,
        }
    }

    /// In another version of the protocol.
    pub async fn say_as(&mut self, version: u32, options: &MeshOptions, body: Body) {
        let mut frame = self.frame(options, 0, body);
        frame.v = version;
        self.stream
            .write_all(&frame.encode().unwrap())
            .await
            .unwrap();
    }

    pub async fn say(&mut self, options: &MeshOptions, seq: u64, body: Body) {
        let bytes = self.frame(options, seq, body).encode().unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub async fn hear(&mut self) -> Frame {
        let heard = within(BOUND, self.next()).await.expect("a frame");
        heard.expect("a frame, not the end")
    }

    /// `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let read = self.stream.read(&mut bytes).await.unwrap_or(0);
            if read == 0 {
                return None;
            }
            self.decoder.feed(&bytes[..read]);
        }
    }
}

/// The kernel's sockets, with a count of the connections to each port.
#[derive(Debug, Default)]
pub struct Counted {
    tried: Mutex<BTreeMap<u16, u64>>,
    made: Mutex<BTreeMap<u16, u64>>,
}

fn count(at: &Mutex<BTreeMap<u16, u64>>, port: u16, more: u64) -> u64 {
    let mut counts = at.lock().unwrap();
    let count = counts.entry(port).or_default();
    *count += more;
    *count
}

impl Counted {
    pub fn tried(&self, place: SocketAddr) -> u64 {
        count(&self.tried, place.port(), 0)
    }

    pub fn made(&self, place: SocketAddr) -> u64 {
        count(&self.made, place.port(), 0)
    }
}

#[async_trait::async_trait]
impl Network for Counted {
    async fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Tcp.listen(at).await
    }

    async fn connect(&self, host: &str, port: u16, limit: Duration) -> io::Result<Box<dyn Stream>> {
        count(&self.tried, port, 1);
        let stream = Tcp.connect(host, port, limit).await?;
        count(&self.made, port, 1);
        Ok(stream)
    }
}
