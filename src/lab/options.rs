//! What the lab is asked to do.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::config::{Problem, Target, has_password, positive, ttl, variable, without_password};
use crate::lease::{Drift, Timing};

/// What is done to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGTERM: handed over.
    Stop,
    /// SIGKILL: the pause until the lease ends.
    Kill,
    /// SIGSTOP for two TTLs, then it wakes and tries to write.
    Pause,
    /// It loses the store, or all other members, for two TTLs.
    Cut,
    /// The members are parted for two TTLs, the fewer from the more. The leader is among
    /// the fewer in the first round and every other one.
    Partition,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::Partition => "partition",
        })
    }
}

/// The store that the nodes use, or the cluster that they are.
#[derive(Clone)]
pub(crate) struct Backend {
    pub target: Target,
    /// As it was given; it may hold a password, so it reaches the nodes by their
    /// environment and no log.
    text: String,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl Backend {
    /// A directory store.
    pub fn directory(path: &Path) -> Result<Self, Problem> {
        let text = format!("file://{}", path.display());
        text.parse().map(|target| Self { target, text })
    }

    /// Whether the nodes are the members of a cluster, and there is no store.
    pub fn has_members(&self) -> bool {
        #[cfg(feature = "peers")]
        let members = self.target.cluster().is_some();
        #[cfg(not(feature = "peers"))]
        let members = false;
        members
    }

    /// What a node's `TENURE_BACKEND` is, where it reaches the server directly or
    /// through a proxy.
    pub fn for_node(&self, proxy: Option<SocketAddr>) -> String {
        let Some(proxy) = proxy else {
            return self.text.clone();
        };
        let (scheme, rest) = self.text.split_once("://").unwrap_or((&self.text, ""));
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (format!("{login}@"), place),
            None => (String::new(), rest),
        };
        let database = place.split_once('/').map_or("", |(_, database)| database);
        format!("{scheme}://{login}{proxy}/{database}")
    }
}

/// What the lab is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `None`: a directory of the lab's own.
    pub backend: Option<Backend>,
    pub nodes: usize,
    pub timing: Timing,
    pub faults: Vec<Fault>,
    pub rounds: u32,
    pub json: bool,
    /// Where the page with the timeline goes.
    pub report: Option<PathBuf>,
}

impl Options {
    /// Reads the lab's flags.
    ///
    /// # Errors
    /// Every problem together.
    pub fn new(matches: &ArgMatches) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut flags = Flags {
            matches,
            problems: &mut problems,
        };
        let backend = flags.backend();
        let nodes = flags.number("nodes", 3, 2, 9);
        let rounds = flags.number("rounds", 1, 1, 10_000);
        let timing = flags.timing();
        let faults = flags.faults();
        let report = flags.read("report", |text| {
            let path = PathBuf::from(text);
            writable(&path).map(|()| path).map_err(Problem::new)
        });
        problems.extend(unfit(backend.as_ref(), nodes, &faults));
        match timing {
            Some(timing) if problems.is_empty() => Ok(Self {
                backend,
                nodes: usize::try_from(nodes).unwrap_or(3),
                timing,
                faults,
                rounds,
                json: matches.get_flag("json"),
                report,
            }),
            _ => Err(problems),
        }
    }
}

struct Flags<'a> {
    matches: &'a ArgMatches,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Flags<'a> {
    fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Problem>) -> Option<T> {
        let text = self.given(name)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.say_of(name, text, &problem.to_string());
                None
            }
        }
    }

    /// A variable that is set to nothing counts as not set.
    fn given(&self, name: &str) -> Option<&'a str> {
        let text = self.matches.get_one::<String>(name)?;
        (self.is_flag(name) || !text.is_empty()).then_some(text)
    }

    fn is_flag(&self, name: &str) -> bool {
        self.matches.value_source(name) == Some(ValueSource::CommandLine)
    }

    fn say_of(&mut self, name: &str, text: &str, why: &str) {
        let text = without_password(text);
        let place = match self.is_flag(name) {
            true => format!("--{name} {text}"),
            false => format!("{}={text}", variable(name)),
        };
        self.problems.push(Problem::new(format!("{place}: {why}")));
    }

    fn backend(&mut self) -> Option<Backend> {
        if let Some(text) = self.given("backend")
            && self.is_flag("backend")
            && has_password(text)
        {
            let why = "every user of this machine can read a password on a command line; give \
                       the address in TENURE_BACKEND";
            self.say_of("backend", text, why);
        }
        self.read("backend", |text| {
            let (target, text) = (text.parse()?, text.to_owned());
            Ok(Backend { target, text })
        })
    }

    fn number(&mut self, name: &str, default: u32, least: u32, most: u32) -> u32 {
        let number = self.read(name, |text| match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(Problem::new(format!(
                "it is no whole number from {least} to {most}"
            ))),
        });
        number.unwrap_or(default)
    }

    fn timing(&mut self) -> Option<Timing> {
        let before = self.problems.len();
        let ttl = self.read("ttl", ttl).unwrap_or(Duration::from_secs(3));
        let renew_every = self.read("renew-every", positive).unwrap_or(ttl / 3);
        if self.problems.len() > before {
            return None;
        }
        let timing = Timing::new(
            ttl,
            renew_every,
            ttl / 6,
            Duration::ZERO,
            Drift::ONE_PERCENT,
        );
        let keep = |error| self.problems.push(Problem::new(format!("{error}")));
        timing.map_err(keep).ok()
    }

    fn faults(&mut self) -> Vec<Fault> {
        let faults = self.read("fault", |text| {
            text.split(',')
                .map(|name| match name.trim() {
                    "stop" => Ok(Fault::Stop),
                    "kill" => Ok(Fault::Kill),
                    "pause" => Ok(Fault::Pause),
                    "cut" => Ok(Fault::Cut),
                    "partition" => Ok(Fault::Partition),
                    other => Err(Problem::new(format!(
                        "{other} is none of stop, kill, pause, cut, partition"
                    ))),
                })
                .collect()
        });
        faults.unwrap_or_else(|| vec![Fault::Kill, Fault::Stop, Fault::Pause])
    }
}

/// What the nodes' store, or the cluster that they are, does not let the lab do.
fn unfit(backend: Option<&Backend>, nodes: u32, faults: &[Fault]) -> Vec<Problem> {
    let mut found = Vec::new();
    if backend.is_some_and(Backend::has_members) {
        if nodes < 3 {
            found.push(format!(
                "--nodes {nodes}: {nodes} members are their own majority, so that none may fail; \
                 give 3 at least"
            ));
        }
        return found.into_iter().map(Problem::new).collect();
    }
    if faults.contains(&Fault::Partition) {
        found.push(
            "--fault partition: only members have sides; choose --backend bully, ring or raft, or \
             --fault cut to part the leader from its store"
                .to_owned(),
        );
    }
    let server = backend.is_some_and(|backend| backend.target.server().is_some());
    if faults.contains(&Fault::Cut) && !server {
        let what = match backend {
            Some(backend) if backend.target.has_servers() => "several servers",
            _ => "a directory",
        };
        found.push(format!(
            "--fault cut: {what} cannot be cut off by the lab; choose a store with one server, \
             as in --backend redis"
        ));
    }
    found.into_iter().map(Problem::new).collect()
}

/// Whether a file can be written there, found out before minutes of a lab are spent on
/// it. What is there stays as it is, and nothing new is left behind.
fn writable(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() {
        return Err("it is no path".to_owned());
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err("it is a directory; name a file".to_owned()),
        // To open a pipe would wait for its reader.
        Ok(found) if !found.is_file() => Err("it is no regular file".to_owned()),
        Ok(_) => OpenOptions::new()
            .append(true)
            .open(path)
            .map(drop)
            .map_err(|error| format!("it cannot be written: {error}")),
        Err(error) if error.kind() == ErrorKind::NotFound => OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .and_then(|_| fs::remove_file(path))
            .map_err(|error| format!("it cannot be made: {error}")),
        Err(error) => Err(format!("it cannot be written: {error}")),
    }
}
