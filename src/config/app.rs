//! `--hook…`, `--app-health…`, `--on-unhealthy`, `--priority`: what concerns the app
//! beside the sidecar.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::{Problem, Reader, duration, switch};
use crate::hook::Secrets;
use crate::machine::Percent;

/// How the app is told of changes.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Where.
    pub url: Uri,
    /// The keys that it is signed with.
    pub secret_file: Option<PathBuf>,
    /// It need not be on the loopback.
    pub remote: bool,
    /// The longest that one call may take.
    pub timeout: Duration,
}

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

impl Reader<'_> {
    pub(super) fn hook(&mut self) -> Option<Hook> {
        let url = self.read("hook", plain_http);
        let secret_file = self.read("hook-secret-file", |text| {
            let path = PathBuf::from(text);
            Secrets::read(&path).map_err(Problem::of)?;
            Ok(path)
        });
        let timeout = self.read("hook-timeout", positive);
        let remote = self.read("allow-remote-hook", switch);
        if self.raw.get("hook").is_none() {
            self.useless(
                &["hook-secret-file", "hook-timeout", "allow-remote-hook"],
                "--hook",
            );
        }
        let url = url?;
        if remote != Some(true) && !is_loopback(&url) {
            let given = self.raw.get("hook")?;
            self.problems.push(Problem::new(format!(
                "{given}: it is not on the loopback, and a hook tells the fencing token to whoever \
                 listens there; call the app on 127.0.0.1, or add --allow-remote-hook"
            )));
        }
        Some(Hook {
            url,
            secret_file,
            remote: remote.unwrap_or(false),
            timeout: timeout.unwrap_or(Duration::from_secs(2)),
        })
    }

    pub(super) fn app_health(&mut self) -> Option<HealthCheck> {
        let url = self.read("app-health", plain_http);
        let every = self.read("app-health-every", positive);
        let failures = self.read("app-health-failures", |text| {
            let wrong = |_| Problem::new("it is no whole number from 1 on");
            text.parse().map_err(wrong)
        });
        let on_unhealthy = self.read("on-unhealthy", |text| match text {
            "stepdown" => Ok(OnUnhealthy::StepDown),
            "restart" => Err(Problem::new(
                "there is no command to start anew: this version runs none; use stepdown",
            )),
            _ => Err(Problem::new("it is stepdown or restart")),
        });
        if self.raw.get("app-health").is_none() {
            let names = ["app-health-every", "app-health-failures", "on-unhealthy"];
            self.useless(&names, "--app-health");
        }
        Some(HealthCheck {
            url: url?,
            every: every.unwrap_or(Duration::from_secs(1)),
            failures: failures.or(NonZeroU32::new(3))?,
            on_unhealthy: on_unhealthy.unwrap_or(OnUnhealthy::StepDown),
        })
    }

    /// A setting that means nothing without another one is a mistake.
    fn useless(&mut self, names: &[&str], without: &str) {
        for given in names.iter().filter_map(|name| self.raw.get(name)) {
            let text = format!("{given}: it means nothing without {without}; add that");
            self.problems.push(Problem::new(text));
        }
    }
}

pub(super) fn priority(text: &str) -> Result<Percent, Problem> {
    let number: Option<u8> = text.parse().ok();
    let percent = number.and_then(Percent::new);
    percent.ok_or_else(|| Problem::new("it is no whole number from 0 to 100"))
}

fn positive(text: &str) -> Result<Duration, Problem> {
    let span = duration(text)?;
    if span.is_zero() {
        return Err(Problem::new("it must be longer than zero"));
    }
    Ok(span)
}

/// A URL that the app is called at.
fn plain_http(text: &str) -> Result<Uri, Problem> {
    let wrong = || Problem::new("it is no URL; write it as http://127.0.0.1:8080/path");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(Problem::new(
                "this version does not speak https to the app; use http on the loopback",
            ));
        }
        _ => return Err(wrong()),
    }
    let authority = uri.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err(Problem::new(
            "it carries a login; sign hooks with --hook-secret-file instead",
        ));
    }
    let port = authority
        .port()
        .map_or(String::new(), |port| format!(":{port}"));
    // http://h:99999 parses as well.
    let whole = authority.port_u16().is_some() || port.is_empty();
    let as_written = format!("{}{port}", authority.host()) == authority.as_str();
    if authority.host().is_empty() || !whole || !as_written {
        return Err(wrong());
    }
    Ok(uri)
}

/// By its literal, or as the name that RFC 6761 reserves.
fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = literal.parse().ok();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |ip| {
        ip.is_loopback()
    })
}
