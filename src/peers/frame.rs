//! Frames: a length of four bytes, big-endian, and that many bytes of JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MemberId;
use super::handshake::Hello;

/// The version of the protocol that this build speaks.
pub const VERSION: u32 = 1;

/// The longest frame that is sent or taken, in bytes, without the length before it.
pub const LONGEST_FRAME: usize = 1 << 20;

/// The bytes of the length.
const HEAD: usize = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The protocol's version.
    pub v: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Who sends it.
    pub from: MemberId,
    /// Which start of the sender.
    pub inc: u64,
    /// Rises with each frame of one sender to one receiver; in an answer, the number of
    /// the frame that it answers.
    pub seq: u64,
    /// The rest.
    #[serde(flatten)]
    pub body: Body,
}

/// What a frame is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// The first frame of who connects.
    Hello(Hello),
    /// The answer: taken.
    Welcome(Hello),
    /// The other answer: a sentence that says what does not fit and what to do.
    Refused {
        /// The sentence.
        reason: String,
    },
    /// Something for the layer above.
    Message {
        /// Its own affair.
        body: Value,
    },
    /// The same, and an answer is awaited.
    Request {
        /// Its own affair.
        body: Value,
    },
    /// That answer.
    Reply {
        /// Its own affair.
        body: Value,
    },
    /// The sender is alive.
    Heartbeat,
    /// The frame arrived.
    Ack,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too long.
    #[error(
        "a frame of {length} bytes was announced, and at most {limit} are taken: what speaks there \
         is no peer of this cluster"
    )]
    TooLong {
        /// As announced.
        length: u64,
        /// The most.
        limit: usize,
    },
    /// The first bytes of a record of TLS.
    #[error(
        "it speaks TLS, and this node does not: give --ca-file, --cert-file and --key-file to all \
         members, or to none"
    )]
    Tls,
    /// No JSON, or not the fields that a frame has.
    #[error("a frame cannot be read ({0}): what speaks there is no peer of this cluster")]
    Malformed(String),
    /// From the future.
    #[error(
        "protocol version {theirs} is newer than {ours}, the newest that this node speaks: \
         update this node, or start the other one with the older release"
    )]
    Newer {
        /// The other side's.
        theirs: u64,
        /// This side's.
        ours: u32,
    },
    /// The connection ended in the middle.
    #[error("the connection ended in the middle of a frame, {got} bytes into it")]
    Cut {
        /// What had arrived.
        got: usize,
    },
}

/// Read first: of a newer frame nothing else may be known.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

impl Frame {
    /// As it goes over the wire.
    ///
    /// # Errors
    /// Where it would be longer than any receiver takes.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let mut bytes = vec![0; HEAD];
        serde_json::to_writer(&mut bytes, self)
            .map_err(|error| FrameError::Malformed(error.to_string()))?;
        let length = bytes.len() - HEAD;
        let head = u32::try_from(length)
            .ok()
            .filter(|_| length <= LONGEST_FRAME);
        let head = head.ok_or(FrameError::TooLong {
            length: length as u64,
            limit: LONGEST_FRAME,
        })?;
        bytes.splice(..HEAD, head.to_be_bytes());
        Ok(bytes)
    }
}

/// Makes frames of bytes, however they are split.
#[derive(Clone, Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(LONGEST_FRAME)
    }
}

impl Decoder {
    /// One that takes frames of `limit` bytes at most.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    /// From now on longer frames are taken: the sender is known.
    pub fn trust(&mut self) {
        self.limit = LONGEST_FRAME;
    }

    /// These bytes arrived. No room is made for bytes that are only announced.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// Where the bytes are no frame; nothing after them can be trusted then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let announced = u32::from_be_bytes(*head);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if matches!(head, [20..=23, 3, ..]) {
            return Err(FrameError::Tls);
        }
        if length > self.limit {
            return Err(FrameError::TooLong {
                length: u64::from(announced),
                limit: self.limit,
            });
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = understood(text)?;
        self.bytes.drain(..HEAD + length);
        Ok(Some(frame))
    }

    /// The connection ended.
    ///
    /// # Errors
    /// Where a frame had begun.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.bytes.len() {
            0 => Ok(()),
            got => Err(FrameError::Cut { got }),
        }
    }
}

fn understood(text: &[u8]) -> Result<Frame, FrameError> {
    let malformed = |error: serde_json::Error| FrameError::Malformed(error.to_string());
    let version: Version = serde_json::from_slice(text).map_err(malformed)?;
    if version.v > u64::from(VERSION) {
        return Err(FrameError::Newer {
            theirs: version.v,
            ours: VERSION,
        });
    }
    serde_json::from_slice(text).map_err(malformed)
}
