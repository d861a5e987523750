//! Real sidecars around one election, each followed by a long-poll of its status.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::http::Connection;
use crate::store::Store;

/// Beyond every bound of the timing, for a machine that is busy.
const SLACK: Duration = Duration::from_secs(30);

/// One process. Dropping it kills it.
pub struct Node {
    child: Child,
    pub port: u16,
}

impl Node {
    fn start(number: usize, flags: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command
            .arg("run")
            .args(["--id", &format!("node-{number}")])
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TENURE_") {
                command.env_remove(name);
            }
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut node = Self { child, port: 0 };
        let mut first = String::new();
        BufReader::new(stdout).read_line(&mut first)?;
        let first: Value = serde_json::from_str(&first).context("a sidecar did not start")?;
        let api = first["api"].as_str().unwrap_or_default();
        let (_, port) = api.rsplit_once(':').context("a sidecar without an API")?;
        node.port = port.parse()?;
        Ok(node)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("no pid")?, signal)?)
    }

    pub fn status(&self) -> anyhow::Result<Value> {
        Connection::open(self.port)?.get("/status")?.json()
    }

    /// Waits for the end of a process that was told to end.
    fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        let until = Instant::now() + SLACK;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("a sidecar does not end")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a node said, and when it was heard.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    pub node: usize,
    /// Which start of the node.
    life: u32,
    pub at: Instant,
    /// The epoch under which it says that it leads.
    pub leads: Option<u64>,
    /// The epoch that it follows.
    follows: Option<u64>,
}

/// Who leads, under which epoch.
#[derive(Clone, Copy, Debug)]
pub struct Leader {
    pub node: usize,
    pub epoch: u64,
}

/// A running election.
pub struct Fleet<'a> {
    pub nodes: Vec<Node>,
    lives: Vec<u32>,
    latest: Vec<Option<Sighting>>,
    flags: Vec<String>,
    /// Whose members the nodes are, where there is no store.
    cluster: Option<&'a Cluster>,
    watched: bool,
    send: Sender<Sighting>,
    sightings: Receiver<Sighting>,
}

/// How a fleet is set up.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// One name, or several with commas; the first is the one that is followed.
    pub election: &'a str,
    pub nodes: usize,
    pub ttl: Duration,
    /// Whether long-polls follow it. An idle node that is measured has none.
    pub watched: bool,
}

impl<'a> Fleet<'a> {
    /// Starts the nodes one after another.
    pub fn start(store: &Store, setup: Setup<'_>) -> anyhow::Result<Self> {
        Self::begun(store.url(), None, setup)
    }

    /// Starts the members one after another.
    pub fn of(cluster: &'a Cluster, setup: Setup<'_>) -> anyhow::Result<Self> {
        Self::begun(cluster.backend.to_owned(), Some(cluster), setup)
    }

    fn begun(
        backend: String,
        cluster: Option<&'a Cluster>,
        setup: Setup<'_>,
    ) -> anyhow::Result<Self> {
        let flags = [
            ("--backend", backend),
            ("--ttl", format!("{}ms", setup.ttl.as_millis())),
        ];
        let elections = setup
            .election
            .split(',')
            .map(|name| ("--election", name.to_owned()));
        let flags = flags
            .into_iter()
            .chain(elections)
            .flat_map(|(flag, value)| [flag.to_owned(), value]);
        let (send, sightings) = channel();
        let mut fleet = Self {
            nodes: Vec::new(),
            lives: vec![0; setup.nodes],
            latest: vec![None; setup.nodes],
            flags: flags.collect(),
            cluster,
            watched: setup.watched,
            send,
            sightings,
        };
        for number in 0..setup.nodes {
            fleet.nodes.push(fleet.start_node(number)?);
            fleet.watch(number);
        }
        Ok(fleet)
    }

    fn start_node(&self, number: usize) -> anyhow::Result<Node> {
        let own = self.cluster.map(|cluster| cluster.flags(number));
        let flags = [&self.flags[..], &own.unwrap_or_default()].concat();
        Node::start(number, &flags)
    }

    /// Waits for the end of a node that was told to end, and starts it anew.
    pub fn restart(&mut self, number: usize) -> anyhow::Result<Option<i32>> {
        let code = self.nodes[number].ended()?;
        self.nodes[number] = self.start_node(number)?;
        self.lives[number] += 1;
        self.latest[number] = None;
        self.watch(number);
        Ok(code)
    }

    /// Ends a node by SIGKILL; when this returns it is gone.
    pub fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[number];
        node.child.kill()?;
        node.child.wait()?;
        Ok(())
    }

    fn watch(&self, node: usize) {
        if self.watched {
            let (port, life, send) = (self.nodes[node].port, self.lives[node], self.send.clone());
            std::thread::spawn(move || follow(port, node, life, &send));
        }
    }

    fn next(&mut self, until: Instant) -> anyhow::Result<Sighting> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let sighting = self.sightings.recv_timeout(left);
            let sighting = sighting.with_context(|| format!("too late; {:?}", self.latest))?;
            if sighting.life == self.lives[sighting.node] {
                self.latest[sighting.node] = Some(sighting);
                return Ok(sighting);
            }
        }
    }

    /// The first word of another node than `old` that it leads, under a higher epoch.
    pub fn successor(&mut self, old: Leader) -> anyhow::Result<(Leader, Instant)> {
        let until = Instant::now() + SLACK;
        loop {
            let Sighting {
                node, at, leads, ..
            } = self.next(until)?;
            match leads {
                Some(epoch) if node != old.node => {
                    ensure!(epoch > old.epoch, "epoch {epoch} after {}", old.epoch);
                    return Ok((Leader { node, epoch }, at));
                }
                _ => {}
            }
        }
    }

    /// Waits until one node leads and every other says that it follows that epoch;
    /// then asks each afresh, so that two leaders would be seen.
    pub fn settled(&mut self) -> anyhow::Result<Leader> {
        let until = Instant::now() + SLACK;
        loop {
            if let Some(leader) = self.agreed()
                && self.asked_afresh(leader)?
            {
                return Ok(leader);
            }
            self.next(until)?;
        }
    }

    fn agreed(&self) -> Option<Leader> {
        let known: Vec<Sighting> = self.latest.iter().copied().collect::<Option<_>>()?;
        let first = known.iter().find(|sighting| sighting.leads.is_some())?;
        let (node, epoch) = (first.node, first.leads?);
        let agree = |it: &Sighting| it.node == node || it.follows == Some(epoch);
        known.iter().all(agree).then_some(Leader { node, epoch })
    }

    fn asked_afresh(&self, leader: Leader) -> anyhow::Result<bool> {
        let mut leaders = 0;
        for node in &self.nodes {
            leaders += usize::from(node.status()?["is_leader"] == true);
        }
        ensure!(leaders <= 1, "{leaders} nodes lead at once");
        let own = self.nodes[leader.node].status()?;
        Ok(leaders == 1 && own["fence_token"] == leader.epoch)
    }
}

/// Long-polls one life of a node until its connection breaks.
fn follow(port: u16, node: usize, life: u32, send: &Sender<Sighting>) {
    let mut path = "/status".to_owned();
    let Ok(mut connection) = Connection::open(port) else {
        return;
    };
    while let Ok(answer) = connection.get(&path)
        && let Ok(status) = answer.json()
    {
        let revision = &status["revision"];
        path = format!("/status?after_revision={revision}&wait=30s");
        let sighting = Sighting {
            node,
            life,
            at: answer.received,
            leads: status["fence_token"].as_u64(),
            follows: status["leader"]["epoch"].as_u64(),
        };
        if send.send(sighting).is_err() {
            return;
        }
    }
}

/// A directory on the disk that the build is on; `/tmp` may be memory.
pub fn scratch() -> anyhow::Result<tempfile::TempDir> {
    let parent = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&parent)?;
    Ok(tempfile::tempdir_in(parent)?)
}
