//! Opens a connection to one server, in the clear or over TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::credentials::Loaded;
use super::endpoint::Endpoint;
use super::tls;
use crate::lease::StoreError;
use crate::time::{millis, within};

/// A connection to a server.
pub(crate) enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialer {
    /// What is expected to answer, for messages: `Redis`.
    pub kind: &'static str,
    /// Bounds each step that waits for the network.
    pub timeout: Duration,
}

impl Dialer {
    /// Connects. The name is resolved at each attempt: a failover may have moved it.
    /// `address` is what the user calls the server.
    ///
    /// # Errors
    /// `Unavailable` where it may pass by itself, `Misconfigured` where the two sides'
    /// TLS does not fit.
    pub async fn dial(
        self,
        endpoint: &Endpoint,
        address: &str,
        loaded: &Loaded,
    ) -> Result<Stream, StoreError> {
        let stream = self.connect(endpoint, address).await?;
        let Some(config) = &loaded.tls else {
            return Ok(Stream::Plain(stream));
        };
        let host = endpoint.host.clone();
        let name = ServerName::try_from(host.clone()).map_err(|_| {
            StoreError::Misconfigured(format!("{address}: no certificate can be for \"{host}\""))
        })?;
        let handshake = TlsConnector::from(config.clone()).connect(name, stream);
        match within(self.timeout, handshake).await {
            Some(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Some(Err(error)) => Err(broken(&error, address, &host).unwrap_or_else(|| {
                StoreError::Unavailable(format!(
                    "{address} closed the connection while TLS began ({error}): does it speak TLS \
                     on that port?"
                ))
            })),
            None => Err(StoreError::Unavailable(format!(
                "{address} accepts connections but did not begin TLS within {} ms: it hangs, or \
                 does not speak TLS on that port",
                millis(self.timeout)
            ))),
        }
    }

    async fn connect(self, endpoint: &Endpoint, address: &str) -> Result<TcpStream, StoreError> {
        let place = (endpoint.host.as_str(), endpoint.port);
        let resolved = within(self.timeout, tokio::net::lookup_host(place)).await;
        let addresses: Vec<SocketAddr> = match resolved {
            Some(Ok(addresses)) => addresses.collect(),
            Some(Err(error)) => {
                return Err(StoreError::Unavailable(format!(
                    "the host of {address} cannot be resolved ({error}): check the name and the DNS"
                )));
            }
            None => {
                return Err(StoreError::Unavailable(format!(
                    "the host of {address} was not resolved within {} ms: check the DNS",
                    millis(self.timeout)
                )));
            }
        };
        let mut last = None;
        for place in addresses {
            match within(self.timeout, TcpStream::connect(place)).await {
                Some(Ok(stream)) => {
                    prepare(&stream, self.timeout)
                        .map_err(|error| self.unreachable(address, &error))?;
                    return Ok(stream);
                }
                Some(Err(error)) => last = Some(error),
                None => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        let error = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        Err(self.unreachable(address, &error))
    }

    fn unreachable(self, address: &str, error: &io::Error) -> StoreError {
        let advice = if error.kind() == io::ErrorKind::ConnectionRefused {
            format!("is {} running there, on that port?", self.kind)
        } else {
            "check the network and any firewall on the way".to_owned()
        };
        StoreError::Unavailable(format!("{address} cannot be reached ({error}): {advice}"))
    }
}

/// What a failure on a connection means where TLS tells: the two sides do not fit.
pub(crate) fn broken(error: &io::Error, address: &str, host: &str) -> Option<StoreError> {
    let meaning = tls::meaning(error, host)?;
    Some(StoreError::Misconfigured(format!("{address}: {meaning}")))
}

/// Small requests leave at once, and what nobody acknowledges ends the connection.
fn prepare(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let unheard = u32::try_from(millis(timeout)).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, unheard)?;
    // A follower may be silent for a TTL; a peer that vanished is noticed sooner.
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
