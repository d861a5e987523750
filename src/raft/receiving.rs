//! A snapshot that the Raft leader sends, and the entries that it replaces.
//!
//! `openraft` asks for both at once: one task installs the snapshot, another one purges the log.
//! A member that is killed between the two may find both the snapshot and the entries, never
//! neither. So the purge waits until the snapshot is on disk.

use std::io;
use std::time::Duration;

use tokio::sync::watch;

use crate::time::within;

/// For a snapshot to be on disk. Longer than that, the disk stands still.
const STORED_WITHIN: Duration = Duration::from_secs(60);

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// None has come since the start: what is purged was replaced by the member's own snapshot.
    None,
    /// One has begun to come, at least.
    Coming,
    /// One was not installed, and none will be: that ends Raft here.
    Failed,
}

/// What the two tasks know of each other.
pub struct Receiving(watch::Sender<State>);

impl Default for Receiving {
    fn default() -> Self {
        Self(watch::channel(State::None).0)
    }
}

impl Receiving {
    /// The first piece of one is awaited.
    pub fn begins(&self) {
        self.0.send_replace(State::Coming);
    }

    /// A snapshot is on disk: who waits may look.
    pub fn stored(&self) {
        self.0.send_modify(|_| {});
    }

    /// It was not installed.
    pub fn failed(&self) {
        self.0.send_replace(State::Failed);
    }

    /// Waits until `replaced` says that a snapshot on disk holds what is to be purged. This ends
    /// without anybody's help: whoever installs it does not wait for who purges.
    ///
    /// # Errors
    /// Where none comes. Nothing may be purged then.
    pub async fn until(&self, replaced: impl Fn() -> io::Result<bool>) -> io::Result<()> {
        let mut told = self.0.subscribe();
        let wait = async {
            loop {
                // Before the look, so that no later word is missed.
                let state = *told.borrow_and_update();
                if state == State::None || replaced()? {
                    return Ok(());
                }
                if state == State::Failed || told.changed().await.is_err() {
                    return Err(io::Error::other(
                        "the snapshot that replaces the entries was not installed",
                    ));
                }
            }
        };
        within(STORED_WITHIN, wait).await.unwrap_or_else(|| {
            let seconds = STORED_WITHIN.as_secs();
            Err(io::Error::other(format!(
                "the snapshot that replaces the entries was not on disk within {seconds} s"
            )))
        })
    }
}
