//! Real etcd servers of the test's own, one or a cluster, and a way to talk to them raw.
//!
//! Needs `mod ports` at the root of the test.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use asked::http;

use crate::ports::{free_port, free_ports};

#[path = "etcd_asked.rs"]
mod asked;

const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Which etcd is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one that Debian installs: `etcd` in the PATH.
    V3_4,
    /// The one that `.ci/etcd-3.5` puts beside the build; `ETCD_3_5` names another place.
    V3_5,
}

impl Version {
    fn program(self, name: &str) -> PathBuf {
        match self {
            Self::V3_4 => name.into(),
            Self::V3_5 => {
                let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/etcd-3.5");
                let home = std::env::var_os("ETCD_3_5").map_or(beside, PathBuf::from);
                let program = home.join(name);
                assert!(
                    program.exists(),
                    "{} is missing: .ci/etcd-3.5 brings it",
                    program.display()
                );
                program
            }
        }
    }
}

/// What servers are started with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub version: Version,
    pub members: usize,
    /// Between the members; etcd's least lease follows from it.
    pub election_timeout: Duration,
    pub arguments: Vec<String>,
    /// Clients are listened to over TLS, too.
    pub tls: bool,
}

impl Setup {
    pub fn of(version: Version, members: usize) -> Self {
        Self {
            version,
            members,
            election_timeout: Duration::from_millis(500),
            arguments: Vec::new(),
            tls: false,
        }
    }

    /// Over TLS as well, with the files that the arguments name.
    pub fn over_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }
}

/// One server, or several that form a cluster, on free ports of 127.0.0.1, each with a
/// directory of its own. Killed on drop.
pub struct Etcd {
    setup: Setup,
    /// Where the first one speaks TLS.
    tls_port: Option<u16>,
    members: Vec<Member>,
    home: tempfile::TempDir,
}

struct Member {
    child: Option<Child>,
    client: u16,
    peer: u16,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Etcd {
    pub fn single(version: Version) -> Self {
        Self::start(Setup::of(version, 1))
    }

    pub fn cluster(version: Version) -> Self {
        Self::start(Setup::of(version, 3))
    }

    pub fn start(setup: Setup) -> Self {
        // Another process may take a port in between: try other ones then.
        for _ in 0..10 {
            let mut etcd = Self {
                members: Vec::new(),
                home: tempfile::tempdir().unwrap(),
                tls_port: setup.tls.then(free_port),
                setup: setup.clone(),
            };
            let mut ports = free_ports(setup.members * 2).into_iter();
            while let (Some(client), Some(peer)) = (ports.next(), ports.next()) {
                etcd.members.push(Member {
                    child: None,
                    client,
                    peer,
                });
            }
            if etcd.try_launch_all() {
                return etcd;
            }
        }
        panic!("{:?} did not start", setup.version);
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn port(&self, member: usize) -> u16 {
        self.members[member].client
    }

    pub fn tls_port(&self) -> u16 {
        self.tls_port.unwrap()
    }

    pub fn peer_port(&self, member: usize) -> u16 {
        self.members[member].peer
    }

    pub fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// The address of all members.
    pub fn url(&self) -> String {
        let places: Vec<_> = self
            .ports()
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        format!("etcd://{}", places.join(","))
    }

    pub fn log(&self, member: usize) -> String {
        std::fs::read_to_string(self.home.path().join(format!("m{member}.log"))).unwrap_or_default()
    }

    fn data(&self, member: usize) -> PathBuf {
        self.home.path().join(format!("m{member}"))
    }

    fn peers(&self) -> String {
        let peers = self.members.iter().enumerate();
        let peers: Vec<_> = peers
            .map(|(at, member)| format!("m{at}=http://127.0.0.1:{}", member.peer))
            .collect();
        peers.join(",")
    }

    fn launch(&mut self, at: usize) {
        assert!(self.members[at].child.is_none(), "it still runs");
        let (client, peer) = (self.port(at), self.peer_port(at));
        let (client, peer) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        let mut listen = client.clone();
        if let Some(port) = self.tls_port {
            listen += &format!(",https://127.0.0.1:{port}");
        }
        let election = self.setup.election_timeout.as_millis();
        let log = std::fs::File::create(self.home.path().join(format!("m{at}.log"))).unwrap();
        let child = Command::new(self.setup.version.program("etcd"))
            .args(["--name", &format!("m{at}"), "--data-dir"])
            .arg(self.data(at))
            .args([
                "--listen-client-urls",
                &listen,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &self.peers(),
                "--initial-cluster-token",
                "tenure-test",
            ])
            .args([
                "--initial-cluster-state",
                "new",
                "--logger",
                "zap",
                "--log-level",
                "warn",
            ])
            .args(["--election-timeout", &election.to_string()])
            .args(["--heartbeat-interval", &(election / 10).to_string()])
            .args(&self.setup.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("etcd must be installed");
        self.members[at].child = Some(child);
    }

    fn try_launch_all(&mut self) -> bool {
        for at in 0..self.members.len() {
            self.launch(at);
        }
        (0..self.members.len()).all(|at| self.becomes_healthy(at))
    }

    /// Waits until a member answers as part of a cluster that has a leader.
    fn becomes_healthy(&mut self, at: usize) -> bool {
        let until = Instant::now() + STARTS_WITHIN;
        while Instant::now() < until {
            let child = self.members[at].child.as_mut().expect("it runs");
            if child.try_wait().unwrap().is_some() {
                self.members[at].child = None;
                return false;
            }
            if self.is_healthy(at) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    pub fn is_healthy(&self, at: usize) -> bool {
        let answer = http(self.port(at), "GET", "/health", "");
        answer.is_ok_and(|answer| answer.contains("\"health\":\"true\""))
    }

    /// Starts a member again on the same ports, with whatever its directory holds.
    pub fn start_again(&mut self, at: usize) {
        self.launch(at);
        assert!(
            self.becomes_healthy(at),
            "it does not start again: {}",
            self.log(at)
        );
    }

    /// Where each needs the others to become healthy.
    pub fn start_again_together(&mut self, members: &[usize]) {
        for at in members {
            self.launch(*at);
        }
        for at in members {
            assert!(
                self.becomes_healthy(*at),
                "it does not start again: {}",
                self.log(*at)
            );
        }
    }

    pub fn start_all_again(&mut self) {
        assert!(
            self.try_launch_all(),
            "they do not start again: {}",
            self.log(0)
        );
    }

    /// `kill -9`.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn kill_all(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }

    /// SIGSTOP: it accepts connections in the kernel and answers nothing.
    pub fn pause(&self, at: usize) {
        self.signal(at, Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self, at: usize) {
        self.signal(at, Signal::CONT);
    }

    pub fn process(&self, at: usize) -> u32 {
        self.members[at].child.as_ref().expect("it runs").id()
    }

    fn signal(&self, at: usize, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.process(at)).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Removes what all members have on disk; while none runs.
    pub fn lose_data(&self) {
        for (at, member) in self.members.iter().enumerate() {
            assert!(member.child.is_none(), "it still runs");
            let _ = std::fs::remove_dir_all(self.data(at));
        }
    }

    /// Copies the data into a file, as an operator would.
    pub fn save(&self, to: &Path) {
        let to = to.to_str().unwrap();
        self.etcdctl(0, &["snapshot", "save", to]);
    }

    /// Puts such a copy in the place of all data, and starts from it.
    pub fn restore(&mut self, from: &Path) {
        self.kill_all();
        self.lose_data();
        for at in 0..self.members.len() {
            let data = self.data(at);
            let peer = format!("http://127.0.0.1:{}", self.peer_port(at));
            let arguments = [
                "snapshot",
                "restore",
                from.to_str().unwrap(),
                "--name",
                &format!("m{at}"),
                "--data-dir",
                data.to_str().unwrap(),
                "--initial-cluster",
                &self.peers(),
                "--initial-cluster-token",
                "tenure-test",
                "--initial-advertise-peer-urls",
                &peer,
            ];
            self.etcdctl(at, &arguments);
        }
        self.start_all_again();
    }

    /// Runs `etcdctl` against one member.
    pub fn etcdctl(&self, at: usize, arguments: &[&str]) -> String {
        self.etcdctl_reading(at, arguments, "")
    }

    /// The same, with an input.
    pub fn etcdctl_reading(&self, at: usize, arguments: &[&str], input: &str) -> String {
        let mut child = Command::new(self.setup.version.program("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args([
                "--endpoints",
                &format!("http://127.0.0.1:{}", self.port(at)),
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl must be installed");
        let mut stdin = child.stdin.take().unwrap();
        // It may end without having read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "etcdctl {arguments:?}: {text} {error}"
        );
        text
    }
}
