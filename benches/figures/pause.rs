//! A leader that is stopped for two TTLs and wakes up: how often it still says that
//! it leads, and how many of its writes are taken.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use crate::effort::Effort;
use crate::fleet::{Fleet, Leader, Setup};
use crate::http::{Answer, Connection};
use crate::store::Store;
use crate::table::{Row, Sample};

/// Elections side by side, to save time.
const FLEETS: u32 = 5;
const TTL: Duration = Duration::from_secs(1);
/// etcd keeps none that is shorter.
const ETCD_TTL: Duration = Duration::from_secs(2);
/// How long a node that woke is asked again and again.
const AFTERMATH: Duration = Duration::from_millis(200);
const PATHS: [&str; 2] = ["/status", "/leader"];
/// Of both paths, asked over connections from before the pause and from within it.
const REQUESTS: usize = 8;

#[derive(Default)]
struct Count {
    answers: u32,
    claims: u32,
    writes: u32,
    taken: u32,
}

pub fn pause(effort: Effort) -> anyhow::Result<()> {
    for store in Store::each()? {
        let mut all = Count::default();
        let counts: Vec<anyhow::Result<Count>> = std::thread::scope(|scope| {
            let fleets: Vec<_> = (0..FLEETS)
                .map(|number| {
                    let store = &store;
                    let rounds = effort.rounds(50).div_ceil(FLEETS);
                    scope.spawn(move || pauses(store, &format!("pause-{number}"), rounds))
                })
                .collect();
            let joined = fleets.into_iter().map(|fleet| fleet.join());
            joined
                .map(|count| count.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))))
                .collect()
        });
        for count in counts {
            let count = count?;
            all.answers += count.answers;
            all.claims += count.claims;
            all.writes += count.writes;
            all.taken += count.taken;
        }
        let row = |what: String, number: u32| {
            Row {
                what: &what,
                store: store.kind(),
                unit: "",
                sample: &Sample::one(f64::from(number)),
                floor: None,
                target: Some(0.0),
            }
            .print();
        };
        row(
            format!("pause: \"I lead\" of {} answers", all.answers),
            all.claims,
        );
        row(
            format!("pause: accepted of {} stale writes", all.writes),
            all.taken,
        );
        ensure!(
            all.claims == 0 && all.taken == 0,
            "a paused leader was believed"
        );
    }
    Ok(())
}

fn pauses(store: &Store, election: &str, rounds: u32) -> anyhow::Result<Count> {
    let ttl = match store {
        Store::Etcd(_) => ETCD_TTL,
        Store::Redis(_) | Store::File(_) => TTL,
    };
    let setup = Setup {
        election,
        nodes: 3,
        ttl,
        watched: true,
    };
    let mut fleet = Fleet::start(store, setup)?;
    let mut count = Count::default();
    for _ in 0..rounds {
        let old = fleet.settled()?;
        one_pause(&mut fleet, old, ttl, &mut count)?;
    }
    Ok(count)
}

fn one_pause(
    fleet: &mut Fleet,
    old: Leader,
    ttl: Duration,
    count: &mut Count,
) -> anyhow::Result<()> {
    let port = fleet.nodes[old.node].port;
    let mut connections = Vec::new();
    for _ in 0..REQUESTS / 2 {
        let mut connection = Connection::open(port)?;
        connection.get("/livez")?;
        connections.push(connection);
    }
    fleet.nodes[old.node].signal(Signal::STOP)?;
    let stopped_at = Instant::now();
    let (new, _) = fleet.successor(old)?;
    write(fleet.nodes[new.node].port, new.epoch)?.receive()?;
    while connections.len() < REQUESTS {
        connections.push(Connection::open(port)?);
    }
    for (connection, path) in connections.iter_mut().zip(PATHS.iter().cycle()) {
        connection.send("GET", path, "", b"")?;
    }
    let mut stale_write = write(port, old.epoch)?;
    std::thread::sleep((stopped_at + 2 * ttl).saturating_duration_since(Instant::now()));
    fleet.nodes[old.node].signal(Signal::CONT)?;
    let woke_at = Instant::now();
    let mut poll = Connection::open(port)?;
    while woke_at.elapsed() < AFTERMATH {
        for path in PATHS {
            count.answer(&poll.get(path)?, new)?;
        }
    }
    for mut connection in connections {
        count.answer(&connection.receive()?, new)?;
    }
    count.writes += 1;
    count.taken += u32::from(stale_write.receive()?.status < 300);
    let stored = Connection::open(fleet.nodes[new.node].port)?.get("/checkpoint")?;
    let stale = stored.body == old.epoch.to_string().as_bytes() && stored.status == 200;
    count.taken += u32::from(stale);
    Ok(())
}

/// Sends a checkpoint that names its own epoch.
fn write(port: u16, epoch: u64) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(port)?;
    let header = format!("fence-token: {epoch}\r\n");
    connection.send("PUT", "/checkpoint", &header, epoch.to_string().as_bytes())?;
    Ok(connection)
}

impl Count {
    /// A claim is stale unless it is of an epoch after the successor's: the machine
    /// may be so busy that the successor lost its lease again.
    fn answer(&mut self, answer: &Answer, new: Leader) -> anyhow::Result<()> {
        let claimed = if answer.status == 200 && answer.body.first() == Some(&b'{') {
            let body = answer.json()?;
            match body["is_leader"].as_bool() {
                Some(true) => Some(body["fence_token"].as_u64().context("no token")?),
                _ => None,
            }
        } else if answer.status == 200 {
            Some(answer.epoch.context("no Tenure-Epoch")?)
        } else {
            None
        };
        self.answers += 1;
        self.claims += u32::from(claimed.is_some_and(|epoch| epoch <= new.epoch));
        Ok(())
    }
}
