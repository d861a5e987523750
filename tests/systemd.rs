//! Under `Type=notify`: what systemd is told, and that the watchdog is fed by the election
//! loops' own turns.
#![cfg(all(feature = "file", feature = "memory"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/http.rs"]
mod http;
#[path = "support/process.rs"]
mod process;

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use process::{BOUND, Node, file_url, tenure};
use rustix::process::Signal;
use tenure::backend::memory::MemoryStore;
use tenure::backend::{Backend, Guarantees, Hints, Store};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, NodeId,
    Observed, Profile, Released, Renewed, StoreError, Timing,
};
use tenure::sidecar::{Options, Sidecar};
use tenure::systemd::{ServiceManager, Word};
use tenure::time::BootClock;

/// A service manager: what it was told, and when.
struct Manager {
    socket: UnixDatagram,
    name: String,
    told: Vec<(Instant, String)>,
    _dir: tempfile::TempDir,
}

impl Manager {
    fn new(is_abstract: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify").display().to_string();
        let (name, address) = if is_abstract {
            let name = format!("@tenure-test-{}", path.replace('/', "-"));
            let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
            (name, address)
        } else {
            (path.clone(), SocketAddr::from_pathname(&path).unwrap())
        };
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Self {
            socket,
            name,
            told: Vec::new(),
            _dir: dir,
        }
    }

    fn hear(&mut self) {
        let mut bytes = [0; 4096];
        if let Ok(length) = self.socket.recv(&mut bytes) {
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.told.push((Instant::now(), text));
        }
    }

    /// The first word, of those that come from now on too, that fits.
    #[track_caller]
    fn until(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> Instant {
        let end = Instant::now() + BOUND;
        loop {
            let found = self.told.iter().find(|(_, text)| fits(text));
            if let Some((at, _)) = found {
                return *at;
            }
            assert!(Instant::now() < end, "never {what}: {:?}", self.told);
            self.hear();
        }
    }

    fn listen(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.hear();
        }
    }

    fn signs_of_life(&self, since: Instant) -> Vec<Instant> {
        let alive = self.told.iter().filter(|(_, text)| text == "WATCHDOG=1");
        let all = alive.map(|(at, _)| *at);
        all.filter(|at| *at >= since).collect()
    }
}

fn start(
    manager: &Manager,
    watchdog: Option<(&str, Duration)>,
    flags: &[&str],
) -> (Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = tenure();
    command
        .args(["run", "--listen", "127.0.0.1:0", "--backend"])
        .arg(file_url(dir.path()))
        .args(flags)
        .env("NOTIFY_SOCKET", &manager.name);
    if let Some((process, span)) = watchdog {
        command.env("WATCHDOG_USEC", span.as_micros().to_string());
        if !process.is_empty() {
            command.env("WATCHDOG_PID", process);
        }
    }
    (Node::spawn(&mut command), dir)
}

#[test]
fn a_normal_life_is_told_over_either_kind_of_socket() {
    for is_abstract in [false, true] {
        let mut manager = Manager::new(is_abstract);
        let watchdog = Duration::from_secs(1);
        let flags = ["--ttl", "1h", "--election", "a", "--election", "b"];
        let (mut node, _store) = start(&manager, Some(("", watchdog)), &flags);
        let ready = manager.until("ready", |text| text.contains("READY=1"));
        assert_eq!(
            manager.told[0].0, ready,
            "the first word: {:?}",
            manager.told
        );
        assert_eq!(node.get("/livez").status, 200);
        let epochs = ["a", "b"].map(|name| {
            let path = format!("/elections/{name}/status");
            // Each leads in its own time.
            let epoch = || node.get(&path).json()["fence_token"].clone();
            node.until("leads", |_| epoch().is_u64());
            (name, epoch())
        });
        manager.until("who leads", |text| {
            text.contains("STATUS=")
                && epochs
                    .iter()
                    .all(|(name, epoch)| text.contains(&format!("{name}: leader, epoch {epoch}")))
        });
        // Twice in the time that systemd waits, though a renewal is due in 20 minutes.
        let since = Instant::now();
        manager.listen(watchdog * 4);
        let alive = manager.signs_of_life(since);
        let gaps = alive.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        let worst = gaps.max().unwrap();
        println!(
            "{} signs of life in 4 s, at most {worst:?} apart",
            alive.len()
        );
        assert!(alive.len() >= 6 && worst < watchdog, "{worst:?}");
        node.post(
            "/elections/a/leadership/stepdown",
            r#"{"cooldown_ms":600000}"#,
        );
        manager.until("the step-down", |text| {
            text.contains("STATUS=a: candidate") || text.contains("STATUS=a: stepping_down")
        });
        node.signal(Signal::TERM);
        manager.until("stopping", |text| text.starts_with("STOPPING=1"));
        assert_eq!(node.exit(), Some(0));
    }
}

#[test]
fn nobody_feeds_a_watchdog_that_is_not_asked_of_this_process() {
    let span = Duration::from_millis(300);
    for watchdog in [None, Some(("1", span)), Some(("", Duration::ZERO))] {
        let mut manager = Manager::new(false);
        let (node, _store) = start(&manager, watchdog, &["--ttl", "1s"]);
        manager.until("ready", |text| text.contains("READY=1"));
        node.until("leads", |status| status["is_leader"] == true);
        manager.listen(span * 4);
        assert!(manager.signs_of_life(manager.told[0].0).is_empty());
    }
}

#[test]
fn a_manager_that_is_away_or_deaf_costs_nothing() {
    let mut away = Manager::new(false);
    away.name.push_str("-away");
    let watchdog = Some(("", Duration::from_millis(10)));
    let (node, _store) = start(&away, watchdog, &["--ttl", "1s"]);
    node.until("leads", |status| status["is_leader"] == true);
    // Its queue is full within a second and nobody reads: the lease is renewed all the same.
    let deaf = Manager::new(false);
    let (mut node, _store) = start(&deaf, watchdog, &["--ttl", "1s"]);
    let epoch = node.until("leads", |status| status["is_leader"] == true)["fence_token"].clone();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert_eq!(node.status()["fence_token"], epoch);
        std::thread::sleep(Duration::from_millis(20));
    }
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
}

/// A store whose renewals block the thread that asks, for as long as it is told: what a
/// deadlock, a spin or a system call that hangs does to the election loop.
#[derive(Clone)]
struct Blocking {
    inner: MemoryStore,
    blocks: Arc<AtomicBool>,
}

impl Store for Blocking {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }
    fn address(&self) -> String {
        self.inner.address()
    }
    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(BlockingElection {
            inner: self.inner.election(name),
            blocks: Arc::clone(&self.blocks),
        })
    }
}

struct BlockingElection {
    inner: Arc<dyn Backend>,
    blocks: Arc<AtomicBool>,
}

#[async_trait]
impl Backend for BlockingElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        self.inner.acquire(bid).await
    }
    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        while self.blocks.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.inner.renew(claim).await
    }
    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        self.inner.release(claim, prefer).await
    }
    async fn observe(&self) -> Result<Observed, StoreError> {
        self.inner.observe().await
    }
    fn changes(&self) -> Hints {
        self.inner.changes()
    }
    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        self.inner.read_checkpoint().await
    }
    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        self.inner.write_checkpoint(write).await
    }
}

/// The loop is blocked and everything else runs: the signs of life stop, and come back
/// with the loop.
#[test]
fn a_loop_that_stands_still_feeds_no_watchdog() {
    let mut manager = Manager::new(true);
    let tells = ServiceManager::at(manager.name.as_ref()).unwrap();
    let blocks = Arc::new(AtomicBool::new(false));
    let store = Blocking {
        inner: MemoryStore::new(Arc::new(BootClock)),
        blocks: Arc::clone(&blocks),
    };
    let every = Duration::from_millis(50);
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let (handed, heartbeat) = std::sync::mpsc::channel();
    let loops = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let profile = Profile {
                node: "one".parse().unwrap(),
                url: None,
                metadata: Vec::new(),
            };
            let timing = Timing::of_ttl(Duration::from_millis(600)).unwrap();
            let mut options = Options::new("a".parse().unwrap(), profile, timing);
            options.elections.push("b".parse().unwrap());
            options.heartbeat = Some(every);
            let sidecar = Sidecar::start(Arc::new(store), &options).unwrap();
            handed.send(sidecar.heartbeat().unwrap()).unwrap();
            // Blocks this runtime never: the loops are what blocks it.
            while end.try_recv().is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    });
    let mut heartbeat = heartbeat.recv().unwrap();
    let teller = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            while heartbeat.changed().await.is_ok() {
                tells.tell(&Word::Alive).await;
            }
        });
    });
    manager.until("a sign of life", |text| text == "WATCHDOG=1");
    manager.listen(every * 20);
    let fed = manager.signs_of_life(manager.told[0].0).len();
    assert!(fed >= 10, "{fed} signs of life in a second");
    blocks.store(true, Ordering::Release);
    // A renewal is due within 200 ms, and with it the standstill.
    manager.listen(Duration::from_millis(600));
    let since = Instant::now();
    manager.listen(Duration::from_secs(1));
    let still = manager.signs_of_life(since);
    assert!(still.is_empty(), "{still:?}");
    blocks.store(false, Ordering::Release);
    let since = Instant::now();
    manager.listen(Duration::from_millis(500));
    let back = manager.signs_of_life(since).len();
    println!("{fed} signs of life in a second, none while the loop stood, {back} afterwards");
    assert!(back >= 3, "{back}");
    ended.send(()).unwrap();
    loops.join().unwrap();
    teller.join().unwrap();
}
