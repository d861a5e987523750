//! Accepts connections and bounds what a client can take of them.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

use super::door::Door;
use super::last_word::LastWord;
use super::problem::Problem;
use crate::time::{pause, within};

/// How long a client may take for its request line and headers; also how long an
/// idle connection is kept.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Request line and headers together; beyond it 431.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// How long a client may take no byte of an answer that waits for it.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// What the kernel may hold of an answer that nobody reads. It would take megabytes,
/// for every stuck reader of `/events`.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long open connections may take to end once the listener stops.
const GOODBYE_TIME: Duration = Duration::from_millis(500);

/// A bound address, not yet served.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// The same inside an event loop.
enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepting {
    fn new(listener: Listener) -> std::io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Self::Tcp(TcpListener::from_std(listener)?)
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Self::Unix(UnixListener::from_std(listener)?)
            }
        })
    }

    async fn accept(&self) -> std::io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A wake-up that a long-poll waits for must not wait for Nagle's timer.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// Serves until `stop` turns true, then lets open requests finish briefly. At most
/// `max_connections` are open at once; further ones wait in the kernel's queue.
///
/// # Errors
/// Where the event loop does not take the listener.
pub async fn serve(
    listener: Listener,
    door: Door,
    max_connections: u32,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = Accepting::new(listener)?;
    let places = Arc::new(Semaphore::new(max_connections as usize));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stopped(&mut stop) => break,
        };
        let (door, stop) = (door.clone(), stop.clone());
        match accepted {
            Ok(accepted) => {
                tokio::spawn(async move {
                    match accepted {
                        Accepted::Tcp(stream) => converse(stream, door, stop).await,
                        Accepted::Unix(stream) => converse(stream, door, stop).await,
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: others will close some.
                tracing::warn!(%error, "cannot accept a connection");
                pause(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let _ = within(GOODBYE_TIME, places.acquire_many(max_connections)).await;
    Ok(())
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone cannot ask for anything but the end.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn converse<S>(stream: S, door: Door, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + AsFd,
{
    let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIME));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        // One buffer and one plain write for each answer: they are short.
        .writev(false)
        .max_buf_size(MAX_HEADER_BYTES);
    let service = service_fn(|request| door.answer(request));
    let stream = LastWord::on(Box::pin(stream));
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = stopped(&mut stop) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if outcome.is_err_and(|error| error.is_timeout()) {
        let parts = connection.into_parts();
        // An idle connection is closed without a word; one that had begun to speak
        // is told why, which hyper does not do.
        if !parts.read_buf.is_empty() {
            let mut stream = parts.io.into_inner().into_inner();
            let words = timed_out().last_words();
            let _ = within(GOODBYE_TIME, stream.write_all(words.as_bytes())).await;
        }
    }
}

fn timed_out() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "request-timeout",
        "the headers did not arrive within 10 seconds",
    )
}
