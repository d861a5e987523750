//! The sockets that a mesh stands on: the kernel's, or a simulated network's.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::time::within;

/// A connection, whatever it goes over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What is read from a connection.
pub(super) type Incoming = ReadHalf<Box<dyn Stream>>;
/// What is written to it.
pub(super) type Outgoing = WriteHalf<Box<dyn Stream>>;

/// Makes connections and takes them.
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync {
    /// Listens there.
    ///
    /// # Errors
    /// What the system says.
    async fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>>;

    /// Connects to a port of a host, which is a name or an address, within `limit`. To look up
    /// the name may take longer.
    ///
    /// # Errors
    /// What the system says; `TimedOut` after `limit`.
    async fn connect(&self, host: &str, port: u16, limit: Duration) -> io::Result<Box<dyn Stream>>;
}

/// Takes connections.
#[async_trait]
pub trait Listener: Send {
    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    fn address(&self) -> io::Result<SocketAddr>;

    /// The next connection, and from where. Dropping the future loses none.
    ///
    /// # Errors
    /// What the system says.
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)>;
}

/// The kernel's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(TcpListener::bind(at).await?))
    }

    async fn connect(&self, host: &str, port: u16, limit: Duration) -> io::Result<Box<dyn Stream>> {
        // Each look-up holds a thread until the resolver gives up. One that is awaited to its
        // end is the only one; one that is given up would leave a thread at each attempt.
        let places: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
        let connected = within(limit, TcpStream::connect(&*places)).await;
        let stream = connected.ok_or(io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

#[async_trait]
impl Listener for TcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, place) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), place))
    }
}
