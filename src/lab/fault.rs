//! The course of the lab: a fleet, one fault after another, and what followed.

use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;

use super::fleet::Node;
use super::judge::{Verdict, judge};
use super::log::{Leading, Log, Record, What, claim, counter, overview, refused, writes};
use super::network::Network;
use super::options::{Fault, Options};
use super::report::{Disturbance, History, Report, Row};
use super::show::Show;
use super::worker::Event;
use crate::lease::SessionId;
use crate::time::{BootClock, Clock as _, Moment, UnixMs, pause};

/// Beyond every bound that the timing gives, for a machine that is busy.
const SLACK: Duration = Duration::from_secs(10);
/// Counts that a leader must have made before the next fault.
const COUNTS: usize = 5;
/// Requests that wait in a paused node.
const WAITING_REQUESTS: usize = 8;

/// A running lab.
pub(super) struct Lab {
    options: Options,
    show: Show,
    log: Log,
    /// What was done so far.
    done: Vec<Disturbance>,
    flags: Vec<String>,
    nodes: Vec<Node>,
    network: Network,
    _moving: JoinSet<()>,
}

impl Lab {
    /// Starts the fleet and waits until its first leader counts.
    pub async fn start(options: &Options, show: Show) -> anyhow::Result<Self> {
        let name = SessionId::random()?;
        let election = format!("lab-{}", name.as_str().get(..8).unwrap_or_default());
        let network = Network::start(options, &election).await?;
        let span = |span: Duration| humantime::format_duration(span).to_string();
        let flags = [
            ("--election", election.clone()),
            ("--ttl", span(options.timing.ttl())),
            ("--renew-every", span(options.timing.renew_every())),
        ];
        let flags = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect();
        let mut lab = Self {
            options: options.clone(),
            show,
            log: Log::new(),
            done: Vec::new(),
            flags,
            nodes: Vec::new(),
            network,
            _moving: JoinSet::new(),
        };
        let ttl = humantime::format_duration(options.timing.ttl());
        lab.show.line(&format!(
            "election {election} on {}, ttl {ttl}",
            lab.network.backend.target
        ));
        for number in 0..options.nodes {
            lab.nodes.push(lab.start_node(number).await?);
        }
        lab.show_moving();
        let first = lab.next_leader(0, None).await?;
        lab.show
            .line(&format!("{} leads", lab.nodes[first.node].name));
        Ok(lab)
    }

    async fn start_node(&self, number: usize) -> anyhow::Result<Node> {
        let flags = [&self.flags[..], &self.network.flags_of(number)].concat();
        let backend = self.network.backend_of(number);
        Node::start(number, &flags, &backend, &self.log).await
    }

    /// Does one fault to the leader and waits until all is well again.
    pub async fn inject(&mut self, round: u32, fault: Fault) -> anyhow::Result<Row> {
        let old = self.counting_leader().await?;
        let before = counter(&self.log.records());
        let verdict_before = judge(&self.log.records());
        let lease_end = self.lease_end(old.node).await;
        let name = self.nodes[old.node].name.clone();
        self.show
            .line(&format!("{fault} {name} (counter {before})"));
        let at = BootClock.now();
        let mut stale_answers = 0;
        let new = match fault {
            Fault::Stop | Fault::Kill => self.end(old, at, fault).await?,
            Fault::Pause => {
                let (new, stale) = self.pause(old, at).await?;
                stale_answers = stale;
                new
            }
            Fault::Cut => self.cut(old, at, fault, &[old.node]).await?,
            Fault::Partition => self.part(old, at, round).await?,
        };
        let new = self.counting(new).await?;
        let records = self.log.records();
        let after = counter(&records);
        let leaderless = match new.epoch > old.epoch {
            true => new.at.since(at),
            // It went on.
            false => Duration::ZERO,
        };
        let verdict = judge(&records);
        let row = Row {
            round,
            fault: fault.to_string(),
            old_leader: name,
            new_leader: self.nodes[new.node].name.clone(),
            leaderless_ms: ms(leaderless),
            share_of_ttl: leaderless.as_secs_f64() / self.options.timing.ttl().as_secs_f64(),
            after_lease_end_ms: lease_end
                .filter(|_| fault != Fault::Stop && new.epoch > old.epoch)
                .map(|end| ms(new.at.since(end))),
            epoch_before: old.epoch,
            epoch_after: new.epoch,
            counter_before: before,
            counter_after: after,
            refused: refused(&records, at, old),
            stale_answers,
            lost: verdict.lost - verdict_before.lost,
            doubled: verdict.doubled - verdict_before.doubled,
        };
        self.show
            .line(&format!("all is well again (counter {before} > {after})"));
        Ok(row)
    }

    /// SIGTERM or SIGKILL; afterwards the node is started anew.
    async fn end(&mut self, old: Leading, at: Moment, fault: Fault) -> anyhow::Result<Leading> {
        let signal = if fault == Fault::Stop {
            Signal::TERM
        } else {
            Signal::KILL
        };
        self.nodes[old.node].signal(signal)?;
        let new = self.successor(old, at).await?;
        self.nodes[old.node].ended().await?;
        let ended = BootClock.now();
        self.nodes[old.node] = self.start_node(old.node).await?;
        self.done.push(Disturbance {
            ended: Some(ended),
            ..over(fault, old, at)
        });
        Ok(new)
    }

    /// SIGSTOP for two TTLs. Requests that reach the node meanwhile wait in it, and
    /// are answered by a process that believes it is two TTLs ago.
    async fn pause(&mut self, old: Leading, at: Moment) -> anyhow::Result<(Leading, u64)> {
        let node = &self.nodes[old.node];
        node.signal(Signal::STOP)?;
        let new = self.successor(old, at).await?;
        let mut waiting = JoinSet::new();
        for _ in 0..WAITING_REQUESTS {
            let client = node.client.clone();
            waiting.spawn(async move { client.send("GET", "/status", &[], Vec::new()).await });
        }
        let rest = (at + self.options.timing.ttl() * 2).since(BootClock.now());
        pause(rest).await;
        node.signal(Signal::CONT)?;
        self.done.push(over(Fault::Pause, old, at));
        let mut stale = 0;
        while let Some(answer) = waiting.join_next().await {
            let body: serde_json::Value = serde_json::from_slice(&answer??.body)?;
            stale += u64::from(body["is_leader"] == true);
        }
        self.follows(old.node, BootClock.now()).await?;
        self.bounces(old, at).await?;
        Ok((new, stale))
    }

    /// Nothing passes for two TTLs between the leader, with those who are cut off beside
    /// it, and the store or the other members.
    async fn cut(
        &mut self,
        old: Leading,
        at: Moment,
        fault: Fault,
        off: &[usize],
    ) -> anyhow::Result<Leading> {
        self.network.set_cut(off, true);
        let new = self.successor(old, at).await?;
        self.heal(old, at, fault, off).await;
        self.follows(old.node, at).await?;
        Ok(new)
    }

    /// The members are parted, the fewer from the more.
    async fn part(&mut self, old: Leading, at: Moment, round: u32) -> anyhow::Result<Leading> {
        let count = self.nodes.len();
        let with_leader = round % 2 == 1;
        let first = if with_leader { old.node } else { old.node + 1 };
        let fewer = (count - 1) / 2;
        let off: Vec<usize> = (first..first + fewer).map(|node| node % count).collect();
        self.show_sides(&off);
        if with_leader {
            return self.cut(old, at, Fault::Partition, &off).await;
        }
        self.network.set_cut(&off, true);
        // The leader goes on. Or another one of its side does: of a log that had its own
        // leader on the other side, none is served until it has a new one.
        let cut_at = BootClock.now();
        let writes = |records: &[Record]| writes(records, cut_at).then_some(());
        let what = "a write on the larger side";
        self.log.until(what, self.bound(), writes).await?;
        self.heal(old, at, Fault::Partition, &off).await;
        self.counting_leader().await
    }

    /// Ends what `set_cut` began, two TTLs after that.
    async fn heal(&mut self, old: Leading, at: Moment, fault: Fault, off: &[usize]) {
        let rest = (at + self.options.timing.ttl() * 2).since(BootClock.now());
        pause(rest).await;
        self.network.set_cut(off, false);
        self.done.push(Disturbance {
            hit: off.to_vec(),
            ..over(fault, old, at)
        });
    }

    fn show_sides(&self, off: &[usize]) {
        let (fewer, more): (Vec<usize>, Vec<usize>) =
            (0..self.nodes.len()).partition(|node| off.contains(node));
        let names = |side: &[usize]| {
            let names: Vec<&str> = side.iter().map(|at| &*self.nodes[*at].name).collect();
            names.join(" ")
        };
        self.show
            .line(&format!("{} | {}", names(&fewer), names(&more)));
    }

    /// Whoever leads and has counted enough for a fault to be worth it.
    async fn counting_leader(&self) -> anyhow::Result<Leading> {
        let newest =
            |records: &[Record]| records.iter().filter_map(claim).max_by_key(|it| it.epoch);
        let leader = self.log.until("a leader", self.bound(), newest).await?;
        self.counting(leader).await
    }

    async fn counting(&self, leader: Leading) -> anyhow::Result<Leading> {
        let counts = |records: &[Record]| {
            let newest = records.iter().filter_map(claim).max_by_key(|it| it.epoch)?;
            let wrote = |record: &&Record| match &record.what {
                What::Worker(Event::Wrote { revision, .. }) => revision.epoch.get() == newest.epoch,
                _ => false,
            };
            let enough = records.iter().filter(wrote).count() >= COUNTS;
            // Leadership may have moved on since; the first after the fault counts.
            let first = if newest.epoch > leader.epoch {
                leader
            } else {
                newest
            };
            enough.then_some(first)
        };
        self.log
            .until("the leader to count", self.bound(), counts)
            .await
    }

    /// The first answer "I lead" under a higher epoch, by another node.
    async fn next_leader(&self, epoch: u64, not: Option<usize>) -> anyhow::Result<Leading> {
        let newer = |records: &[Record]| {
            let mut claims = records.iter().filter_map(claim);
            claims.find(|it| it.epoch > epoch && Some(it.node) != not)
        };
        self.log.until("the next leader", self.bound(), newer).await
    }

    async fn successor(&self, old: Leading, at: Moment) -> anyhow::Result<Leading> {
        let new = self.next_leader(old.epoch, Some(old.node)).await?;
        let (name, leaderless) = (&self.nodes[new.node].name, ms(new.at.since(at)));
        self.show
            .line(&format!("{name} leads after {leaderless:.1} ms"));
        Ok(new)
    }

    /// Until the worker of a node that came back has tried to write, and bounced: it
    /// believes that it still leads.
    async fn bounces(&self, old: Leading, since: Moment) -> anyhow::Result<()> {
        let bounced = |records: &[Record]| (refused(records, since, old) > 0).then_some(());
        self.log
            .until("the stale write to bounce", self.bound(), bounced)
            .await
    }

    /// Until a node that came back has said that it does not lead.
    async fn follows(&self, node: usize, since: Moment) -> anyhow::Result<()> {
        let follows = |records: &[Record]| {
            let mut later = records.iter().filter(|record| record.at >= since);
            later.find_map(|record| match &record.what {
                What::Status(status) if record.node == node && !status.is_leader => Some(()),
                _ => None,
            })
        };
        let client = self.nodes[node].client.clone();
        let asked = client.send("GET", "/status", &[], Vec::new()).await?;
        if let Ok(status) = serde_json::from_slice(&asked.body) {
            self.log.add(node, What::Status(status));
        }
        self.log
            .until("the old leader to follow", self.bound(), follows)
            .await
    }

    /// When the leader's lease ends in the store unless it renews: its last renewal's
    /// send and the whole TTL.
    async fn lease_end(&self, node: usize) -> Option<Moment> {
        let status = self.nodes[node].status().await.ok()?;
        let renewed: jiff::Timestamp = status["lease"]["renewed_at"].as_str()?.parse().ok()?;
        let renewed = UnixMs(u64::try_from(renewed.as_millisecond()).ok()?);
        let ends = renewed.after(self.options.timing.ttl());
        let (now, wall) = (BootClock.now(), BootClock.wall());
        Some(now + Duration::from_millis(ends.0.saturating_sub(wall.0)))
    }

    fn bound(&self) -> Duration {
        self.options
            .timing
            .worst_case_failover(Duration::ZERO, Duration::ZERO)
            * 2
            + SLACK
    }

    fn show_moving(&mut self) {
        if !self.show.moves() {
            return;
        }
        let (show, log) = (self.show.clone(), self.log.clone());
        let names = self.options.nodes;
        self._moving.spawn(async move {
            loop {
                show.moving(&overview(&log.records(), names));
                pause(Duration::from_millis(100)).await;
            }
        });
    }

    /// Stops the fleet and draws the conclusion.
    pub async fn finish(mut self, rows: Vec<Row>) -> anyhow::Result<(Report, History)> {
        self._moving.shutdown().await;
        for node in &self.nodes {
            node.signal(Signal::TERM)?;
        }
        for node in &mut self.nodes {
            node.ended().await?;
        }
        self.show.end();
        let records = self.log.records();
        let verdict: Verdict = judge(&records);
        let stale = rows.iter().any(|row| row.stale_answers > 0);
        let timing = &self.options.timing;
        let history = History::new(self.options.nodes, &records, &self.done);
        let report = Report {
            ok: verdict.holds() && !stale,
            backend: self.network.backend.target.to_string(),
            nodes: self.options.nodes,
            ttl_ms: crate::time::millis(timing.ttl()),
            renew_every_ms: crate::time::millis(timing.renew_every()),
            faults: rows,
            counter: counter(&records),
            verdict,
        };
        Ok((report, history))
    }
}

/// A fault to the leader that is over now.
fn over(fault: Fault, old: Leading, from: Moment) -> Disturbance {
    Disturbance {
        fault,
        node: old.node,
        hit: vec![old.node],
        from,
        until: BootClock.now(),
        ended: None,
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}
