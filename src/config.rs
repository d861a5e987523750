//! Flag > environment > file → one validated [`Config`]. All problems are found and
//! reported together; nothing starts before there is none.

mod app;
#[cfg(feature = "wire")]
mod credentials;
mod health;
mod hook;
mod listen;
#[cfg(feature = "peers")]
mod peers;
mod raw;
mod setting;
mod target;
mod value;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use app::{App, CrashLoop, Restart, StopSignal};
pub use listen::{Listen, Listeners};
#[cfg(feature = "peers")]
pub use peers::{Algorithm, Cluster, Peers};
pub use raw::{Given, Raw, Source, has_password, without_password};
pub use setting::{SETTINGS, Setting, variable};
pub use target::Target;
use value::{app_url, directory, event_readers, switch};
pub use value::{duration, positive, ttl};

use crate::health::HealthCheck;
use crate::hook::Hook;
use crate::lease::{Drift, ElectionName, NodeId, Timing, TimingError};
use crate::machine::{AppHealth, Percent, campaign_delay};

const DEFAULT_TTL: Duration = Duration::from_secs(15);

/// One thing that is wrong: the value, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// A problem in words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

impl LogFormat {
    /// As `--log-format` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// How much is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The form of a line.
    pub format: LogFormat,
    /// The least important level that is written; `None` for nothing.
    pub level: Option<tracing::Level>,
}

/// A configuration that can be run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the lease is kept.
    pub target: Target,
    /// What the store is shown, and what it must show.
    #[cfg(feature = "wire")]
    pub credentials: crate::wire::CredentialFiles,
    /// The members, where they are the store themselves; always there with such a target.
    #[cfg(feature = "peers")]
    pub peers: Option<Peers>,
    /// At least one.
    pub elections: Vec<ElectionName>,
    /// `None`: named after the API's address once it is bound.
    pub id: Option<NodeId>,
    /// Where clients reach the app.
    pub url: Option<String>,
    /// The durations of the lease.
    pub timing: Timing,
    /// Told of every change.
    pub hook: Option<Hook>,
    /// Asked how it is.
    pub app_health: Option<HealthCheck>,
    /// Below 100 %, the others go first.
    pub priority: Percent,
    /// Where the API is served, and to whom.
    pub listeners: Listeners,
    /// How many replicas of a Redis must acknowledge a grant and a checkpoint.
    pub redis_wait: u8,
    /// How many may follow `/events` at once.
    pub max_event_readers: usize,
    /// The node's memory.
    pub state_dir: Option<PathBuf>,
    /// Exit where leadership is not had by then.
    pub wait: Option<Duration>,
    /// Exit when leadership ends.
    pub once: bool,
    /// Print the status at that interval.
    pub status_every: Option<Duration>,
    /// Logs.
    pub logging: Logging,
    /// For how long the lease is renewed while the app drains and stops.
    pub drain_timeout: Duration,
    /// What runs while this node leads.
    pub app: Option<App>,
}

impl Config {
    /// Validates what was given.
    ///
    /// # Errors
    /// Every problem, in the order of the settings.
    pub fn new(raw: &Raw, mut problems: Vec<Problem>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader {
            raw,
            problems: &mut problems,
            wrong: Vec::new(),
        };
        let target = reader.backend();
        #[cfg(feature = "wire")]
        let credentials = reader.credentials(target.as_ref());
        #[cfg(feature = "peers")]
        let peers = reader.peers(target.as_ref());
        let elections = reader.elections();
        let id = reader.read("id", |text| text.parse().map_err(Problem::of));
        let url = reader.read("url", app_url);
        let timing = reader.timing(target.as_ref());
        let hook = reader.hook();
        let app_health = reader.app_health();
        let priority = reader.read("priority", health::priority);
        let listeners = reader.listeners();
        let redis_wait = reader.redis_wait(target.as_ref());
        let max_event_readers = reader.read("max-event-readers", event_readers);
        let state_dir = reader.read("state-dir", directory);
        let wait = reader.duration("wait");
        let once = reader.read("once", switch);
        let status_every = reader.read("status-every", positive);
        let logging = reader.logging();
        let drain_timeout = reader.duration("drain-timeout");
        let app = reader.app(elections.len());
        match (target, timing) {
            (Some(target), Some(timing)) if problems.is_empty() => Ok(Self {
                target,
                #[cfg(feature = "wire")]
                credentials,
                #[cfg(feature = "peers")]
                peers,
                elections,
                id,
                url,
                timing,
                hook,
                app_health,
                priority: priority.unwrap_or(Percent::FULL),
                listeners,
                redis_wait,
                max_event_readers: max_event_readers.unwrap_or(256),
                state_dir,
                wait,
                once: once.unwrap_or(false),
                status_every,
                logging,
                drain_timeout: drain_timeout.unwrap_or(Duration::from_secs(5)),
                app,
            }),
            _ => Err(problems),
        }
    }
}

impl Config {
    /// Whether there is an app that has to be done before a lease is given back.
    #[must_use]
    pub fn drains(&self) -> bool {
        self.hook.is_some() || self.app.is_some()
    }

    /// The longest that this node lets the others go first when the lease is free.
    #[must_use]
    pub fn largest_delay(&self) -> Duration {
        let worst = self.app_health.as_ref();
        let worst = worst.map(|_| AppHealth::fit(Percent::NONE));
        campaign_delay(self.priority, worst, self.timing.call_timeout())
    }
}

impl Problem {
    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Reads settings one by one and keeps what is wrong with them.
struct Reader<'a> {
    raw: &'a Raw,
    problems: &'a mut Vec<Problem>,
    /// The settings whose values were told to be wrong.
    wrong: Vec<&'static str>,
}

impl Reader<'_> {
    fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Problem>) -> Option<T> {
        let given = self.raw.get(name)?;
        let read = match given.values.as_slice() {
            [value] => parse(value),
            _ => Err(Problem::new("give one value")),
        };
        match read {
            Ok(value) => Some(value),
            Err(problem) => {
                self.wrong.push(given.setting.name);
                self.problems
                    .push(Problem::new(format!("{given}: {problem}")));
                None
            }
        }
    }

    fn duration(&mut self, name: &str) -> Option<Duration> {
        self.read(name, duration)
    }

    fn backend(&mut self) -> Option<Target> {
        let Some(given) = self.raw.get("backend") else {
            let target = Target::default_file();
            return target.map_err(|problem| self.problems.push(problem)).ok();
        };
        let secret = given.values.iter().any(|value| has_password(value));
        if secret && given.source == Source::Flag {
            self.problems.push(Problem::new(format!(
                "{given}: every user of this machine can read a password on a command line; \
                 give the address in TENURE_BACKEND, or as backend in the file of --config"
            )));
        }
        self.read("backend", str::parse)
    }

    fn elections(&mut self) -> Vec<ElectionName> {
        let (place, texts) = match self.raw.get("election") {
            Some(given) => (given.place(), given.values.clone()),
            None => (String::new(), vec!["default".to_owned()]),
        };
        let mut names: Vec<ElectionName> = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(name) if names.contains(&name) => {
                    let text = format!("{place} {text}: it is named twice");
                    self.problems.push(Problem::new(text));
                }
                Ok(name) => names.push(name),
                Err(error) => self
                    .problems
                    .push(Problem::new(format!("{place}: {error}"))),
            }
        }
        names
    }

    fn redis_wait(&mut self, target: Option<&Target>) -> u8 {
        let wait = self.read("redis-wait", |text| {
            let number = text.parse().ok().filter(|number| *number <= 9);
            number.ok_or_else(|| Problem::new("it is a number of replicas, from 0 to 9"))
        });
        let wait = wait.unwrap_or(0);
        if let (Some(given), Some(target)) = (self.raw.get("redis-wait"), target)
            && wait > 0
            && !target.is_redis()
        {
            self.problems.push(Problem::new(format!(
                "{given}: {target} has no replicas that could be waited for; leave it out, or \
                 choose a Redis with --backend"
            )));
        }
        wait
    }

    /// The parts have defaults that depend on the TTL; the sum is judged only where
    /// each part could be read.
    fn timing(&mut self, target: Option<&Target>) -> Option<Timing> {
        let before = self.problems.len();
        let usual = target.map_or(DEFAULT_TTL, Target::default_ttl);
        let ttl = self.read("ttl", ttl).unwrap_or(usual);
        let renew_every = self.read("renew-every", positive).unwrap_or(ttl / 3);
        let call_timeout = self.read("call-timeout", positive).unwrap_or(ttl / 6);
        let drift = self.read("drift", |text| text.parse().map_err(Problem::of));
        let drift = drift.unwrap_or(Drift::ONE_PERCENT);
        let stop_budget = self.stop_budget(ttl);
        if self.problems.len() > before {
            return None;
        }
        let timing = Timing::new(ttl, renew_every, call_timeout, stop_budget, drift);
        let keep = |error: TimingError| self.problems.push(Problem::of(error));
        timing.map_err(keep).ok()
    }

    /// An app is stopped inside the lease, so some of it is kept for that.
    fn stop_budget(&mut self, ttl: Duration) -> Duration {
        if self.raw.command.is_empty() {
            // An app that is told by a call needs time between the word and the end.
            let told = self.raw.get("hook").is_some();
            let usual = if told { ttl / 4 } else { Duration::ZERO };
            return self.duration("stop-budget").unwrap_or(usual);
        }
        let budget = self.read("stop-budget", |text| match duration(text)? {
            Duration::ZERO => Err(Problem::new(
                "a command takes time to be stopped; leave it out for ttl/4",
            )),
            budget => Ok(budget),
        });
        budget.unwrap_or(ttl / 4)
    }

    fn logging(&mut self) -> Logging {
        let format = self.read("log-format", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(Problem::new("it is text or json")),
        });
        let level = self.read("log-level", |text| match text {
            "off" => Ok(None),
            "error" => Ok(Some(tracing::Level::ERROR)),
            "warn" => Ok(Some(tracing::Level::WARN)),
            "info" => Ok(Some(tracing::Level::INFO)),
            "debug" => Ok(Some(tracing::Level::DEBUG)),
            "trace" => Ok(Some(tracing::Level::TRACE)),
            _ => Err(Problem::new("it is off, error, warn, info, debug or trace")),
        });
        Logging {
            format: format.unwrap_or(LogFormat::Text),
            level: level.unwrap_or(Some(tracing::Level::INFO)),
        }
    }
}
