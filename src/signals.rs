//! Signals of the app's that whoever started this process wants ignored, as with `nohup`. They
//! stay so, for this process and for what it starts.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that this process ignores. To be asked before the first of them is listened
/// for: to listen for one is to ignore it no more.
pub(crate) struct Ignored(u64);

impl Ignored {
    /// As the kernel tells it; none, where it does not.
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self(mask(&status).unwrap_or(0))
    }

    /// Whether this one is among them.
    pub fn has(&self, kind: SignalKind) -> bool {
        let number = kind.as_raw_value() - 1;
        u32::try_from(number).is_ok_and(|bit| self.0.checked_shr(bit).unwrap_or(0) & 1 == 1)
    }
}

/// A bit for each signal, from the first on.
fn mask(status: &str) -> Option<u64> {
    let text = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(text.trim(), 16).ok()
}

/// A signal as it comes, unless it is to be ignored.
pub(crate) struct Heeded(Option<Signal>);

impl Heeded {
    /// Listens for it, or not.
    ///
    /// # Errors
    /// Where the system gives no signals.
    pub fn new(kind: SignalKind) -> io::Result<Self> {
        let heeded = (!Ignored::now().has(kind)).then(|| signal(kind));
        heeded.transpose().map(Self)
    }

    /// Waits for the next one; for ever, where it is ignored.
    pub async fn recv(&mut self) {
        let heard = match &mut self.0 {
            Some(signal) => signal.recv().await.is_some(),
            None => false,
        };
        if !heard {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_looked_up_in_the_kernels_mask() {
        let status = "Name:\ttenure\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        let ignored = Ignored(mask(status).unwrap_or(0));
        assert!(ignored.has(SignalKind::hangup()));
        assert!(ignored.has(SignalKind::pipe()));
        assert!(!ignored.has(SignalKind::interrupt()));
        assert!(!ignored.has(SignalKind::from_raw(65)));
        assert_eq!(mask("Name:\ttenure\n"), None);
    }
}
