//! Waiting for the meaning of a snapshot to change, be it by an event or by time.

use super::published::Published;
use crate::machine::Snapshot;
use crate::time::Alarm;

/// Follows one election. A deadline that passes is a change like any other, and is
/// seen on time though the election loop be late.
#[derive(Debug)]
pub struct Watch {
    published: Published,
    alarm: Alarm,
    seen_revision: Option<u64>,
}

impl Watch {
    pub(super) fn new(published: Published) -> std::io::Result<Self> {
        Ok(Self {
            published,
            alarm: Alarm::new()?,
            seen_revision: None,
        })
    }

    /// The present state at the first call; later, the next one with a revision
    /// that this watch has not returned. States in between may be skipped: the
    /// newest counts. `None` when the election has ended.
    pub async fn changed(&mut self) -> Option<Snapshot> {
        loop {
            // Before the look: what is published after it wakes this watch again.
            self.published.snapshots.mark_unchanged();
            let (snapshot, _) = self.published.now();
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
        let Published {
            snapshots, clock, ..
        } = &mut self.published;
        let Some(moment) = snapshot.changes_at() else {
            return snapshots.changed().await.ok();
        };
        tokio::select! {
            changed = snapshots.changed() => changed.ok(),
            // Where the kernel refuses a timer, the loop's own wake-up remains.
            _ = self.alarm.until(&**clock, moment) => Some(()),
        }
    }
}
