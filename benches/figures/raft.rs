//! What is particular to a log: its own elections, and a member that was away.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::cluster::Cluster;
use crate::effort::Effort;
use crate::fleet::{Fleet, Setup};
use crate::http::Connection;
use crate::members::{kills, shares};
use crate::table::{Row, Sample};

/// Of which the timeouts of the log are a twentieth to a tenth: 150 to 300 ms.
const ELECTION_TIMEOUT: &[&str] = &["--election-timeout", "3s"];
const LONGEST_TIMEOUT: Duration = Duration::from_millis(300);

fn setup(election: &str, ttl: Duration) -> Setup<'_> {
    Setup {
        election,
        nodes: 3,
        ttl,
        watched: true,
    }
}

/// SIGKILL of the node that leads, as a multiple of what must pass: the lease, and an
/// election of the log where that node led it, too.
pub fn kill(effort: Effort) -> anyhow::Result<()> {
    let ttl = Duration::from_secs(1);
    let cluster = Cluster::new("raft", 3, ELECTION_TIMEOUT)?;
    let fleet = Fleet::of(&cluster, setup("kills", ttl))?;
    let took = kills(effort, fleet, effort.rounds(50), ttl / 3)?;
    let share = shares(&took, ttl + LONGEST_TIMEOUT);
    let p99 = Sample::one(share.quantile(0.99));
    for (what, sample) in [
        ("raft: kill, of TTL 1 s + timeout 300 ms", &share),
        ("… p99", &p99),
    ] {
        Row {
            what,
            store: "raft",
            unit: "x",
            sample,
            floor: None,
            target: None,
        }
        .print();
    }
    Ok(())
}

/// The longest write while a follower is away for 5 s and comes back, beside the longest
/// of a run as long in which nothing happens.
pub fn absence(effort: Effort) -> anyhow::Result<()> {
    let away = effort.span(Duration::from_secs(5));
    let before = away / 5;
    let cluster = Cluster::new("raft", 3, ELECTION_TIMEOUT)?.linked()?;
    let mut fleet = Fleet::of(&cluster, setup("absence", Duration::from_secs(3)))?;
    let (mut calm, mut disturbed) = (Sample::default(), Sample::default());
    for _ in 0..effort.rounds(5) {
        let leader = fleet.settled()?;
        let port = fleet.nodes[leader.node].port;
        calm.push(longest_write(port, leader.epoch, away + before * 2)?);
        // A follower of both: whoever leads the log is busy elsewhere.
        let of_the_log = cluster.most_talkative()?;
        let follower = (0..3).find(|node| *node != leader.node && *node != of_the_log);
        let follower = follower.context("nobody follows")?;
        disturbed.push(std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(before);
                cluster.set_cut(follower, true);
                std::thread::sleep(away);
                cluster.set_cut(follower, false);
            });
            longest_write(port, leader.epoch, away + before * 2)
        })?);
    }
    Row {
        what: "raft: longest write, a follower away for 5 s",
        store: "raft",
        unit: "ms",
        sample: &disturbed,
        floor: Some(("undisturbed", calm.median())),
        target: None,
    }
    .print();
    Ok(())
}

/// Of writes one after another for so long, in milliseconds.
fn longest_write(port: u16, epoch: u64, span: Duration) -> anyhow::Result<f64> {
    let mut connection = Connection::open(port)?;
    let headers = format!("fence-token: {epoch}\r\n");
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < span {
        let sent = Instant::now();
        connection.send("PUT", "/checkpoint", &headers, b"42")?;
        let answer = connection.receive()?;
        ensure!(
            answer.status == 204,
            "a write was answered with {}",
            answer.status
        );
        longest = longest.max(answer.received.saturating_duration_since(sent));
    }
    Ok(longest.as_secs_f64() * 1000.0)
}
