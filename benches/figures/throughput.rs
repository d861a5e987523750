//! Requests per second that the API answers, by wrk, beside a bare hyper that says
//! hello: the same kind of event loop on one thread, in a process of its own. The
//! targets take turns, so that a machine that is busy is so for each.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;

use crate::effort::Effort;
use crate::fleet::{Fleet, Setup};
use crate::http::Connection;
use crate::store::Store;
use crate::table::{Row, Sample};

/// Set where this program is to be the server that says hello.
pub const HELLO: &str = "FIGURES_HELLO";
const TTL: Duration = Duration::from_secs(3);
/// At least this share of what a bare hyper does.
const SHARE: f64 = 0.7;

/// What wrk saw of one target in one turn.
#[derive(Clone, Copy)]
struct Seen {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

pub fn throughput(effort: Effort) -> anyhow::Result<()> {
    let turn = if effort.quick { 1 } else { 3 };
    let store = Store::redis()?;
    let setup = Setup {
        election: "throughput",
        nodes: 1,
        ttl: TTL,
        watched: true,
    };
    let mut fleet = Fleet::start(&store, setup)?;
    let leader = fleet.settled()?;
    let port = fleet.nodes[leader.node].port;
    let hello = Hello::start()?;
    let before = Renewals::read(port)?;
    let watched = Leases::watch(port);
    let began = Instant::now();
    let targets = [
        ("hello of a bare hyper", hello.port, "/"),
        ("GET /leader", port, "/leader"),
        ("GET /status", port, "/status"),
    ];
    let mut seen: [Vec<Seen>; 3] = Default::default();
    for _ in 0..effort.rounds(10) {
        for ((_, port, path), seen) in targets.iter().zip(&mut seen) {
            seen.push(wrk(*port, path, turn)?);
        }
    }
    let lasted = began.elapsed();
    let least = watched.end()?;
    let after = Renewals::read(port)?;
    let bare = seen[0].clone();
    for ((what, ..), seen) in targets.iter().zip(&seen) {
        report(what, seen, &bare);
    }
    after.judge(before, lasted, least)
}

fn report(what: &str, seen: &[Seen], bare: &[Seen]) {
    let sample = |of: fn(&Seen) -> f64| {
        let mut sample = Sample::default();
        seen.iter().for_each(|seen| sample.push(of(seen)));
        sample
    };
    let mut shares = Sample::default();
    for (seen, bare) in seen.iter().zip(bare) {
        shares.push(seen.per_second / bare.per_second);
    }
    let mut floor = Sample::default();
    bare.iter().for_each(|bare| floor.push(bare.per_second));
    Row {
        what: &format!("{what}, 32 connections"),
        store: "redis",
        unit: "req/s",
        sample: &sample(|seen| seen.per_second),
        floor: Some(("hello", floor.median())),
        target: None,
    }
    .print();
    let share = shares.median();
    println!(
        "    p50 {:.0} us, p99 {:.0} us; {:.0} % of the hello of the same turn, to be >= {:.0} %: {}",
        sample(|seen| seen.p50_us).median(),
        sample(|seen| seen.p99_us).median(),
        share * 100.0,
        SHARE * 100.0,
        if share >= SHARE { "met" } else { "MISSED" }
    );
}

/// One run of wrk: one thread, 32 connections.
fn wrk(port: u16, path: &str, seconds: u32) -> anyhow::Result<Seen> {
    let output = Command::new("wrk")
        .args(["-t1", "-c32", "--latency", &format!("-d{seconds}s")])
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .context("wrk is not there: .ci/need wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "{path}: {text}"
    );
    let after = |label: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(label));
        let word = line.and_then(|line| line.split_whitespace().last());
        word.map(ToOwned::to_owned)
            .with_context(|| format!("no {label} in {text}"))
    };
    Ok(Seen {
        per_second: after("Requests/sec:")?.parse()?,
        p50_us: micros(&after("50%")?)?,
        p99_us: micros(&after("99%")?)?,
    })
}

/// `84.00us`, `1.43ms`, `2.01s`.
fn micros(text: &str) -> anyhow::Result<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let found = units
        .iter()
        .find_map(|(unit, times)| text.strip_suffix(unit).map(|number| (number, times)));
    let (number, times) = found.with_context(|| format!("no time: {text}"))?;
    Ok(number.parse::<f64>()? * times)
}

/// The server that says hello. Dropping it kills it.
struct Hello {
    child: Child,
    port: u16,
}

impl Hello {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(HELLO, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut hello = Self { child, port: 0 };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        hello.port = line.trim().parse().context("hello does not start")?;
        Ok(hello)
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says hello for ever, with the settings of the sidecar's own listener.
pub fn hello() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?.port());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = |_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
            };
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(async move {
                let _ = connection.await;
            });
        }
    })
}

/// The counts of `/metrics` that tell how renewals went.
#[derive(Clone, Copy)]
struct Renewals {
    kept: f64,
    others: f64,
    slow: f64,
}

impl Renewals {
    fn read(port: u16) -> anyhow::Result<Self> {
        let body = Connection::open(port)?.get("/metrics")?.body;
        let text = String::from_utf8(body)?;
        let sum = |fits: &dyn Fn(&str) -> bool| -> anyhow::Result<f64> {
            let lines = text.lines().filter(|line| fits(line));
            let values = lines.filter_map(|line| line.rsplit_once(' '));
            values.map(|(_, value)| Ok(value.parse::<f64>()?)).sum()
        };
        let renewals = |line: &str| line.starts_with("tenure_renewals_total{");
        let kept = |line: &str| renewals(line) && line.contains("\"kept\"");
        let of = |bound: &'static str| {
            move |line: &str| {
                line.starts_with("tenure_renewal_duration_seconds_bucket") && line.contains(bound)
            }
        };
        let whole = sum(&of("\"+Inf\""))?;
        Ok(Self {
            kept: sum(&kept)?,
            others: sum(&|line| renewals(line) && !kept(line))?,
            slow: whole - sum(&of("\"0.1\""))?,
        })
    }

    /// As many renewals as are due in that time, none in vain; the lease never shorter
    /// than a renewal on time leaves it.
    fn judge(self, before: Self, lasted: Duration, least: Duration) -> anyhow::Result<()> {
        let kept = self.kept - before.kept;
        let due = lasted.as_secs_f64() / (TTL / 3).as_secs_f64();
        println!(
            "    meanwhile {kept:.0} renewals of {due:.0} due, {:.0} in vain, {:.0} longer than 0.1 s; \
             the least lease left {least:.2?} of {TTL:?}",
            self.others - before.others,
            self.slow - before.slow,
        );
        ensure!(self.others == before.others, "a renewal was in vain");
        ensure!(kept >= due - 2.0, "renewals are late");
        ensure!(least >= TTL / 3, "a renewal was late");
        Ok(())
    }
}

/// Looks at what is left of the lease all the while.
struct Leases {
    over: Arc<AtomicBool>,
    watching: std::thread::JoinHandle<anyhow::Result<Duration>>,
}

impl Leases {
    fn watch(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen_over = Arc::clone(&over);
        let watching = std::thread::spawn(move || {
            let mut connection = Connection::open(port)?;
            let mut least = TTL;
            while !seen_over.load(Ordering::Relaxed) {
                let status = connection.get("/status")?.json()?;
                ensure!(status["is_leader"] == true, "leadership was lost: {status}");
                let left = status["lease"]["remaining_ms"].as_u64().unwrap_or(0);
                least = least.min(Duration::from_millis(left));
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(least)
        });
        Self { over, watching }
    }

    fn end(self) -> anyhow::Result<Duration> {
        self.over.store(true, Ordering::Relaxed);
        let watched = self.watching.join();
        watched.map_err(|_| anyhow::anyhow!("the watch broke"))?
    }
}
