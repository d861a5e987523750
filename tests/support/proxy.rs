//! A TCP proxy between a node and its store: every fault of a network, without root.
//! Dropping it closes its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use swaps::{Swapping, Swaps};

use crate::fault::{Fault, Way};

#[path = "swaps.rs"]
mod swaps;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToStore,
    FromStore,
}

/// What happens to bytes that go one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// They arrive this much later, in order.
    Delay(Duration),
    /// They arrive when the mode is another one.
    Hold,
    /// They never arrive. A stream with a hole is of no use: its connection is closed
    /// when the mode is another one.
    Drop,
}

/// One way to one server.
pub struct Proxy {
    address: SocketAddr,
    switches: Arc<Switches>,
    _accepting: JoinSet<()>,
}

struct Switches {
    to_store: watch::Sender<Mode>,
    from_store: watch::Sender<Mode>,
    refuses: watch::Sender<bool>,
    cuts: watch::Sender<u64>,
}

impl Switches {
    fn mode(&self, direction: Direction) -> &watch::Sender<Mode> {
        match direction {
            Direction::ToStore => &self.to_store,
            Direction::FromStore => &self.from_store,
        }
    }
}

impl Proxy {
    /// Listens on a free port of the loopback and passes on to `server`.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self::on(listener, server, Arc::default())
    }

    /// Passes on what comes to `listener`, with replies changed.
    pub fn on(listener: TcpListener, server: SocketAddr, swaps: Swaps) -> Self {
        let address = listener.local_addr().unwrap();
        let switches = Arc::new(Switches {
            to_store: watch::channel(Mode::Pass).0,
            from_store: watch::channel(Mode::Pass).0,
            refuses: watch::channel(false).0,
            cuts: watch::channel(0).0,
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server, Arc::clone(&switches), swaps));
        Self {
            address,
            switches,
            _accepting: accepting,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens one way, for present and later connections.
    pub fn set_mode(&self, direction: Direction, mode: Mode) {
        self.switches.mode(direction).send_replace(mode);
    }

    /// Whether connections are closed as soon as they are made.
    pub fn set_refuses(&self, refuses: bool) {
        self.switches.refuses.send_replace(refuses);
    }
}

/// The ways to several servers that name each other: each is passed on to by a proxy of
/// its own, and what they tell of each other's ports leads to the proxies.
pub struct Proxies(pub Vec<Proxy>);

impl Proxies {
    pub async fn start(ports: &[u16]) -> Self {
        let mut listeners = Vec::new();
        let mut swaps = Vec::new();
        for port in ports {
            let listener = loop {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                let own = listener.local_addr().unwrap().port().to_string();
                // Replies keep their length.
                if own.len() == port.to_string().len() {
                    swaps.push((port.to_string(), own));
                    break listener;
                }
            };
            listeners.push((listener, SocketAddr::from(([127, 0, 0, 1], *port))));
        }
        let swaps = Arc::new(swaps);
        let proxies = listeners
            .into_iter()
            .map(|(listener, server)| Proxy::on(listener, server, Arc::clone(&swaps)));
        Self(proxies.collect())
    }

    pub fn ports(&self) -> Vec<u16> {
        self.0.iter().map(|proxy| proxy.address().port()).collect()
    }
}

impl Way for Proxies {
    fn set(&self, fault: Fault) {
        for proxy in &self.0 {
            proxy.set(fault);
        }
    }

    fn cut(&self) {
        for proxy in &self.0 {
            proxy.cut();
        }
    }
}

impl Way for Proxy {
    fn set(&self, fault: Fault) {
        let (to_store, from_store) = match fault {
            Fault::None | Fault::Refused => (Mode::Pass, Mode::Pass),
            Fault::SlowReplies(by) => (Mode::Pass, Mode::Delay(by)),
            Fault::HeldReplies => (Mode::Pass, Mode::Hold),
            Fault::LostReplies => (Mode::Pass, Mode::Drop),
            Fault::HeldRequests => (Mode::Hold, Mode::Pass),
            Fault::LostRequests => (Mode::Drop, Mode::Pass),
            Fault::BlackHole => (Mode::Drop, Mode::Drop),
        };
        self.set_refuses(fault == Fault::Refused);
        self.set_mode(Direction::ToStore, to_store);
        self.set_mode(Direction::FromStore, from_store);
        if fault == Fault::Refused {
            self.cut();
        }
    }

    fn cut(&self) {
        self.switches.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, switches: Arc<Switches>, swaps: Swaps) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *switches.refuses.borrow() {
            continue;
        }
        let mut cuts = switches.cuts.subscribe();
        let (switches, swaps) = (Arc::clone(&switches), Arc::clone(&swaps));
        connections.spawn(async move {
            tokio::select! {
                () = pass(client, server, &switches, &swaps) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn pass(client: TcpStream, server: SocketAddr, switches: &Switches, swaps: &Swaps) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = carry(from_client, to_server, switches.to_store.subscribe(), &[]) => {}
        () = carry(from_server, to_client, switches.from_store.subscribe(), swaps) => {}
    }
}

/// Bytes with the moment when they came; none mark the end of the stream.
type Piece = (Instant, Vec<u8>);

async fn carry(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
    swaps: &[(String, String)],
) {
    let (pieces, queue) = mpsc::unbounded_channel();
    // Reading goes on while pieces wait, so that each is stamped when it comes.
    tokio::join!(read(from, pieces, swaps), write(queue, to, mode));
}

async fn read(
    mut from: OwnedReadHalf,
    pieces: mpsc::UnboundedSender<Piece>,
    swaps: &[(String, String)],
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut swapping = Swapping::new(swaps);
    loop {
        let count = tokio::select! {
            count = from.read(&mut buffer) => count.unwrap_or(0),
            () = pieces.closed() => return,
        };
        let came_at = Instant::now();
        let bytes = swapping.pass(&buffer[..count]);
        // Nothing may go on before its line is whole; an empty piece would be the end.
        if !bytes.is_empty() && pieces.send((came_at, bytes)).is_err() {
            return;
        }
        if count == 0 {
            let _ = pieces.send((came_at, Vec::new()));
            return;
        }
    }
}

async fn write(
    mut queue: mpsc::UnboundedReceiver<Piece>,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) {
    while let Some((came_at, bytes)) = queue.recv().await {
        if !may_go(came_at, &mut mode).await {
            // A hole: nothing after it may arrive.
            queue.close();
            let _ = mode.wait_for(|mode| *mode != Mode::Drop).await;
            return;
        }
        if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Waits until a piece may go on; `false` where it is dropped.
async fn may_go(came_at: Instant, mode: &mut watch::Receiver<Mode>) -> bool {
    loop {
        let present = *mode.borrow_and_update();
        match present {
            Mode::Pass => return true,
            Mode::Drop => return false,
            Mode::Hold => {
                if mode.changed().await.is_err() {
                    return false;
                }
            }
            Mode::Delay(by) => tokio::select! {
                () = tokio::time::sleep_until(came_at + by) => return true,
                _ = mode.changed() => {}
            },
        }
    }
}
