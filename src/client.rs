//! A small HTTP client: one request to a sidecar on this machine, whose answer is
//! taken whole or as it comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::bearer::Tokens;
use crate::config::without_password;
use crate::lease::ElectionName;
use crate::time::within;

/// Longer than any answer of the API is held back.
const PATIENCE: Duration = Duration::from_secs(70);
/// How long an answer that is taken as it comes may take to begin.
const OPENING: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL.
    #[error("--api {0}: write it as http://127.0.0.1:4040 or unix:/run/tenure.sock")]
    Url(String),
    /// The connection or the protocol.
    #[error("no sidecar answers at {url}: {reason}; is `tenure run` running there?")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Where a sidecar listens.
#[derive(Clone, Debug)]
enum Address {
    /// `host:port`
    Tcp(String),
    /// A Unix socket's path.
    Unix(String),
}

impl Address {
    fn new(url: &str) -> Option<Self> {
        if let Some(path) = url.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.to_owned()));
        }
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
        // The name, and a port only where it is one: http://h:99999 parses as well.
        let port = authority.port_u16();
        let whole = match port {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        let good = plain && !authority.host().is_empty() && whole == authority.as_str();
        good.then(|| Self::Tcp(format!("{}:{}", authority.host(), port.unwrap_or(80))))
    }

    /// A Unix socket has no name of its own; the API takes loopback ones.
    fn host(&self) -> &str {
        match self {
            Self::Tcp(authority) => authority,
            Self::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// A sidecar's client.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    prefix: String,
    patience: Duration,
    tokens: Option<Arc<Tokens>>,
}

impl Client {
    /// A client of the sidecar at `url`, for one of its elections or the first.
    ///
    /// # Errors
    /// Where it is neither a plain `http://host:port` nor `unix:/path`.
    pub fn new(url: &str, election: Option<&ElectionName>) -> Result<Self, ClientError> {
        Ok(Self {
            address: Address::new(url).ok_or_else(|| ClientError::Url(without_password(url)))?,
            prefix: election
                .map(|name| format!("/elections/{name}"))
                .unwrap_or_default(),
            patience: PATIENCE,
            tokens: None,
        })
    }

    /// The same client, showing the first of these tokens.
    #[must_use]
    pub fn showing(self, tokens: Option<Arc<Tokens>>) -> Self {
        Self { tokens, ..self }
    }

    /// The same client, giving up earlier.
    #[must_use]
    pub fn patient_for(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends one request for an election's `path`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        let request = self.request(method, path, headers, body)?;
        match within(self.patience, self.exchange(request)).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.unreachable(error.to_string())),
            None => {
                let patience = humantime::format_duration(self.patience);
                Err(self.unreachable(format!("no answer within {patience}")))
            }
        }
    }

    /// Asks for an election's `path` and returns once the answer has begun.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<OpenAnswer, ClientError> {
        let request = self.request("GET", path, headers, Vec::new())?;
        match within(OPENING, self.begin(request)).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.unreachable(error.to_string())),
            None => {
                let patience = humantime::format_duration(OPENING);
                Err(self.unreachable(format!("no answer within {patience}")))
            }
        }
    }

    /// The rest of an answer that has begun, at once.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] where it breaks off.
    pub async fn finish(&self, answer: OpenAnswer) -> Result<Answer, ClientError> {
        match within(OPENING, answer.whole()).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.unreachable(error.to_string())),
            None => Err(self.unreachable("the answer did not end".to_owned())),
        }
    }

    fn unreachable(&self, reason: String) -> ClientError {
        ClientError::Unreachable {
            url: self.address.to_string(),
            reason,
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, self.address.host());
        if let Some(tokens) = &self.tokens {
            request = request.header(AUTHORIZATION, format!("Bearer {}", tokens.first()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|error| self.unreachable(error.to_string()))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        Ok(self.begin(request).await?.whole().await?)
    }

    async fn begin(&self, request: Request<Full<Bytes>>) -> anyhow::Result<OpenAnswer> {
        match &self.address {
            Address::Tcp(authority) => {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                converse(stream, request).await
            }
            Address::Unix(path) => converse(UnixStream::connect(path).await?, request).await,
        }
    }
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<OpenAnswer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Dropped with the answer, and the connection with it.
    let mut conversation = JoinSet::new();
    conversation.spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok(OpenAnswer {
        status: parts.status,
        headers: parts.headers,
        body,
        conversation,
    })
}

/// An answer that has begun.
#[derive(Debug)]
pub struct OpenAnswer {
    /// Its status.
    pub status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    conversation: JoinSet<hyper::Result<()>>,
}

impl OpenAnswer {
    async fn whole(self) -> hyper::Result<Answer> {
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body: self.body.collect().await?.to_bytes(),
        })
    }

    /// The rest of it, as it comes. A silence of more than `patience` ends it: the other
    /// side is gone, however the connection looks from here.
    pub fn bytes(self, patience: Duration) -> impl Stream<Item = std::io::Result<Bytes>> {
        let (body, conversation) = (self.body, self.conversation);
        stream::unfold(
            (body, conversation),
            move |(mut body, running)| async move {
                let bytes = match within(patience, body.frame()).await? {
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => {
                        return Some((Err(std::io::Error::other(error)), (body, running)));
                    }
                    None => return None,
                };
                Some((Ok(bytes), (body, running)))
            },
        )
    }
}
