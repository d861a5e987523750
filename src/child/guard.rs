//! The guard: a process beside the sidecar that ends the app in time, whatever the
//! sidecar does.
//!
//! It takes its orders through its stdin, a socket; `message` says which. It has one
//! thread, since the app's `PR_SET_PDEATHSIG` is about the thread that started it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Signal, getpgid, getpid, getppid, getrlimit, kill_process, kill_process_group,
    set_child_subreaper, set_parent_process_death_signal, setrlimit,
};
use tokio::signal::unix::{SignalKind, signal};

use super::message::{Ended, FromGuard, Pipe, ToGuard, moment};
use super::{margin, tree};
use crate::config::StopSignal;
use crate::exit::tell;
use crate::signals::Ignored;
use crate::time::{Alarm, BootClock, Clock as _, Moment};

/// Hidden commands: the guard, and the last step before the app.
pub const GUARD_COMMAND: &str = "__guard";
/// See [`exec`].
pub const EXEC_COMMAND: &str = "__exec";

/// From one attempt to end everything to the next.
const KILL_AGAIN: Duration = Duration::from_millis(10);
/// As a shell tells it: not found, or not to be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// EX_OSERR of sysexits.h: the system does not give what a guard needs.
const NO_GUARD: u8 = 71;

/// What the sidecar says when it starts a guard.
pub struct Orders {
    pub stop_signal: StopSignal,
    pub stop_budget: Duration,
    pub leads_until: Moment,
    pub ends_at: Moment,
    /// The app's limit of file descriptors, where it is not this process'.
    pub open_files: Option<u64>,
    pub command: Vec<OsString>,
}

impl Orders {
    /// As arguments of [`GUARD_COMMAND`].
    pub fn arguments(&self) -> Vec<OsString> {
        let words = [
            GUARD_COMMAND.to_owned(),
            self.stop_signal.as_str().to_owned(),
            self.stop_budget.as_nanos().to_string(),
            self.leads_until.as_nanos().to_string(),
            self.ends_at.as_nanos().to_string(),
            limit_text(self.open_files),
        ];
        let words = words.into_iter().map(OsString::from);
        words.chain(self.command.iter().cloned()).collect()
    }

    fn read(arguments: &[OsString]) -> Option<Self> {
        let [
            stop_signal,
            stop_budget,
            leads_until,
            ends_at,
            open_files,
            command @ ..,
        ] = arguments
        else {
            return None;
        };
        Some(Self {
            stop_signal: stop_signal.to_str()?.parse().ok()?,
            stop_budget: Duration::from_nanos(stop_budget.to_str()?.parse().ok()?),
            leads_until: moment(leads_until.to_str()?)?,
            ends_at: moment(ends_at.to_str()?)?,
            open_files: limit(open_files.to_str()?)?,
            command: command.to_vec(),
        })
    }
}

/// A limit as an argument: a number, or none.
fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

/// `None` where it is not written so.
fn limit(text: &str) -> Option<Option<u64>> {
    match text {
        "none" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// The guard's whole life; its exit code means nothing to anybody.
pub fn guard(arguments: &[OsString]) -> u8 {
    let Some(orders) = Orders::read(arguments) else {
        tell(format_args!(
            "tenure: {GUARD_COMMAND} is started by `tenure run`, not by hand"
        ));
        return NO_GUARD;
    };
    match watch(orders) {
        Ok(()) => 0,
        Err(error) => {
            tell(format_args!(
                "tenure: the app cannot be guarded, so it is not run: {error}"
            ));
            NO_GUARD
        }
    }
}

fn watch(orders: Orders) -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let pipe = Pipe::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        // A supervisor that signals every process of a service must not end the guard
        // before the app: what the app is told is the sidecar's to decide. What is ignored
        // stays so, in the app as well, unless that is how it is asked to stop: then it begins
        // without.
        let ignored = Ignored::now();
        let stop_signal = SignalKind::from_raw(orders.stop_signal.signal.as_raw());
        for kind in [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ] {
            let asks = kind == SignalKind::terminate() || kind == stop_signal;
            if asks || !ignored.has(kind) {
                let _ = signal(kind)?;
            }
        }
        let deaths = signal(SignalKind::child())?;
        let alarm = Alarm::new()?;
        // Started late, on a machine that stood still: the lease may be over.
        if BootClock.now() >= orders.leads_until {
            pipe.tell(&FromGuard::Stopping);
            pipe.tell(&FromGuard::Gone);
            return Ok(());
        }
        let app = start(&orders)?;
        pipe.tell(&FromGuard::Started(app));
        let guard = Guard {
            pipe,
            app,
            group: Some(app),
            margin: margin(orders.stop_budget),
            orders,
            kill_at: None,
            stopping: false,
            killing: false,
            cut_off: false,
            told: BTreeSet::new(),
        };
        guard.run(deaths, alarm).await;
        Ok(())
    })
}

/// Starts the app in a group of its own, by way of [`exec`].
fn start(orders: &Orders) -> io::Result<Pid> {
    let own = getpid().as_raw_nonzero().to_string();
    let app = itself()
        .args([EXEC_COMMAND, &own, &limit_text(orders.open_files)])
        .args(&orders.command)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    let pid = i32::try_from(app.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("a process without a pid"))
}

/// This very program, though its file be replaced or deleted meanwhile: another version
/// might speak another language.
pub fn itself() -> Command {
    let linked = std::path::Path::new("/proc/self/exe");
    let path = match (linked.exists(), std::env::current_exe()) {
        (false, Ok(path)) => path,
        _ => linked.to_owned(),
    };
    let mut command = Command::new(path);
    command.arg0("tenure");
    command
}

/// The last step before the app, in its process already: should the guard die, this
/// process does, too, and the app that it becomes. Returns only where there is no app.
pub fn exec(arguments: &[OsString]) -> u8 {
    let [guard, open_files, program, arguments @ ..] = arguments else {
        tell(format_args!(
            "tenure: {EXEC_COMMAND} is started by the guard, not by hand"
        ));
        return NO_GUARD;
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tell(format_args!(
            "tenure: the app cannot be guarded, so it is not run: {error}"
        ));
        return NO_GUARD;
    }
    // The guard may have died before the line above.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.as_deref() != guard.to_str() {
        return NO_GUARD;
    }
    if let Some(Some(open_files)) = open_files.to_str().map(limit).unwrap_or_default() {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(open_files);
        // Refused: it can open more than it was meant to.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let error = Command::new(program).args(arguments).exec();
    let shown = program.to_string_lossy();
    tell(format_args!(
        "tenure: the command {shown:?} cannot be run: {error}"
    ));
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

struct Guard {
    pipe: Pipe,
    /// The app's main process.
    app: Pid,
    /// Its group; `None` once that is empty, for the number is then anybody's.
    group: Option<Pid>,
    orders: Orders,
    margin: Duration,
    kill_at: Option<Moment>,
    stopping: bool,
    killing: bool,
    /// The sidecar is gone.
    cut_off: bool,
    /// Processes outside the group that were asked to stop.
    told: BTreeSet<i32>,
}

impl Guard {
    async fn run(mut self, mut deaths: tokio::signal::unix::Signal, mut alarm: Alarm) {
        let clock = BootClock;
        loop {
            let due = self.due(clock.now());
            tokio::select! {
                biased;
                message = self.pipe.next(), if !self.cut_off => match message {
                    Some(message) => self.take(message),
                    None => {
                        self.cut_off = true;
                        self.killing = true;
                    }
                },
                _ = deaths.recv() => {}
                // Without a timer no deadline can be kept.
                rung = alarm.until(&clock, due) => self.killing |= rung.is_err(),
            }
            // A guard that was stopped is judged by the newest word.
            while let Some(message) = self.pipe.waiting() {
                self.take(message);
            }
            self.judge(clock.now());
            if self.killing {
                tree::kill(self.group);
            }
            let left = self.bury(clock.now());
            if !left && self.group.is_none() {
                self.pipe.tell(&FromGuard::Gone);
                return;
            }
        }
    }

    /// When something is due though nothing happens.
    fn due(&self, now: Moment) -> Moment {
        if self.killing {
            return now + KILL_AGAIN;
        }
        let end = self.orders.ends_at - self.margin;
        let end = self.kill_at.map_or(end, |at| at.min(end));
        if self.stopping {
            end
        } else {
            end.min(self.orders.leads_until)
        }
    }

    fn take(&mut self, message: ToGuard) {
        match message {
            ToGuard::Until {
                leads_until,
                ends_at,
            } => {
                self.orders.leads_until = self.orders.leads_until.max(leads_until);
                self.orders.ends_at = self.orders.ends_at.max(ends_at);
            }
            ToGuard::Stop { kill_at } => self.stop(Some(kill_at)),
            ToGuard::Signal(signal) => self.signal_group(signal.signal),
        }
    }

    fn judge(&mut self, now: Moment) {
        let over = now >= self.orders.ends_at - self.margin;
        if over || self.kill_at.is_some_and(|at| at <= now) {
            self.killing = true;
        } else if now >= self.orders.leads_until && !self.stopping {
            self.pipe.tell(&FromGuard::Stopping);
            self.stop(None);
        }
    }

    /// Asks once, however often it is told; the earliest moment for the kill counts.
    fn stop(&mut self, kill_at: Option<Moment>) {
        self.kill_at = [self.kill_at, kill_at].into_iter().flatten().min();
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.signal_group(self.orders.stop_signal.signal);
        // One that is stopped could not do as it is asked.
        self.signal_group(Signal::CONT);
        self.ask_adopted();
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }

    /// What left the group and lost its parent is asked, too, each process once.
    fn ask_adopted(&mut self) {
        for child in tree::children() {
            let outside = getpgid(Some(child)).is_ok_and(|group| Some(group) != self.group);
            if outside && self.told.insert(child.as_raw_nonzero().get()) {
                let _ = kill_process(child, self.orders.stop_signal.signal);
            }
        }
    }

    /// Buries the dead; whether anything is left. When the main process ends by itself,
    /// the rest is asked to stop, and has the stop budget for it.
    fn bury(&mut self, now: Moment) -> bool {
        let app = self.app;
        let mut ended = None;
        let left = tree::reap(|pid, status| {
            if pid == app {
                ended = Some(Ended::of(status));
            }
        });
        // Nothing can join an empty group. Asked after the burial: the dead are members.
        self.group.take_if(|group| !tree::is_there(*group));
        if let Some(ended) = ended {
            self.pipe.tell(&FromGuard::Exited(ended));
        }
        if !left {
            return false;
        }
        if ended.is_some() {
            self.stop(Some(now + self.orders.stop_budget));
        }
        if self.stopping {
            self.ask_adopted();
        }
        true
    }
}
