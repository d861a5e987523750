//! Accepts connections and bounds what a client can take of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

use super::problem::MEDIA_TYPE;
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

/// Serves until `stop` turns true, then lets open requests finish briefly. At most
/// `max_connections` are open at once; further ones wait in the kernel's queue.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    max_connections: u32,
    mut stop: watch::Receiver<bool>,
) {
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
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    converse(stream, router, stop).await;
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
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone cannot ask for anything but the end.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn converse(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    // A wake-up that a long-poll waits for must not wait for Nagle's timer.
    let _ = stream.set_nodelay(true);
    let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIME));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES);
    let service = TowerToHyperService::new(router);
    let mut connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
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
            let mut stream = parts.io.into_inner();
            let _ = within(GOODBYE_TIME, stream.write_all(timed_out().as_bytes())).await;
        }
    }
}

fn timed_out() -> String {
    let body = r#"{"type":"urn:tenure:problem:request-timeout","title":"Request timeout","status":408,"detail":"the headers did not arrive within 10 seconds"}"#;
    let length = body.len();
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: {MEDIA_TYPE}\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
