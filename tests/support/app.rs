//! An app of a test: a process group of its own, so that a signal reaches what it
//! started too, and nothing of it outlives the test.
#![allow(dead_code)]

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::process::{BOUND, Lines};

/// A running app.
pub struct App {
    child: Child,
    pub out: Lines,
    pub err: Lines,
}

impl App {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// To the app and all it started.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group(), signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Waits for the end.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        let end = Instant::now() + BOUND;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let told = (self.out.all(), self.err.all());
            assert!(Instant::now() < end, "it does not end: {told:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Everything it told, after it was killed or ended.
    #[track_caller]
    pub fn last_words(&self) -> Vec<String> {
        self.out.ended();
        self.out.all()
    }

    fn group(&self) -> Pid {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.kill();
    }
}
