//! Frames over a connection.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::frame::{Decoder, Frame, FrameError, LONGEST_FRAME};
use super::link::allowed;
use super::mesh::ACKNOWLEDGED_WITHIN;
use crate::time::within;
use crate::wire::meaning_for_peers;

/// How much is read, in pieces, of what is thrown away at the end.
const LAST_READS: usize = 64;

/// The most characters of a reason that are told.
const MOST_TOLD: usize = 600;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(io::Error),
    #[error("{0}")]
    Tls(String),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Refused(#[from] super::handshake::Refusal),
    #[error("it refuses this node: {0}")]
    RefusedBy(String),
    #[error("{0}")]
    Slow(&'static str),
}

impl From<io::Error> for Ended {
    /// With TLS 1.3 who dialled hears of a refused certificate only when it reads.
    fn from(error: io::Error) -> Self {
        match meaning_for_peers(&error, "") {
            Some(meaning) => Self::Tls(meaning),
            None => Self::Io(error),
        }
    }
}

impl Ended {
    /// While TLS began; `host` is who was dialled.
    pub fn of_tls(error: io::Error, host: &str) -> Self {
        match meaning_for_peers(&error, host) {
            Some(meaning) => Self::Tls(meaning),
            None => Self::Tls(format!(
                "it closed the connection while TLS began ({error}): its log says why, if it is a \
                 peer"
            )),
        }
    }

    /// For the log: on one line and not too long, since a stranger may have written part of it.
    pub fn told(&self) -> String {
        let all = self.to_string();
        let (mut plain, mut rest) = (String::new(), all.chars());
        for character in rest.by_ref().take(MOST_TOLD) {
            if character.is_control() {
                plain.extend(character.escape_default());
            } else {
                plain.push(character);
            }
        }
        if rest.next().is_some() {
            plain.push('…');
        }
        plain
    }

    /// The sentence that the other side is owed.
    pub fn owed(&self) -> Option<String> {
        match self {
            Self::Frame(error) => Some(error.to_string()),
            Self::Refused(refusal) => Some(refusal.to_string()),
            _ => None,
        }
    }
}

/// The next frame. Dropping the future loses nothing.
pub(super) async fn read<R: AsyncRead + Unpin>(
    from: &mut R,
    decoder: &mut Decoder,
) -> Result<Frame, Ended> {
    loop {
        if let Some(frame) = decoder.next_frame()? {
            return Ok(frame);
        }
        fill(from, decoder).await?;
    }
}

/// Some bytes, which need not be a whole frame. Dropping the future loses nothing.
pub(super) async fn fill<R: AsyncRead + Unpin>(
    from: &mut R,
    decoder: &mut Decoder,
) -> Result<(), Ended> {
    let mut bytes = [0; 8192];
    let read = match from.read(&mut bytes).await {
        Ok(read) => read,
        // TLS that was not taken leave of, as where a process was killed. Frames say
        // themselves where they end, so that no cut passes for an end.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
        Err(error) => return Err(error.into()),
    };
    if read == 0 {
        decoder.finish()?;
        return Err(Ended::Closed);
    }
    decoder.feed(bytes.get(..read).unwrap_or_default());
    Ok(())
}

pub(super) async fn write<W: AsyncWrite + Unpin>(to: &mut W, frame: &Frame) -> Result<(), Ended> {
    let bytes = frame.encode()?;
    let written = async {
        to.write_all(&bytes).await?;
        // TLS may hold back what the socket did not take at once.
        to.flush().await
    };
    match within(allowed(LONGEST_FRAME), written).await {
        Some(written) => Ok(written?),
        None => Err(Ended::Slow("it does not read what is sent to it")),
    }
}

/// Ends a connection so that the last words arrive: a socket that is closed while bytes lie
/// unread is reset, and the reset overtakes them.
pub(super) async fn part<R, W>(from: &mut R, to: &mut W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let rest = async {
        let mut bytes = [0; 1024];
        to.shutdown().await?;
        for _ in 0..LAST_READS {
            if from.read(&mut bytes).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    let _ = within(ACKNOWLEDGED_WITHIN, rest).await;
}
