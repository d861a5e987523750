//! Every event of an election, one by one.

use std::sync::Arc;

use super::history::{Entry, History, Next};
use super::watch::Watch;

/// Follows one election without leaving out anything: each event once, in order. It
/// holds a place in the shared history and nothing else, so a reader that stands still
/// costs nothing, and loses its place where more happens than the history keeps.
#[derive(Debug)]
pub struct Events {
    watch: Watch,
    history: Arc<History>,
    told: u64,
}

/// Why there are no further events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventsEnd {
    /// The election has ended.
    #[error("the election has ended")]
    Ended,
    /// The next event is one that the history does not keep any more.
    #[error("the reader is further behind than the history reaches")]
    Behind,
}

impl Events {
    /// The events after revision `told`.
    pub(super) fn new(watch: Watch, history: Arc<History>, told: u64) -> Self {
        Self {
            watch,
            history,
            told,
        }
    }

    /// Goes on after that revision, which the election must have had.
    pub fn skip_to(&mut self, revision: u64) {
        self.told = revision;
    }

    /// The next event. A deadline that passes is one, on time though the election loop
    /// be late.
    ///
    /// # Errors
    /// [`EventsEnd`]; it stays so.
    pub async fn next(&mut self) -> Result<Entry, EventsEnd> {
        loop {
            match self.history.next(self.told) {
                Next::Event(entry) => {
                    self.told = entry.revision;
                    return Ok(*entry);
                }
                Next::Forgotten => return Err(EventsEnd::Behind),
                // A watch that returns has seen to it that the history is complete.
                Next::Nothing => match self.watch.after(self.told).await {
                    Some(_) => {}
                    None => return Err(EventsEnd::Ended),
                },
            }
        }
    }
}
