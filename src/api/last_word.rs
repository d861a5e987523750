//! What a client is told last whose bytes are no request that a route could answer: hyper
//! says it in a head of its own without a body, which becomes a problem like every error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::problem::Problem;

/// A connection on which hyper's own answers become problems.
///
/// They are known by the header that all others have (see `door`). Only a write that
/// begins an answer is looked at: the middle of one may hold any bytes.
#[derive(Debug)]
pub(super) struct LastWord<S> {
    stream: S,
    /// The last write was taken in part, so that the next one goes on with it.
    midway: bool,
    /// What is yet to be written instead of hyper's answer.
    rest: Vec<u8>,
}

impl<S> LastWord<S> {
    pub fn on(stream: S) -> Self {
        Self {
            stream,
            midway: false,
            rest: Vec::new(),
        }
    }

    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncWrite + Unpin> LastWord<S> {
    fn write_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.drain(..written.min(self.rest.len()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LastWord<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LastWord<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_rest(context))?;
        let problem = if self.midway { None } else { instead_of(bytes) };
        if let Some(problem) = problem {
            self.rest = problem.last_words().into_bytes();
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.midway = written < bytes.len();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_rest(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_rest(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The problem that says what hyper's own answer only has a number for; `None` for
/// everything else.
fn instead_of(bytes: &[u8]) -> Option<Problem> {
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let status: StatusCode = code.parse().ok()?;
    let ours = head.lines().any(|line| line.starts_with("cache-control:"));
    if ours || !status.is_client_error() {
        return None;
    }
    Some(match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::new(
            status,
            "request-header-fields-too-large",
            "the first line and the headers are larger than 16 KiB together, or there are more \
             than 100 headers: send fewer",
        ),
        StatusCode::URI_TOO_LONG => Problem::new(
            status,
            "uri-too-long",
            "the path and the query are too long",
        ),
        _ => Problem::malformed(
            "this is no HTTP/1.1 request: its first line, a header or its Content-Length cannot \
             be read",
        ),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const CANNED: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\
        date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n";

    #[test]
    fn only_an_answer_of_hypers_own_is_another() {
        assert!(instead_of(CANNED).is_some());
        let fields = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        assert!(instead_of(fields).is_some());
        for kept in [
            &b"HTTP/1.1 400 Bad Request\r\ncache-control: no-store\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 1\r\n\r\nx",
            b"HTTP/1.1 4",
            b"\xff\r\n\r\n",
            b"",
        ] {
            assert!(instead_of(kept).is_none(), "{}", kept.escape_ascii());
        }
    }

    /// A checkpoint may hold what looks like an answer, and a slow reader may take the
    /// bytes before it first.
    #[tokio::test]
    async fn the_middle_of_an_answer_stays_as_it_is() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = LastWord::on(near);
        let whole = [b"0123456789", CANNED].concat();
        let writes = async {
            near.write_all(&whole).await.unwrap();
            near.write_all(CANNED).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let reads = far.read_to_end(&mut read);
        let ((), count) = tokio::join!(writes, reads);
        count.unwrap();
        let rest = read.strip_prefix(&whole[..]).unwrap();
        let text = String::from_utf8(rest.to_vec()).unwrap();
        assert!(text.contains("application/problem+json"), "{text}");
        assert!(text.ends_with('}'), "{text}");
    }
}
