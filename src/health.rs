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
    /// Whether there is an app to ask; there always is one where this node does not run it.
    runs: Option<watch::Receiver<bool>>,
}

/// What the answers so far come to.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    health: AppHealth,
    failures: u32,
    allowed: NonZeroU32,
    /// It has answered well once: until then a command that was just started is starting.
    known: bool,
}

impl Verdict {
    /// Unfit until the first good answer: nothing is known of the app.
    fn new(allowed: NonZeroU32) -> Self {
        Self {
            health: AppHealth::UNFIT,
            failures: 0,
            allowed,
            known: true,
        }
    }

    /// Of a command that runs only while this node leads: nothing speaks against it before
    /// it is started, nor while it starts.
    fn of_command(allowed: NonZeroU32) -> Self {
        Self {
            health: AppHealth::fit(Percent::FULL),
            failures: 0,
            allowed,
            known: false,
        }
    }

    /// Takes in an answer: the score of a good one, nothing of a bad one.
    fn hear(&mut self, score: Option<Percent>) {
        match score {
            Some(score) => {
                self.known = true;
                self.failures = 0;
                self.health = AppHealth::fit(score);
            }
            None => {
                self.failures = self.failures.saturating_add(1);
                if self.known && self.failures >= self.allowed.get() {
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
            runs: None,
        }
    }

    /// The same, of an app that this node runs itself, and only now and then.
    #[must_use]
    pub fn while_runs(self, runs: watch::Receiver<bool>) -> Self {
        Self {
            verdict: Verdict::of_command(self.verdict.allowed),
            runs: Some(runs),
            ..self
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
            self.until_it_runs().await;
            let mut runs = self.runs.clone();
            tokio::select! {
                () = self.look() => {}
                // What it answers while it stops says nothing of the next one.
                () = stops(&mut runs) => {}
            }
        }
    }

    /// One question, and the pause until the next.
    async fn look(&mut self) {
        let begun = BootClock.now();
        let answer = self.ask().await;
        let before = self.verdict.health;
        self.verdict.hear(answer);
        let after = self.verdict.health;
        if before.healthy && !after.healthy {
            // Before leadership ends of it, so that it is not taken for an app that was
            // merely asked to stop.
            self.ailments.send_modify(|count| *count += 1);
        }
        self.tell(after);
        let took = BootClock.now().since(begun);
        pause(self.every.saturating_sub(took)).await;
    }

    async fn until_it_runs(&mut self) {
        let Some(runs) = &mut self.runs else { return };
        if !*runs.borrow_and_update() {
            self.verdict = Verdict::of_command(self.verdict.allowed);
            let health = self.verdict.health;
            let runs = runs.clone();
            self.tell(health);
            begins(runs).await;
        }
    }

    fn tell(&self, health: AppHealth) {
        for election in &self.elections {
            election.set_health(health);
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

/// Waits until the app runs; for ever, where nobody will start it any more.
async fn begins(mut runs: watch::Receiver<bool>) {
    if runs.wait_for(|runs| *runs).await.is_err() {
        std::future::pending().await
    }
}

/// Waits until the app is gone; for ever, where it is not this node's to run.
async fn stops(runs: &mut Option<watch::Receiver<bool>>) {
    let gone = match runs {
        Some(runs) => runs.wait_for(|runs| !*runs).await.is_ok(),
        None => false,
    };
    if !gone {
        std::future::pending().await
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
    fn a_command_that_starts_is_given_time_until_its_first_good_answer() {
        let mut verdict = Verdict::of_command(NonZeroU32::new(2).unwrap());
        for _ in 0..9 {
            verdict.hear(None);
        }
        assert!(verdict.health.healthy, "it was starting");
        verdict.hear(Some(Percent::FULL));
        verdict.hear(None);
        verdict.hear(None);
        assert!(!verdict.health.healthy, "two in a row");
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
