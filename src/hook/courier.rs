//! Brings the newest state of one election to the app, until the app has it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::message::{Message, Standing, Told};
use crate::api::Shared;
use crate::lease::Epoch;
use crate::machine::Snapshot;
use crate::sidecar::{Election, Outcome, Part, Watch};
use crate::time::pause;

/// Between calls that fail: doubling from the first to the last, give or take a quarter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Tells one app of one election.
pub(super) struct Courier {
    pub shared: Shared,
    pub election: Election,
    /// Makes the ids of messages differ from those of the other elections.
    pub index: usize,
    pub boot_id: String,
    pub endpoint: Arc<Endpoint>,
    pub part: Arc<Part>,
    pub drain_timeout: Duration,
}

/// What the courier has seen and said.
struct Progress {
    told: Told,
    /// The last epoch that the app may work under.
    epoch: Option<Epoch>,
    /// The drain of this epoch has its time limit.
    limited: Option<Epoch>,
    failures: u32,
}

/// The election's news; none any more when it has ended.
struct News {
    watch: Watch,
    ended: bool,
}

impl News {
    /// Waits for a state that is worth giving up what is under way. Waits for ever once
    /// the election has ended: its last state stays the newest.
    async fn outdates(&mut self, carried: Standing, revision: u64) {
        while !self.ended {
            match self.watch.changed().await {
                Some(news) if news.revision <= revision => {}
                Some(news) if worth_aborting(carried, &news) => return,
                Some(_) => {}
                None => self.ended = true,
            }
        }
        std::future::pending().await
    }
}

/// A newer state goes first, whatever it is. Only a drain that the app is busy with is
/// not broken off for news that do not concern it.
fn worth_aborting(carried: Standing, news: &Snapshot) -> bool {
    !matches!(carried, Standing::Releases(_)) || Standing::of(news) != carried
}

impl Courier {
    /// Ends when the election has ended and the app knows.
    pub async fn run(self) -> std::io::Result<()> {
        let mut news = News {
            watch: self.election.watch()?,
            ended: false,
        };
        let mut progress = Progress {
            told: Told::NOTHING,
            epoch: None,
            limited: None,
            failures: 0,
        };
        loop {
            self.look(&mut progress);
            match Message::due(&self.shared, &self.election, progress.told) {
                Some(message) => self.bring(message, &mut news, &mut progress).await,
                None if news.ended => return Ok(()),
                None => news.ended = news.watch.changed().await.is_none(),
            }
        }
    }

    /// Begins to count the time of a drain, whatever becomes of the call.
    fn look(&self, progress: &mut Progress) {
        match Standing::of(&self.election.snapshot()) {
            Standing::Leads(epoch) => progress.epoch = Some(epoch),
            Standing::Releases(epoch) => {
                progress.epoch = Some(epoch);
                if progress.limited.replace(epoch) != Some(epoch) {
                    let (part, limit) = (Arc::clone(&self.part), self.drain_timeout);
                    tokio::spawn(async move {
                        pause(limit).await;
                        part.done(epoch).await;
                    });
                }
            }
            Standing::Idle => {}
        }
    }

    /// One call, and after a failure a pause, unless a newer state comes first.
    async fn bring(&self, message: Message, news: &mut News, progress: &mut Progress) {
        let (kind, standing) = (message.kind, message.standing);
        let before = progress.told.standing;
        // It may reach the app though nobody hears of that.
        if before != Some(standing) {
            progress.told.standing = None;
        }
        let revision = message.revision;
        let outcome = {
            let call = pin!(self.call(message));
            tokio::select! {
                biased;
                outcome = call => Some(outcome),
                () = news.outdates(standing, revision) => None,
            }
        };
        let Some((outcome, trouble)) = outcome else {
            self.election
                .metrics()
                .deliveries()
                .count(kind, Outcome::Superseded);
            progress.failures = 0;
            return;
        };
        self.election.metrics().deliveries().count(kind, outcome);
        let (election, event) = (self.election.name(), kind.as_str());
        if outcome == Outcome::Delivered {
            tracing::debug!(%election, event, "the hook took it");
            progress.failures = 0;
            progress.told = Told {
                standing: Some(standing),
                revision,
            };
            return self.acknowledged(standing, progress).await;
        }
        if progress.failures == 0 {
            tracing::warn!(%election, event, trouble, "the hook did not take it; retrying");
        }
        if outcome == Outcome::Unreachable {
            progress.told.standing = before;
        }
        progress.failures = progress.failures.saturating_add(1);
        tokio::select! {
            () = pause(backoff(progress.failures)) => {}
            () = news.outdates(standing, revision) => progress.failures = 0,
        }
    }

    async fn call(&self, message: Message) -> (Outcome, String) {
        let id = format!("msg_{}_{}_{}", self.boot_id, self.index, message.revision);
        let patience = match message.standing {
            // The answer is the acknowledgement that the app has drained.
            Standing::Releases(_) => self.drain_timeout,
            _ => Duration::ZERO,
        };
        let wall = self.election.clock().wall();
        self.endpoint.post(&id, message.body, wall, patience).await
    }

    /// An app that knows that it is not to lead, and says so, is done with its leadership.
    async fn acknowledged(&self, standing: Standing, progress: &Progress) {
        if let (Standing::Releases(_) | Standing::Idle, Some(epoch)) = (standing, progress.epoch) {
            self.part.done(epoch).await;
        }
    }
}

fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE * (1 << failures.saturating_sub(1).min(10));
    doubled
        .min(LAST_PAUSE)
        .mul_f64(0.75 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_two_seconds() {
        for (failures, about) in [(1, 100), (2, 200), (4, 800), (7, 2_000), (99, 2_000)] {
            let about = Duration::from_millis(about);
            let pause = backoff(failures);
            assert!(pause >= about.mul_f64(0.75) && pause <= about.mul_f64(1.25));
        }
    }
}
