//! One HTTP request to the app: bounded in time and size, on a connection of its own that
//! ends with it, and never redirected.
//!
//! The app on the loopback is one hop away, so a pool would save microseconds, and cost
//! that a request which is given up may go on in it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::time::within;

/// More of a body is not read: nothing that is asked for needs it.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long the parts of a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until the app has accepted the connection.
    pub connect: Duration,
    /// From then on until the answer is there.
    pub answer: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// Nothing was sent.
    #[error("no connection: {0}")]
    Unreachable(std::io::Error),
    /// No answer in time.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// The connection broke, or what came was no HTTP.
    #[error("{0}")]
    Broken(hyper::Error),
}

/// An answer; of its body as much as was asked for.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body, where it is wanted, whole and not too long; else empty.
    pub body: Bytes,
}

/// Sends a request to where its URL points. The body of the answer is read only where it
/// is wanted.
///
/// # Errors
/// [`OutboundError`]. Dropping the future closes the connection.
pub async fn send(
    mut request: Request<Full<Bytes>>,
    limits: Limits,
    wants_body: bool,
) -> Result<Answer, OutboundError> {
    let connected = within(limits.connect, connect(request.uri())).await;
    let stream = connected.ok_or(OutboundError::Late(limits.connect))??;
    complete(&mut request);
    let exchange = exchange(stream, request, wants_body);
    let answer = within(limits.answer, exchange).await;
    answer.ok_or(OutboundError::Late(limits.answer))?
}

async fn connect(to: &Uri) -> Result<TcpStream, OutboundError> {
    let host = to.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = to.port_u16().unwrap_or(80);
    let connected = TcpStream::connect((host, port)).await;
    let stream = connected.map_err(OutboundError::Unreachable)?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// From a URL to what HTTP/1.1 has on its first lines.
fn complete(request: &mut Request<Full<Bytes>>) {
    let authority = request.uri().authority().map(|whole| whole.as_str());
    let host = authority.and_then(|text| HeaderValue::from_str(text).ok());
    let path = request.uri().path_and_query().cloned();
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    let agent = concat!("tenure/", env!("CARGO_PKG_VERSION"));
    let agent = HeaderValue::from_static(agent);
    request.headers_mut().insert(USER_AGENT, agent);
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
}

async fn exchange(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
    wants_body: bool,
) -> Result<Answer, OutboundError> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(OutboundError::Broken)?;
    let conversation = async {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(OutboundError::Broken)?;
        Ok(Answer {
            status: answer.status(),
            body: if wants_body {
                body_of(answer).await
            } else {
                Bytes::new()
            },
        })
    };
    tokio::pin!(conversation, connection);
    // Driven here and not by a task of its own: giving up the request must close it.
    tokio::select! {
        biased;
        answer = &mut conversation => answer,
        _ = &mut connection => conversation.await,
    }
}

/// A body that breaks off or is too long says nothing.
async fn body_of(answer: Response<Incoming>) -> Bytes {
    let limited = Limited::new(answer.into_body(), MAX_BODY_BYTES);
    let body = limited.collect().await;
    body.map(|body| body.to_bytes()).unwrap_or_default()
}
