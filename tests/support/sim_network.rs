//! A simulated network and its time, for what runs on `tenure::peers`.
//!
//! Self-contained: include it with `#[path = "support/sim_network.rs"] mod sim_network;`.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::peers::sockets::{Listener, Network, Stream};
use tenure::time::{Clock, Moment, UnixMs, within};

/// Follows the time of the simulation, as timers there do.
#[derive(Debug)]
pub struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Moment {
        Moment::default() + turmoil::sim_elapsed().unwrap()
    }

    fn wall(&self) -> UnixMs {
        UnixMs(0).after(turmoil::sim_elapsed().unwrap())
    }
}

/// The simulated network. It refuses a connection whose first packet is lost; a true one
/// says nothing, and refuses only for a host whose process is gone.
#[derive(Clone, Debug, Default)]
pub struct SimTcp {
    down: Arc<Mutex<BTreeSet<String>>>,
}

#[async_trait::async_trait]
impl Network for SimTcp {
    async fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(SimListener(
            turmoil::net::TcpListener::bind(at).await?,
        )))
    }

    async fn connect(&self, host: &str, port: u16, limit: Duration) -> io::Result<Box<dyn Stream>> {
        if self.down.lock().unwrap().contains(host) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let connected = async {
            match turmoil::net::TcpStream::connect((host, port)).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                Err(_) => std::future::pending().await,
            }
        };
        let connected = within(limit, connected).await;
        connected.ok_or(io::ErrorKind::TimedOut)?
    }
}

struct SimListener(turmoil::net::TcpListener);

#[async_trait::async_trait]
impl Listener for SimListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, place) = self.0.accept().await?;
        Ok((Box::new(stream), place))
    }
}

impl SimTcp {
    /// The process of this host is gone, and its port refuses.
    pub fn goes(&self, host: &str) {
        self.down.lock().unwrap().insert(host.to_owned());
    }

    /// It is back.
    pub fn comes(&self, host: &str) {
        self.down.lock().unwrap().remove(host);
    }
}
