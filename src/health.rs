//! Looks how the app is, and tells the elections.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri};
use serde_json::Value;
use tokio::sync::watch;

use crate::machine::{AppHealth, Percent};
use crate::outbound::{Limits, send};
use crate::sidecar::Election;
use crate::time::{BootClock, Clock as _, pause};

/// How long an answer may take: as long as the interval, but no less and no more.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(5);

/// How the app is asked.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// Where.
    pub url: Uri,
    /// From one question to the next.
    pub every: Duration,
    /// So many bad answers in a row count.
    pub failures: NonZeroU32,
    /// What follows when a leader's app is unhealthy.
    pub on_unhealthy: OnUnhealthy,
}

/// What follows when a leader's app is unhealthy, beside the step-down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// Nothing.
    StepDown,
    /// The command is started anew.
    Restart,
}

impl OnUnhealthy {
    /// As `--on-unhealthy` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StepDown => "stepdown",
            Self::Restart => "restart",
        }
    }
}

/// Asks the app at an interval.
pub struct Prober {
    url: Uri,
    every: Duration,
    verdict: Verdict,
    elections: Vec<Election>,
    ailments: watch::Sender<u64>,
}

/// What the answers so far come to.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    health: AppHealth,
    failures: u32,
    allowed: NonZeroU32,
}

impl Verdict {
    /// Unfit until the first good answer: nothing is known of the app.
    fn new(allowed: NonZeroU32) -> Self {
        Self {
            health: AppHealth::UNFIT,
            failures: 0,
            allowed,
        }
    }

    /// Takes in an answer: the score of a good one, nothing of a bad one.
    fn hear(&mut self, score: Option<Percent>) {
        match score {
            Some(score) => {
                self.failures = 0;
                self.health = AppHealth::fit(score);
            }
            None => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.allowed.get() {
                    self.health = AppHealth::UNFIT;
                }
            }
        }
    }
}

impl Prober {
    /// Will ask on behalf of these elections, whose options say that somebody does.
    #[must_use]
    pub fn new(check: &HealthCheck, elections: &[Election]) -> Self {
        Self {
            url: check.url.clone(),
            every: check.every,
            verdict: Verdict::new(check.failures),
            elections: elections.to_vec(),
            ailments: watch::channel(0).0,
        }
    }

    /// A number that rises each time that the app turns from healthy to unhealthy: the
    /// time to start it anew, for whoever does.
    #[must_use]
    pub fn ailments(&self) -> watch::Receiver<u64> {
        self.ailments.subscribe()
    }

    /// Asks for ever.
    pub async fn run(mut self) {
        loop {
            let begun = BootClock.now();
            let answer = self.ask().await;
            let before = self.verdict.health;
            self.verdict.hear(answer);
            let after = self.verdict.health;
            for election in &self.elections {
                election.set_health(after);
            }
            if before.healthy && !after.healthy {
                self.ailments.send_modify(|count| *count += 1);
            }
            let took = BootClock.now().since(begun);
            pause(self.every.saturating_sub(took)).await;
        }
    }

    /// The score of a good answer.
    async fn ask(&self) -> Option<Percent> {
        let request = Request::get(&self.url).body(Full::new(Bytes::new()));
        let patience = self.every.clamp(LEAST_PATIENCE, MOST_PATIENCE);
        let limits = Limits {
            connect: patience,
            answer: patience,
        };
        match send(request.ok()?, limits, true).await {
            Ok(answer) if answer.status.is_success() => Some(score(&answer.body)),
            Ok(answer) => {
                tracing::debug!(status = %answer.status, "the app says that it is not well");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "the app does not say how it is");
                None
            }
        }
    }
}

/// What the body says, cut to 0 to 100; an app that says nothing of it has all of it.
fn score(body: &[u8]) -> Percent {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(score) = told.get("score").and_then(Value::as_f64) else {
        return Percent::FULL;
    };
    // In 0..=100 by the clamp, so the cast keeps the whole part; NaN is no JSON.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = score.clamp(0.0, 100.0).round() as u8;
    Percent::new(whole).unwrap_or(Percent::FULL)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_in_a_row_and_one_success_is_enough() {
        let mut verdict = Verdict::new(NonZeroU32::new(3).unwrap());
        let good = Some(Percent::FULL);
        assert!(!verdict.health.healthy, "nothing is known yet");
        verdict.hear(good);
        assert!(verdict.health.healthy, "the first success");
        for bad in [None, None, good, None, None] {
            verdict.hear(bad);
            assert!(verdict.health.healthy, "never three in a row");
        }
        verdict.hear(None);
        assert!(!verdict.health.healthy, "three in a row");
        verdict.hear(good);
        assert!(verdict.health.healthy, "well again at once");
    }

    #[test]
    fn a_score_is_what_the_body_says_it_is() {
        for (body, wanted) in [
            (r#"{"score":40}"#, 40),
            (r#"{"score":40.4,"load":[1]}"#, 40),
            (r#"{"score":0}"#, 0),
            (r#"{"score":-3}"#, 0),
            (r#"{"score":1e9}"#, 100),
            (r#"{"score":"40"}"#, 100),
            (r#"{"score":null}"#, 100),
            (r#"{"status":"UP"}"#, 100),
            ("OK", 100),
            ("", 100),
            ("[40]", 100),
        ] {
            assert_eq!(score(body.as_bytes()).get(), wanted, "{body}");
        }
    }
}
