//! The leader's app dies: how soon the next leader's app runs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::effort::Effort;
use crate::http::Connection;
use crate::store::Store;
use crate::table::{Row, Sample};

const NODES: usize = 3;
/// Beyond every bound of the timing, for a machine that is busy.
const SLACK: Duration = Duration::from_secs(30);
/// Tells its pid, and is nothing but a sleep afterwards.
const APP: &str = "echo $$; exec sleep 1000";

/// An app's first word.
struct Begun {
    node: usize,
    pid: i32,
    at: Instant,
}

/// A sidecar with an app. Dropping it kills both.
struct Node {
    child: Child,
    port: u16,
}

impl Node {
    fn start(number: usize, store: &Store, begun: &Sender<Begun>) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenure"))
            .args(["run", "--ttl", "15s", "--restart", "never"])
            .args(["--id", &format!("node-{number}"), "--backend", &store.url()])
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(["--", "sh", "-c", APP])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut node = Self { child, port: 0 };
        let mut first = String::new();
        stderr.read_line(&mut first)?;
        let first: Value = serde_json::from_str(&first).context("a sidecar did not start")?;
        let (_, port) = first["api"]
            .as_str()
            .and_then(|api| api.rsplit_once(':'))
            .context("a sidecar without an API")?;
        node.port = port.parse()?;
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(drop));
        let stdout = BufReader::new(node.child.stdout.take().context("no stdout")?);
        let begun = begun.clone();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let at = Instant::now();
                if let Ok(pid) = line.parse() {
                    let _ = begun.send(Begun {
                        node: number,
                        pid,
                        at,
                    });
                }
            }
        });
        Ok(node)
    }

    fn until_follows(&self) -> anyhow::Result<()> {
        let until = Instant::now() + SLACK;
        let mut connection = Connection::open(self.port)?;
        while connection.get("/status")?.json()?["state"] != "follower" {
            ensure!(Instant::now() < until, "a sidecar does not follow");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// SIGKILL to the leader's app → the first word of the next leader's, at a TTL of 15 s.
pub fn app(effort: Effort) -> anyhow::Result<()> {
    let floor = floor()?;
    for store in Store::each()? {
        let (send, begun) = channel();
        let mut nodes = vec![Node::start(0, &store, &send)?];
        let mut leads = next(&begun)?;
        for number in 1..NODES {
            nodes.push(Node::start(number, &store, &send)?);
            nodes[number].until_follows()?;
        }
        let mut took = Sample::default();
        for _ in 0..effort.rounds(50) {
            effort.linger(Duration::from_millis(200));
            let old = leads;
            let killed = Instant::now();
            kill_process(Pid::from_raw(old.pid).context("no pid")?, Signal::KILL)?;
            leads = next(&begun)?;
            ensure!(leads.node != old.node, "the same node led again");
            took.add(leads.at.saturating_duration_since(killed));
            let code = nodes[old.node].child.wait()?.code();
            ensure!(code == Some(137), "the sidecar ended with {code:?}");
            nodes[old.node] = Node::start(old.node, &store, &send)?;
            nodes[old.node].until_follows()?;
        }
        Row {
            what: "app: SIGKILL to next leader's app, TTL 15 s",
            store: store.kind(),
            unit: "ms",
            sample: &took,
            floor: Some(("sh starts", floor)),
            target: Some(20.0),
        }
        .print();
    }
    Ok(())
}

fn next(begun: &Receiver<Begun>) -> anyhow::Result<Begun> {
    begun.recv_timeout(SLACK).context("no app begins")
}

/// What starting the same app takes without anything around it.
fn floor() -> anyhow::Result<f64> {
    let mut sample = Sample::default();
    for _ in 0..20 {
        let began = Instant::now();
        let mut child = Command::new("sh")
            .args(["-c", APP])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        sample.add(began.elapsed());
        child.kill()?;
        child.wait()?;
    }
    Ok(sample.median())
}
