//! Waiting for the meaning of a snapshot to change, be it by an event or by time.

use std::sync::Arc;

use tokio::sync::watch;

use crate::machine::Snapshot;
use crate::time::{Alarm, Clock};

/// Follows one election. A deadline that passes is a change like any other, and is
/// seen on time though the election loop be late.
#[derive(Debug)]
pub struct Watch {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    seen_revision: Option<u64>,
}

impl Watch {
    pub(super) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            snapshots,
            clock,
            alarm: Alarm::new()?,
            seen_revision: None,
        })
    }

    /// The present state at the first call; later, the next one with a revision
    /// that this watch has not returned. States in between may be skipped: the
    /// newest counts. `None` when the election has ended.
    pub async fn changed(&mut self) -> Option<Snapshot> {
        loop {
            let snapshot = self.snapshots.borrow_and_update().at(self.clock.now());
            if self
                .seen_revision
                .is_none_or(|seen| seen < snapshot.revision)
            {
                self.seen_revision = Some(snapshot.revision);
                return Some(snapshot);
            }
            self.turn(&snapshot).await?;
        }
    }

    /// The first state with a revision above `revision`.
    pub async fn after(&mut self, revision: u64) -> Option<Snapshot> {
        self.seen_revision = Some(revision);
        self.changed().await
    }

    async fn turn(&mut self, snapshot: &Snapshot) -> Option<()> {
        let Some(moment) = snapshot.changes_at() else {
            return self.snapshots.changed().await.ok();
        };
        tokio::select! {
            changed = self.snapshots.changed() => changed.ok(),
            // Where the kernel refuses a timer, the loop's own wake-up remains.
            _ = self.alarm.until(&*self.clock, moment) => Some(()),
        }
    }
}
