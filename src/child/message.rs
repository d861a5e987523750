//! What sidecar and guard tell each other, and the socket between them.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as StdSocket;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::{Pid, WaitStatus};
use tokio::net::UnixDatagram;

use crate::config::StopSignal;
use crate::time::Moment;

/// Longer than any message.
const LONGEST: usize = 128;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

impl Ended {
    pub fn of(status: WaitStatus) -> Self {
        match status.terminating_signal() {
            Some(signal) => Self::Signal(signal),
            None => Self::Code(status.exit_status().unwrap_or_default()),
        }
    }

    /// As a shell tells it: 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }

    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// As messages carry it and logs show it.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// From sidecar to guard. Moments are of `CLOCK_BOOTTIME`, which both read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToGuard {
    /// The lease was prolonged: stop the app from the first moment on unless told more,
    /// have ended it by the second.
    Until {
        leads_until: Moment,
        ends_at: Moment,
    },
    /// Ask the app to stop, and kill it then.
    Stop { kill_at: Moment },
    /// Pass a signal on.
    Signal(StopSignal),
}

/// From guard to sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromGuard {
    /// The app's main process.
    Started(Pid),
    /// The guard asks the app to stop without having been told to.
    Stopping,
    /// The main process has ended; what it started may still be there.
    Exited(Ended),
    /// Nothing of the app is left.
    Gone,
}

/// A message is one packet of a few words.
pub trait Message: Sized {
    fn encode(&self) -> String;
    fn decode(text: &str) -> Option<Self>;
}

impl Message for ToGuard {
    fn encode(&self) -> String {
        match self {
            Self::Until {
                leads_until,
                ends_at,
            } => format!("until {} {}", leads_until.as_nanos(), ends_at.as_nanos()),
            Self::Stop { kill_at } => format!("stop {}", kill_at.as_nanos()),
            Self::Signal(signal) => format!("signal {}", signal.as_str()),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["until", leads_until, ends_at] => Some(Self::Until {
                leads_until: moment(leads_until)?,
                ends_at: moment(ends_at)?,
            }),
            ["stop", kill_at] => Some(Self::Stop {
                kill_at: moment(kill_at)?,
            }),
            ["signal", name] => name.parse().ok().map(Self::Signal),
            _ => None,
        }
    }
}

impl Message for FromGuard {
    fn encode(&self) -> String {
        match self {
            Self::Started(pid) => format!("started {}", pid.as_raw_nonzero()),
            Self::Stopping => "stopping".to_owned(),
            Self::Exited(ended) => format!("exited {ended}"),
            Self::Gone => "gone".to_owned(),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["started", pid] => pid.parse().ok().and_then(Pid::from_raw).map(Self::Started),
            ["stopping"] => Some(Self::Stopping),
            ["exited", "code", code] => code.parse().ok().map(Ended::Code).map(Self::Exited),
            ["exited", "signal", number] => {
                number.parse().ok().map(Ended::Signal).map(Self::Exited)
            }
            ["gone"] => Some(Self::Gone),
            _ => None,
        }
    }
}

pub fn moment(text: &str) -> Option<Moment> {
    text.parse().ok().map(Moment::from_nanos)
}

/// One end of the socket. Packets keep their bounds (`SOCK_SEQPACKET`), so a message is
/// there whole or not at all, and the end of the other process is the end of the stream.
pub struct Pipe {
    socket: UnixDatagram,
}

impl Pipe {
    /// The sidecar's end, and the guard's.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (own, guards) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(own)?, guards))
    }

    pub fn new(end: OwnedFd) -> io::Result<Self> {
        // The type sends and receives packets; it asks for no more than that.
        let socket = StdSocket::from(end);
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixDatagram::from_std(socket)?,
        })
    }

    /// Tells the other end, or not: one that takes nothing in is judged by its silence.
    pub fn tell(&self, message: &impl Message) {
        // Not by way of the event loop, which knows of no socket's state before its turn.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = send(&self.socket, message.encode().as_bytes(), flags);
    }

    /// The next message; `None` when the other end is closed. Dropping the future loses
    /// nothing.
    pub async fn next<M: Message>(&self) -> Option<M> {
        let mut buffer = [0; LONGEST];
        loop {
            match self.socket.recv(&mut buffer).await {
                // It closed its end before it had read everything: the kernel tells that once,
                // ahead of what it had said before, and that is still to be heard.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Ok(0) | Err(_) => return None,
                Ok(length) => {
                    if let Some(message) = decoded(&buffer, length) {
                        return Some(message);
                    }
                }
            }
        }
    }

    /// The next message where there is one already.
    pub fn waiting<M: Message>(&self) -> Option<M> {
        let mut buffer = [0; LONGEST];
        let (length, _) = recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
        decoded(&buffer, length)
    }
}

fn decoded<M: Message>(buffer: &[u8], length: usize) -> Option<M> {
    let text = buffer.get(..length)?;
    M::decode(std::str::from_utf8(text).ok()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let at = Moment::from_nanos;
        for message in [
            ToGuard::Until {
                leads_until: at(1),
                ends_at: at(u64::MAX),
            },
            ToGuard::Stop { kill_at: at(0) },
            ToGuard::Signal(StopSignal::TERM),
        ] {
            assert_eq!(ToGuard::decode(&message.encode()), Some(message));
        }
        for message in [
            FromGuard::Started(Pid::from_raw(7).unwrap()),
            FromGuard::Stopping,
            FromGuard::Exited(Ended::Code(3)),
            FromGuard::Exited(Ended::Signal(9)),
            FromGuard::Gone,
        ] {
            assert_eq!(FromGuard::decode(&message.encode()), Some(message));
        }
        assert_eq!(ToGuard::decode("until 1"), None);
    }

    #[tokio::test]
    async fn packets_keep_their_bounds_and_an_end_is_seen() {
        let (own, other) = Pipe::pair().unwrap();
        let other = Pipe::new(other).unwrap();
        own.tell(&ToGuard::Stop {
            kill_at: Moment::default(),
        });
        own.tell(&ToGuard::Signal(StopSignal::TERM));
        assert!(matches!(other.next().await, Some(ToGuard::Stop { .. })));
        assert!(matches!(other.next().await, Some(ToGuard::Signal(_))));
        assert_eq!(other.waiting::<ToGuard>(), None);
        drop(own);
        assert_eq!(other.next::<ToGuard>().await, None);
    }

    /// The guard says its last words and ends while an order is still unread.
    #[tokio::test]
    async fn last_words_are_heard_though_the_other_end_did_not_hear_everything() {
        let (own, other) = Pipe::pair().unwrap();
        let other = Pipe::new(other).unwrap();
        other.tell(&FromGuard::Exited(Ended::Code(3)));
        other.tell(&FromGuard::Gone);
        own.tell(&ToGuard::Signal(StopSignal::TERM));
        drop(other);
        assert_eq!(own.next().await, Some(FromGuard::Exited(Ended::Code(3))));
        assert_eq!(own.next().await, Some(FromGuard::Gone));
        assert_eq!(own.next::<FromGuard>().await, None);
    }
}
