//! The sidecar's side of a guard.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::guard::{Orders, itself};
use super::margin;
use super::message::{FromGuard, Pipe, ToGuard};
use super::running::Setup;
use crate::config::{StopSignal, variables};
use crate::machine::Tenure;
use crate::systemd::SUPERVISION;
use crate::time::Moment;

/// One app under its guard.
pub struct Guarded {
    pipe: Pipe,
    /// `None` once it is buried: its pid is then anybody's.
    guard: Option<Pid>,
    margin: Duration,
    told_end: Moment,
    kill_at: Option<Moment>,
}

impl Guarded {
    /// Starts a guard, which starts the app.
    pub fn start(setup: &Setup, tenure: &Tenure) -> io::Result<Self> {
        let (pipe, guards) = Pipe::pair()?;
        let stop_budget = setup.election.timing().stop_budget();
        let orders = Orders {
            stop_signal: setup.app.stop_signal,
            stop_budget,
            leads_until: tenure.leads_until,
            ends_at: tenure.ends_at,
            open_files: setup.open_files,
            command: setup.app.command.clone(),
        };
        let mut command = itself();
        command
            .args(orders.arguments())
            .stdin(Stdio::from(guards))
            // A Ctrl-C is the sidecar's to handle.
            .process_group(0);
        // The settings are the sidecar's own; one may hold a password.
        for variable in variables() {
            command.env_remove(variable);
        }
        // Systemd watches over the sidecar: the app's word must not stand for it.
        for variable in SUPERVISION {
            command.env_remove(variable);
        }
        let child = command
            .env("TENURE_FENCE_TOKEN", tenure.epoch.to_string())
            .env("TENURE_API", &setup.api_url)
            .env("TENURE_ELECTION", setup.election.name().as_str())
            .env("TENURE_ID", setup.election.profile().node.as_str())
            .spawn()?;
        Ok(Self {
            pipe,
            guard: i32::try_from(child.id()).ok().and_then(Pid::from_raw),
            margin: margin(stop_budget),
            told_end: tenure.ends_at,
            kill_at: None,
        })
    }

    /// The guard's next word; `None` when it has ended.
    pub async fn next(&self) -> Option<FromGuard> {
        self.pipe.next().await
    }

    /// The lease stands for longer.
    pub fn prolong(&mut self, tenure: &Tenure) {
        if tenure.ends_at > self.told_end {
            self.told_end = tenure.ends_at;
            self.pipe.tell(&ToGuard::Until {
                leads_until: tenure.leads_until,
                ends_at: tenure.ends_at,
            });
        }
    }

    /// Asks the app to stop, and has it killed then.
    pub fn stop(&mut self, kill_at: Moment) {
        if self.kill_at.is_none_or(|before| kill_at < before) {
            self.kill_at = Some(kill_at);
            self.pipe.tell(&ToGuard::Stop { kill_at });
        }
    }

    /// Passes a signal on.
    pub fn signal(&self, signal: StopSignal) {
        self.pipe.tell(&ToGuard::Signal(signal));
    }

    /// When the guard should have ended the app: later, it hangs itself.
    pub fn overdue_at(&self) -> Moment {
        let end = self.told_end - self.margin / 2;
        self.kill_at.map_or(end, |at| (at + self.margin).min(end))
    }

    /// Kills the guard, and so the app's main process.
    pub fn kill_guard(&self) {
        if let Some(guard) = self.guard {
            let _ = kill_process(guard, Signal::KILL);
        }
    }

    /// A child was buried.
    pub fn buried(&mut self, pid: Pid) {
        self.guard.take_if(|guard| *guard == pid);
    }
}
