//! The words that systemd waits for under `Type=notify`: ready, how things are, stopping,
//! and that the process lives.
//!
//! A datagram each. No library: the one that there is for it knows no abstract socket,
//! and blocks where systemd does not read.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::time::pause;

/// How often a word is said to a socket that takes none, and the pause in between.
const ATTEMPTS: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(10);

/// The environment variables by which systemd watches over one process, and over no other.
pub const SUPERVISION: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The service manager that started this process.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// The one that the environment names; `None` where there is none.
    #[must_use]
    pub fn of_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        match Self::at(&name) {
            Ok(manager) => Some(manager),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; systemd is told nothing");
                None
            }
        }
    }

    /// The one that listens there: a path, or an abstract name after an @.
    ///
    /// # Errors
    /// Where the address is none, or no socket can be made.
    pub fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let text = "it is neither a path from / on nor an abstract name after @";
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Says it, and is patient with a queue that is full: but not with a sign of life,
    /// which is of its moment only.
    pub async fn tell(&self, word: &Word<'_>) {
        let attempts = if *word == Word::Alive { 1 } else { ATTEMPTS };
        for _ in 0..attempts {
            match self
                .socket
                .send_to_addr(word.text().as_bytes(), &self.address)
            {
                Err(error) if error.kind() == ErrorKind::WouldBlock => pause(BETWEEN).await,
                Err(error) => {
                    tracing::debug!(%error, "systemd does not listen");
                    return;
                }
                Ok(_) => return,
            }
        }
    }
}

/// One word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// Started, and this is how things are.
    Ready(&'a str),
    /// How things are.
    Status(&'a str),
    /// Alive.
    Alive,
    /// On the way out.
    Stopping,
}

impl Word<'_> {
    fn text(&self) -> String {
        // A line break would begin another word.
        let line = |text: &str| text.replace(['\n', '\r'], " ");
        match self {
            Self::Ready(status) => format!("READY=1\nSTATUS={}", line(status)),
            Self::Status(status) => format!("STATUS={}", line(status)),
            Self::Alive => "WATCHDOG=1".to_owned(),
            Self::Stopping => "STOPPING=1\nSTATUS=stopping".to_owned(),
        }
    }
}

/// How long systemd waits for a sign of life before it ends this process; `None` where it
/// does not, or waits for another process.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    watchdog_of(
        std::env::var_os("WATCHDOG_PID").is_some(),
        number("WATCHDOG_PID"),
        number("WATCHDOG_USEC"),
    )
}

fn watchdog_of(names_process: bool, process: Option<u64>, micros: Option<u64>) -> Option<Duration> {
    let meant = !names_process || process == Some(u64::from(std::process::id()));
    let span = Duration::from_micros(micros?);
    (meant && !span.is_zero()).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_of_another_process_is_none() {
        let own = u64::from(std::process::id());
        let span = Some(Duration::from_millis(500));
        assert_eq!(watchdog_of(true, Some(own), Some(500_000)), span);
        assert_eq!(watchdog_of(false, None, Some(500_000)), span);
        assert_eq!(watchdog_of(true, Some(own + 1), Some(500_000)), None);
        assert_eq!(watchdog_of(true, None, Some(500_000)), None);
        assert_eq!(watchdog_of(true, Some(own), Some(0)), None);
        assert_eq!(watchdog_of(true, Some(own), None), None);
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(Word::Status("a\nREADY=1").text(), "STATUS=a READY=1");
    }
}
