//! What an election's loop last published, read so that it cannot be contradicted.

use std::sync::Arc;

use tokio::sync::watch;

use super::history::History;
use crate::machine::Snapshot;
use crate::time::{Clock, Moment};

/// The newest snapshot, the clock that gives it its meaning, and the record of what
/// happened.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub clock: Arc<dyn Clock>,
    pub history: Arc<History>,
}

impl Published {
    /// What the node knows, and the moment as of which nothing in it has run out. The
    /// history tells of all of it: whoever notices first that a deadline has passed
    /// writes it down, be it the loop or a reader.
    pub fn now(&self) -> (Snapshot, Moment) {
        let (published, now) = {
            let published = self.snapshots.borrow();
            // Read under the lock: the loop reads the clock and publishes under its
            // other half, so a later step starts from a later moment. What has run out
            // here has run out there, and no revision is ever given to two events.
            (Arc::clone(&published), self.clock.now())
        };
        let mut snapshot = Snapshot::clone(&published);
        if let Some(transition) = snapshot.settle(now) {
            self.history.add(&transition, now, self.clock.wall());
        }
        (snapshot, now)
    }
}
