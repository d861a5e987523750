//! A sidecar: the real binary as a process of its own, killed on drop.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// How a sidecar is started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub id: String,
    pub store: String,
    /// Flags beside the usual ones.
    pub flags: Vec<String>,
    pub variables: Vec<(String, String)>,
}

impl Setup {
    pub fn new(id: &str, store: &str) -> Self {
        Self {
            id: id.to_owned(),
            store: store.to_owned(),
            flags: Vec::new(),
            variables: Vec::new(),
        }
    }

    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.flags.push(name.to_owned());
        self.flags.push(value.to_string());
        self
    }

    pub fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }
}

pub struct Node {
    child: Child,
    pub address: SocketAddr,
    stderr: PathBuf,
    _home: tempfile::TempDir,
}

impl Node {
    pub fn start(setup: &Setup) -> Self {
        let home = tempfile::tempdir().unwrap();
        let stderr = home.path().join("stderr");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenure"))
            .arg("run")
            .args(["--backend", &setup.store, "--id", &setup.id])
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(&setup.flags)
            .envs(setup.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (found, banner) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(api) = json["api"].as_str() {
                    let address = api.trim_start_matches("http://").parse();
                    let _ = found.send(address.unwrap());
                }
            }
        });
        // Made before the wait, so that a panic below still kills the process.
        let mut node = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            stderr,
            _home: home,
        };
        match banner.recv_timeout(STARTS_WITHIN) {
            Ok(address) => node.address = address,
            Err(_) => panic!("{} does not start: {}", setup.id, node.log()),
        }
        node
    }

    /// What it wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let until = Instant::now() + STARTS_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "SIGTERM is ignored: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Still running; a crash is a violation of its own.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}
