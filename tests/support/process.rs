//! Real processes of the real binary: sidecars that are stopped when the test ends,
//! however it ends, and commands that cannot hang a test.
#![allow(dead_code)]

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::http::{Reply, Wire, request, request_on};

/// How long anything that must happen may take on a busy machine.
pub const BOUND: Duration = Duration::from_secs(15);

const BINARY: &str = env!("CARGO_BIN_EXE_tenure");

/// The binary with nothing of this environment that would configure it.
pub fn tenure() -> Command {
    unconfigured(Command::new(BINARY))
}

/// A program that starts the binary, in the same environment.
pub fn tenure_by(program: &str) -> Command {
    unconfigured(Command::new(program))
}

/// The same in this network namespace, ahead of what else this machine has to do.
pub fn tenure_in(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command.args(["nice", "-n", "-15", BINARY]);
    unconfigured(command)
}

fn unconfigured(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENURE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.text(), self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `tenure` with these arguments to its end.
pub fn run(arguments: &[&str]) -> Ended {
    finish(tenure().args(arguments), b"")
}

/// Runs a command to its end, killing it where it takes longer than any should.
pub fn finish(command: &mut Command, input: &[u8]) -> Ended {
    finish_within(BOUND, command, input)
}

/// The same for a command that may take as long as this.
pub fn finish_within(bound: Duration, command: &mut Command, input: &[u8]) -> Ended {
    let mut child = Killed(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut stdin = child.0.stdin.take().unwrap();
    let input = input.to_vec();
    std::thread::spawn(move || {
        // A command that reads no input closes it.
        let _ = stdin.write_all(&input);
    });
    let out = gather(child.0.stdout.take().unwrap());
    let err = gather(child.0.stderr.take().unwrap());
    let status = exit_of(&mut child.0, bound).expect("the command ends by itself");
    Ended {
        code: status.code(),
        out: out.join().unwrap(),
        err: String::from_utf8_lossy(&err.join().unwrap()).into_owned(),
    }
}

fn gather(mut from: impl io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn exit_of(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + bound;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// A child that does not outlive its test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines of a process, as they come.
#[derive(Clone, Default)]
pub struct Lines {
    shared: Arc<(Mutex<Read>, Condvar)>,
}

/// What was read so far.
#[derive(Default)]
struct Read {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub fn of(from: impl io::Read + Send + 'static) -> Self {
        let lines = Self::default();
        let sink = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                sink.lock().lines.push(line);
                sink.shared.1.notify_all();
            }
            sink.lock().ended = true;
            sink.shared.1.notify_all();
        });
        lines
    }

    pub fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Waits until the process has closed its output.
    #[track_caller]
    pub fn ended(&self) {
        let end = Instant::now() + BOUND;
        let mut read = self.lock();
        while !read.ended {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it goes on after {:#?}", read.lines);
            read = self.shared.1.wait_timeout(read, left).unwrap().0;
        }
    }

    /// A test that failed while it held this poisons it; the next reader does not mind.
    fn lock(&self) -> MutexGuard<'_, Read> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first line, of those there are and those to come, that fits.
    #[track_caller]
    pub fn until(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.until_after(0, what, fits)
    }

    /// The same, not looking at the first `skip` lines.
    #[track_caller]
    pub fn until_after(&self, skip: usize, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + BOUND;
        let mut read = self.lock();
        loop {
            if let Some(line) = read.lines.iter().skip(skip).find(|line| fits(line)) {
                return line.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !read.ended && !left.is_zero(),
                "no line with {what} among {:#?}",
                read.lines
            );
            read = self.shared.1.wait_timeout(read, left).unwrap().0;
        }
    }
}

/// A running sidecar.
pub struct Node {
    child: Killed,
    pub api: SocketAddr,
    /// Where its API is asked instead.
    socket: Option<PathBuf>,
    pub out: Lines,
    pub err: Lines,
}

impl Node {
    /// Starts a sidecar on a free port and waits until it has told its address.
    #[track_caller]
    pub fn start(backend: &str, flags: &[&str]) -> Self {
        let mut command = tenure();
        command.env("TENURE_BACKEND", backend).arg("run");
        if !flags.iter().any(|flag| flag.starts_with("--listen")) {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(flags);
        Self::spawn(&mut command)
    }

    /// Starts what was prepared, which must be a `tenure run` with a text banner.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = Killed(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let out = Lines::of(child.0.stdout.take().unwrap());
        let err = Lines::of(child.0.stderr.take().unwrap());
        let end = Instant::now() + BOUND;
        let api = loop {
            let ended = child.0.try_wait().unwrap();
            if ended.is_some() {
                // What it said last may not have been read yet.
                out.ended();
                err.ended();
            }
            // With an app, stdout is the app's.
            let said = [out.all(), err.all()].concat();
            let told = said.iter().find_map(|line| address_in(line));
            if let Some(address) = told {
                break address;
            }
            assert!(
                ended.is_none() && Instant::now() < end,
                "{ended:?}, no address: {:#?} {:#?}",
                out.all(),
                err.all()
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        Self {
            child,
            api,
            socket: None,
            out,
            err,
        }
    }

    /// Starts a sidecar and waits until it leads.
    #[track_caller]
    pub fn leading(backend: &str, flags: &[&str]) -> Self {
        let node = Self::start(backend, flags);
        node.until("leads", |status| status["is_leader"] == true);
        node
    }

    /// Starts a sidecar and waits until it follows.
    #[track_caller]
    pub fn following(backend: &str, flags: &[&str]) -> Self {
        let node = Self::start(backend, flags);
        node.until("follows", |status| status["state"] == "follower");
        node
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// Where the probes listen.
    #[track_caller]
    pub fn probes(&self) -> SocketAddr {
        let line = self
            .out
            .until("the probes", |line| line.starts_with("probes"));
        address_in(&line).unwrap()
    }

    /// Its API is on this Unix socket, which no network stands before.
    #[must_use]
    pub fn asked_on(self, socket: PathBuf) -> Self {
        Self {
            socket: Some(socket),
            ..self
        }
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        match &self.socket {
            Some(it) => request_on(Wire::unix(it), "localhost", method, path, headers, body),
            None => request(self.api, method, path, headers, body),
        }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Reply {
        let kind: &[(&str, &str)] = &[("Content-Type", "application/json")];
        self.ask("POST", path, kind, body.as_bytes())
    }

    /// Writes a checkpoint under the node's own token.
    #[track_caller]
    pub fn put(&self, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.ask("PUT", "/checkpoint", headers, body)
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.get("/status").json()
    }

    /// The token of a node that leads.
    #[track_caller]
    pub fn token(&self) -> u64 {
        self.status()["fence_token"].as_u64().expect("it leads")
    }

    /// The first status that fits.
    #[track_caller]
    pub fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + BOUND;
        loop {
            let status = self.status();
            if fits(&status) {
                return status;
            }
            assert!(Instant::now() < end, "never {what}: {status:#}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for the end; the exit code, or `None` after a signal.
    #[track_caller]
    pub fn exit(&mut self) -> Option<i32> {
        let status = exit_of(&mut self.child.0, BOUND);
        status.expect("the sidecar ends").code()
    }

    pub fn runs(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }
}

/// Sends a signal to a process that this test started.
pub fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    // A sidecar on a Unix socket is asked through its probes.
    let told = ["API", "probes", "{"]
        .iter()
        .any(|start| line.starts_with(start));
    let end = rest.find('"').unwrap_or(rest.len());
    told.then(|| rest[..end].trim().parse().unwrap())
}

/// The URL of a directory store.
pub fn file_url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}
