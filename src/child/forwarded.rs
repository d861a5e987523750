//! The signals that are the app's own affair.

use tokio::signal::unix::SignalKind;

use crate::config::StopSignal;
use crate::signals::Heeded;

/// SIGHUP, SIGUSR1 and SIGUSR2, as they come. One that is to be ignored is so by the app, too.
pub struct Forwarded {
    hangup: Heeded,
    first: Heeded,
    second: Heeded,
}

impl Forwarded {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: Heeded::new(SignalKind::hangup())?,
            first: Heeded::new(SignalKind::user_defined1())?,
            second: Heeded::new(SignalKind::user_defined2())?,
        })
    }

    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            () = self.hangup.recv() => StopSignal::HUP,
            () = self.first.recv() => StopSignal::USR1,
            () = self.second.recv() => StopSignal::USR2,
        }
    }
}
