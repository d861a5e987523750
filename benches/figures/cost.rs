//! What an idle election costs: requests, the server's CPU, memory, and the
//! sidecars' own CPU.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::effort::Effort;
use crate::fleet::{Fleet, Setup};
use crate::redis::Server;
use crate::store::Store;
use crate::table::{Row, Sample};

const TTL: Duration = Duration::from_secs(3);
/// From one renewal to the next, by default.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Elections of one busy sidecar.
const MANY: u32 = 400;
/// Until nobody has anything to do with the start any more.
const CALM: Duration = Duration::from_secs(4);

fn setup(election: &str, nodes: usize) -> Setup<'_> {
    Setup {
        election,
        nodes,
        ttl: TTL,
        watched: false,
    }
}

fn print(what: &str, store: &str, unit: &str, value: f64, floor: Option<f64>, target: Option<f64>) {
    Row {
        what,
        store,
        unit,
        sample: &Sample::one(value),
        floor: floor.map(|floor| ("", floor)),
        target,
    }
    .print();
}

/// One leader and two followers for a minute, thrice at once: under MONITOR, on a
/// Redis of their own, and on files. A fourth node alone tells a renewal's price.
pub fn cost(effort: Effort) -> anyhow::Result<()> {
    let window = effort.span(Duration::from_secs(60));
    let (counted, alone) = (Server::start()?, Store::redis()?);
    let stores = Store::each()?;
    std::thread::scope(|scope| {
        let requests = scope.spawn(move || requests(counted, window));
        let price = scope.spawn(move || renewal_price(&alone, window));
        let idle: Vec<_> = stores
            .iter()
            .map(|store| scope.spawn(move || idle(store, window)))
            .collect();
        let done = |joined: std::thread::Result<anyhow::Result<()>>| {
            joined.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
        };
        done(requests.join())?;
        done(price.join())?;
        idle.into_iter().try_for_each(|it| done(it.join()))
    })?;
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_tenure"))?.len();
    print(
        "size: stripped release binary",
        "",
        "MiB",
        mib(size),
        None,
        None,
    );
    Ok(())
}

/// Counts commands by the address that they came from.
fn requests(server: Server, window: Duration) -> anyhow::Result<()> {
    let store = Store::Redis(server);
    let Store::Redis(server) = &store else {
        return Ok(());
    };
    let fleet = Fleet::start(&store, setup("cost", 3))?;
    std::thread::sleep(CALM);
    let renewal = "tenure:{cost}:leader";
    let connected = server.client()?.clients()?;
    let mut monitor = server.client()?;
    monitor.ask(&["MONITOR"])?;
    monitor.set_patience(Duration::from_millis(100))?;
    let mut counts: HashMap<String, u32> = HashMap::new();
    let until = Instant::now() + window;
    while Instant::now() < until {
        // Where nothing came in time, half a line cannot have come either: Redis
        // writes whole ones.
        let Ok(line) = monitor.line() else { continue };
        let address = line.split(['[', ']', ' ']).nth(3).unwrap_or_default();
        if address != "lua" {
            ensure!(line.contains(renewal), "an unexpected request: {line}");
            *counts.entry(address.to_owned()).or_default() += 1;
        }
    }
    ensure!(
        counts.keys().all(|address| connected.contains(address)),
        "a sidecar connected anew while nothing happened"
    );
    drop(fleet);
    let mut by_count: Vec<f64> = counts.values().copied().map(f64::from).collect();
    by_count.sort_by(f64::total_cmp);
    let leader = by_count.pop().context("nobody asked Redis anything")?;
    let renewals = window.as_secs_f64() / RENEW_EVERY.as_secs_f64();
    let ttls = window.as_secs_f64() / TTL.as_secs_f64();
    print(
        "cost: leader's requests per renewal",
        "redis",
        "",
        leader / renewals,
        None,
        Some(1.0),
    );
    for count in by_count {
        print(
            "cost: follower's requests per TTL",
            "redis",
            "",
            count / ttls,
            None,
            Some(1.5),
        );
    }
    Ok(())
}

/// The server's CPU for one renewal. Asked once a second, every cache is cold, and
/// so they are for the floor, a command that does nothing. A sidecar in many elections
/// shows what a busy server pays.
fn renewal_price(store: &Store, window: Duration) -> anyhow::Result<()> {
    let Store::Redis(server) = store else {
        return Ok(());
    };
    let mut client = server.client()?;
    let many: Vec<String> = (0..MANY).map(|number| format!("busy-{number}")).collect();
    for (what, election, window) in [
        (
            "cost: Redis CPU per renewal, 1/s",
            "price".to_owned(),
            window,
        ),
        (
            "cost: Redis CPU per renewal, 400/s",
            many.join(","),
            window / 6,
        ),
    ] {
        let _fleet = Fleet::start(store, setup(&election, 1))?;
        std::thread::sleep(CALM);
        client.ask(&["CONFIG", "RESETSTAT"])?;
        let until = Instant::now() + window;
        while Instant::now() < until {
            std::thread::sleep(RENEW_EVERY);
            client.ask(&["ECHO", "floor"])?;
        }
        let (renewals, renewals_us) = client.command_stats("evalsha")?;
        let (echoes, echoes_us) = client.command_stats("echo")?;
        Row {
            what,
            store: "redis",
            unit: "us",
            sample: &Sample::one(renewals_us / renewals),
            floor: Some(("ECHO", echoes_us / echoes)),
            target: None,
        }
        .print();
    }
    Ok(())
}

/// CPU and memory of a leader and a follower that nobody asks anything.
fn idle(store: &Store, window: Duration) -> anyhow::Result<()> {
    let fleet = Fleet::start(store, setup("idle", 3))?;
    std::thread::sleep(CALM);
    let mut leader = None;
    for (number, node) in fleet.nodes.iter().enumerate() {
        if node.status()?["is_leader"] == true {
            leader = Some(number);
        }
    }
    let leader = leader.context("nobody leads")?;
    let follower = (leader + 1) % fleet.nodes.len();
    let floor = Sleeper::start()?;
    let roles = [("leader", leader), ("follower", follower)];
    let usage = |number: usize| Usage::of(fleet.nodes[number].pid());
    let before: Vec<Usage> = roles
        .iter()
        .map(|(_, number)| usage(*number))
        .collect::<anyhow::Result<_>>()?;
    std::thread::sleep(window);
    let asleep = Usage::of(floor.0.id())?;
    for ((role, number), before) in roles.into_iter().zip(before) {
        let after = usage(number)?;
        let row = |what: &str, unit, value, floor, target| {
            print(
                &format!("idle {role}: {what}"),
                store.kind(),
                unit,
                value,
                floor,
                target,
            );
        };
        row(
            "RSS",
            "MiB",
            mib(after.rss),
            Some(mib(asleep.rss)),
            Some(8.0),
        );
        row("PSS", "MiB", mib(after.pss), Some(mib(asleep.pss)), None);
        let cpu = (after.cpu - before.cpu).as_secs_f64() / window.as_secs_f64() * 100.0;
        row("CPU", "%", cpu, None, Some(0.2));
        let wakes = (after.switches - before.switches) as f64 / window.as_secs_f64();
        row("wake-ups per second", "", wakes, None, None);
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// A process that only sleeps. Dropping it kills it.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> anyhow::Result<Self> {
        let child = Command::new("sleep").arg("1h").stdin(Stdio::null()).spawn();
        Ok(Self(child.context("cannot run sleep")?))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process has used and holds.
struct Usage {
    rss: u64,
    pss: u64,
    cpu: Duration,
    switches: u64,
}

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let proc = Path::new("/proc").join(pid.to_string());
        let rollup = std::fs::read_to_string(proc.join("smaps_rollup"))?;
        let (mut cpu, mut switches) = (Duration::ZERO, 0);
        for task in std::fs::read_dir(proc.join("task"))? {
            let task = task?.path();
            // Nanoseconds, where stat has ticks of 10 ms.
            let scheduled = std::fs::read_to_string(task.join("schedstat"))?;
            let on_cpu = scheduled.split(' ').next().unwrap_or_default();
            cpu += Duration::from_nanos(on_cpu.parse()?);
            let status = std::fs::read_to_string(task.join("status"))?;
            switches += field(&status, "voluntary_ctxt_switches:")?;
        }
        Ok(Self {
            rss: field(&rollup, "Rss:")? * 1024,
            pss: field(&rollup, "Pss:")? * 1024,
            cpu,
            switches,
        })
    }
}

fn field(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("no {name}"))?.parse()?)
}
