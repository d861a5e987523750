//! The counter in every language, beside three sidecars whose leader is killed, loses
//! its sidecar, or is paused, again and again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::app::App;
use super::judge::{Life, Told, faults};
use super::process::{BOUND, Node, file_url, finish_within};
use super::stub::{self, Fate};
use super::{alone, example, unconfigured};

/// An app beside its sidecar.
struct Pair {
    node: Node,
    app: App,
}

/// What is done to the leading pair.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Sidecar and app, SIGKILL.
    Kill,
    /// The sidecar alone: the app finds out by itself.
    Orphan,
    /// SIGSTOP until another has led and written, then SIGCONT.
    Pause,
}

const COURSE: [Fault; 4] = [Fault::Kill, Fault::Pause, Fault::Orphan, Fault::Kill];

struct Fleet<'a> {
    store: tempfile::TempDir,
    counter: &'a dyn Fn() -> Command,
    pairs: Vec<Pair>,
    over: Vec<Life>,
    started: u32,
}

impl<'a> Fleet<'a> {
    fn start(counter: &'a dyn Fn() -> Command) -> Self {
        let mut fleet = Self {
            store: tempfile::tempdir().unwrap(),
            counter,
            pairs: Vec::new(),
            over: Vec::new(),
            started: 0,
        };
        for _ in 0..3 {
            fleet.add();
        }
        fleet
    }

    fn add(&mut self) {
        let id = format!("pair-{}", self.started);
        self.started += 1;
        let flags = ["--ttl", "1s", "--id", &id];
        let node = Node::start(&file_url(self.store.path()), &flags);
        let app = App::start((self.counter)().env("TENURE_API", node.url()));
        self.pairs.push(Pair { node, app });
    }

    /// The pair that counts under an epoch above this one, once it has counted twice.
    fn counting(&self, above: u64) -> (usize, u64) {
        let end = Instant::now() + BOUND;
        loop {
            for (at, pair) in self.pairs.iter().enumerate() {
                let epochs: Vec<u64> = counted(&pair.app).collect();
                if let [.., before, last] = epochs[..]
                    && before == last
                    && last > above
                {
                    return (at, last);
                }
            }
            let told: Vec<_> = self.pairs.iter().map(|pair| pair.app.out.all()).collect();
            assert!(
                Instant::now() < end,
                "nobody counts above {above}: {told:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends a pair, and keeps what its app told.
    fn bury(&mut self, at: usize) {
        let mut pair = self.pairs.remove(at);
        pair.node.signal(Signal::KILL);
        pair.app.kill();
        let lines = pair.app.last_words();
        assert_eq!(pair.app.err.all(), Vec::<String>::new());
        self.over.push(Life::of(&lines, true));
    }

    /// Until another pair counts, and whatever fell is replaced or has found out.
    fn strike(&mut self, fault: Fault, leader: usize, epoch: u64) {
        match fault {
            Fault::Kill => {
                self.bury(leader);
                self.add();
            }
            Fault::Orphan => {
                let pair = &self.pairs[leader];
                pair.node.signal(Signal::KILL);
                pair.app
                    .out
                    .until("no leader known", |line| line == "follower leader=");
                self.counting(epoch);
                self.bury(leader);
                self.add();
            }
            Fault::Pause => {
                let (node, app) = (&self.pairs[leader].node, &self.pairs[leader].app);
                node.signal(Signal::STOP);
                app.signal(Signal::STOP);
                self.counting(epoch);
                let told = app.out.all().len();
                node.signal(Signal::CONT);
                app.signal(Signal::CONT);
                // It finds out, by a refusal or by asking; if it already leads again, then
                // under another epoch.
                app.out.until_after(told, "the end of its tenure", |line| {
                    line.starts_with("follower") || line.starts_with("resumed")
                });
            }
        }
    }
}

/// The epochs of the values that the app counted.
fn counted(app: &App) -> impl Iterator<Item = u64> {
    let lines = app.out.all();
    lines
        .into_iter()
        .filter_map(|line| match Told::read(&line) {
            Told::Leader { epoch, .. } => Some(epoch),
            _ => None,
        })
}

fn counts_exactly(counter: &dyn Fn() -> Command) {
    let _turn = alone();
    let mut fleet = Fleet::start(counter);
    let (mut leader, mut epoch) = fleet.counting(0);
    for fault in COURSE {
        fleet.strike(fault, leader, epoch);
        (leader, epoch) = fleet.counting(epoch);
    }
    for pair in &mut fleet.pairs {
        pair.app.kill();
    }
    // Nobody writes any more.
    let stored = fleet.pairs[0].node.get("/checkpoint").text();
    let stored = stored.parse().unwrap();
    while !fleet.pairs.is_empty() {
        fleet.bury(0);
    }
    let found = faults(&fleet.over, stored);
    assert!(found.is_empty(), "{found:#?}");
    assert!(stored >= 2 * COURSE.len() as u64, "{stored}");
}

/// As `tenure run -- counter` starts it: it leads under the token that it is given, and
/// ends where that is not, or no longer, the one in force.
fn born_leader(counter: &dyn Fn() -> Command) {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let node = Node::leading(&file_url(dir.path()), &["--ttl", "30s"]);
    let start = |token: u64| {
        let mut command = counter();
        command.env("TENURE_API", node.url());
        App::start(command.env("TENURE_FENCE_TOKEN", token.to_string()))
    };
    let token = node.token();
    let mut late = start(token - 1);
    assert_eq!(late.exit().code(), Some(1));
    assert!(counted(&late).next().is_none());
    let mut app = start(token);
    app.out.until("a count", |line| line.starts_with("leader"));
    node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    // The node may lead again at once; this app was born under another token.
    assert_eq!(app.exit().code(), Some(1));
    app.out.ended();
    assert!(counted(&app).all(|epoch| epoch == token));
}

/// After every answer but 204 the counter is read again, and counted on from there.
fn doubts(counter: &dyn Fn() -> Command) {
    let fates = [
        Fate::NeverArrived,
        Fate::Broken,
        Fate::Acknowledged,
        Fate::Stale,
        Fate::Acknowledged,
        Fate::Overtaken,
        Fate::Unknown,
        Fate::NeverArrived,
        Fate::Acknowledged,
    ];
    let (url, writes) = stub::serve(fates.to_vec());
    let mut app = App::start(counter().env("TENURE_API", url));
    let mut expected = Vec::new();
    for fate in fates {
        let write = writes.recv_timeout(BOUND).expect("a write");
        assert_eq!(write.token, stub::TOKEN);
        let (tag, value) = &write.stored;
        assert_eq!(&write.over, tag, "{fate:?}");
        let next = value + 1;
        assert_eq!(write.value, next, "{fate:?}");
        expected.push(match fate {
            Fate::Acknowledged => format!("leader {next}"),
            Fate::Stale => format!("stopped {next} 409"),
            Fate::Overtaken => format!("stopped {next} 412"),
            Fate::Unknown | Fate::NeverArrived => format!("stopped {next} 503"),
            Fate::Broken => format!("stopped {next} 0"),
        });
    }
    app.out
        .until("the last", |line| line.contains("counter=6 lease"));
    app.kill();
    let told = app.last_words();
    let told = told.iter().filter_map(|line| match Told::read(line) {
        Told::Leader { value, .. } => Some(format!("leader {value}")),
        Told::Stopped { value, status, .. } => Some(format!("stopped {value} {status}")),
        Told::Resumed { .. } | Told::Follower => None,
    });
    assert_eq!(told.take(expected.len()).collect::<Vec<_>>(), expected);
}

macro_rules! language {
    ($name:ident, $counter:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn counts_exactly_through_every_fault() {
                if is_installed(stringify!($name)) {
                    counts_exactly(&$counter);
                }
            }

            #[test]
            fn stops_and_reads_where_a_write_is_refused_or_in_doubt() {
                if is_installed(stringify!($name)) {
                    doubts(&$counter);
                }
            }

            #[test]
            fn started_as_leader_it_ends_with_its_leadership() {
                if is_installed(stringify!($name)) {
                    born_leader(&$counter);
                }
            }
        }
    };
}

language!(sh, || example("counter.sh"));
language!(python, || example("counter.py"));
language!(node, || example("counter.mjs"));
language!(go, || unconfigured(Command::new(go_binary())));
language!(rust, || unconfigured(Command::new(rust_binary())));

/// Builds are not part of a test's patience.
const BUILD: Duration = Duration::from_secs(600);

fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// `cargo test --test examples` does not build what lies in `examples/`.
fn rust_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--example", "counter"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        cargo.arg("--target-dir").arg(target().parent().unwrap());
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        finish_within(BUILD, &mut cargo, b"").ok();
        target().join("examples/counter")
    })
}

/// Go is large: where it is not installed its example is not run, except in CI.
fn is_installed(language: &str) -> bool {
    if language != "go" || std::env::var_os("CI").is_some() {
        return true;
    }
    let found = Command::new("go").arg("version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: go is not installed, so examples/counter.go was not run");
    }
    found
}

fn go_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let home = target().join("go");
        std::fs::create_dir_all(&home).unwrap();
        let binary = home.join("counter");
        let mut go = Command::new("go");
        // Nothing but the standard library, from nowhere but this machine.
        go.args(["build", "-o"]).arg(&binary).arg("counter.go");
        go.env("GOCACHE", home.join("cache")).env("GOPROXY", "off");
        go.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
        finish_within(BUILD, &mut go, b"").ok();
        binary
    })
}
