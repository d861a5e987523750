//! The lab's nodes: real processes, each watched from outside.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;

use super::NODE_COMMAND;
use super::log::{Log, Status, What};
use super::worker::Event;
use crate::client::Client;
use crate::config::variables;
use crate::systemd::SUPERVISION;
use crate::time::{pause, within};

/// Longer than any node needs for its first line.
const START_TIME: Duration = Duration::from_secs(20);

/// What a node is called, and the member that it is.
pub(super) fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

/// One process. Dropping it kills it.
pub(super) struct Node {
    pub name: String,
    pub client: Client,
    child: Child,
    _watchers: JoinSet<()>,
}

impl Node {
    /// Starts a node and waits for its first line.
    pub async fn start(
        number: usize,
        flags: &[String],
        backend: &str,
        log: &Log,
    ) -> anyhow::Result<Self> {
        let name = name(number);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(NODE_COMMAND).args(["--id", &name]).args(flags);
        // What configures the user's own sidecars is not the lab's, nor is who watches over it.
        for variable in variables() {
            command.env_remove(variable);
        }
        for variable in SUPERVISION {
            command.env_remove(variable);
        }
        command
            .env("TENURE_BACKEND", backend)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--log-level",
                "warn",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // A Ctrl-C is the lab's to handle.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let Some(stdout) = child.stdout.take() else {
            anyhow::bail!("{name} has no stdout");
        };
        let mut lines = BufReader::new(stdout).lines();
        let first = within(START_TIME, lines.next_line()).await;
        let Some(Ok(Some(first))) = first else {
            anyhow::bail!("{name} did not start; its message stands above");
        };
        let Ok(Event::Started { api }) = serde_json::from_str(&first) else {
            anyhow::bail!("{name} began with an unexpected line: {first}");
        };
        let client = Client::new(&api, None)?;
        let mut watchers = JoinSet::new();
        watchers.spawn(collect(number, lines, log.clone()));
        watchers.spawn(observe(number, client.clone(), log.clone()));
        Ok(Self {
            name,
            client,
            child,
            _watchers: watchers,
        })
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = id.and_then(Pid::from_raw) else {
            anyhow::bail!("{} has ended by itself", self.name);
        };
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for the process' end.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let ended = within(START_TIME, self.child.wait()).await;
        ended.ok_or_else(|| anyhow::anyhow!("{} does not end", self.name))??;
        Ok(())
    }

    /// The status now, whole.
    pub async fn status(&self) -> anyhow::Result<serde_json::Value> {
        let answer = self.client.send("GET", "/status", &[], Vec::new()).await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }
}

/// Writes down what the worker reports.
async fn collect(node: usize, mut lines: Lines<BufReader<ChildStdout>>, log: Log) {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(event) = serde_json::from_str(&line) {
            log.add(node, What::Worker(event));
        }
    }
}

/// Follows the sidecar's status by long-poll, as an app would.
async fn observe(node: usize, client: Client, log: Log) {
    let mut path = "/status".to_owned();
    loop {
        let answer = client.send("GET", &path, &[], Vec::new()).await;
        let status = answer
            .ok()
            .and_then(|answer| serde_json::from_slice(&answer.body).ok());
        let Some(status): Option<Status> = status else {
            pause(Duration::from_millis(20)).await;
            continue;
        };
        path = format!("/status?after_revision={}&wait=30s", status.revision);
        log.add(node, What::Status(status));
    }
}
