//! `--app-health` and what belongs to it, and `--priority`.

use std::num::NonZeroU32;
use std::time::Duration;

use super::hook::plain_http;
use super::{Problem, Reader, positive};
use crate::health::{HealthCheck, OnUnhealthy};
use crate::machine::Percent;

impl Reader<'_> {
    pub(super) fn app_health(&mut self) -> Option<HealthCheck> {
        let url = self.read("app-health", plain_http);
        let every = self.read("app-health-every", positive);
        let failures = self.read("app-health-failures", |text| {
            let wrong = |_| Problem::new("it is no whole number from 1 on");
            text.parse().map_err(wrong)
        });
        // Without a question nothing follows from an answer.
        let asked = self.raw.get("app-health").is_some();
        let can_restart = !asked || !self.raw.command.is_empty();
        let on_unhealthy = self.read("on-unhealthy", |text| match text {
            "stepdown" => Ok(OnUnhealthy::StepDown),
            "restart" if can_restart => Ok(OnUnhealthy::Restart),
            "restart" => Err(Problem::new(
                "there is no command to start anew; give one after --, or use stepdown",
            )),
            _ => Err(Problem::new("it is stepdown or restart")),
        });
        if !asked {
            let names = ["app-health-every", "app-health-failures", "on-unhealthy"];
            self.useless(&names, "--app-health");
            return None;
        }
        Some(HealthCheck {
            url: url?,
            every: every.unwrap_or(Duration::from_secs(1)),
            failures: failures.or(NonZeroU32::new(3))?,
            on_unhealthy: on_unhealthy.unwrap_or(OnUnhealthy::StepDown),
        })
    }
}

pub(super) fn priority(text: &str) -> Result<Percent, Problem> {
    let number: Option<u8> = text.parse().ok();
    let percent = number.and_then(Percent::new);
    percent.ok_or_else(|| Problem::new("it is no whole number from 0 to 100"))
}
