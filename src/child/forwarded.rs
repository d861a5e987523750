//! The signals that are the app's own affair.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::StopSignal;

/// SIGHUP, SIGUSR1 and SIGUSR2, as they come.
pub struct Forwarded {
    hangup: Signal,
    first: Signal,
    second: Signal,
}

impl Forwarded {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            first: signal(SignalKind::user_defined1())?,
            second: signal(SignalKind::user_defined2())?,
        })
    }

    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.hangup.recv() => StopSignal::HUP,
            _ = self.first.recv() => StopSignal::USR1,
            _ = self.second.recv() => StopSignal::USR2,
        }
    }
}
