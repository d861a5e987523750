//! Processes that are killed and stopped, and what they leave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tenure::backend::file::FileStore;
use tenure::lease::*;
use tenure::time::{BootClock, Clock, ManualClock, UnixMs, within};

use super::common::*;

#[tokio::test]
async fn what_killed_processes_left_is_removed() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    let epoch = win(&*store, 1).await;
    let folder = dir.path().join("e.d");
    // Prepared and never committed, by processes that are gone.
    for left in ["1-00000000000000aa.json", "2-00000000000000ab.checkpoint"] {
        fs::write(folder.join(left), "left").unwrap();
    }
    fs::write(dir.path().join("e.2-00000000000000ab.77.tmp"), "").unwrap();
    fs::create_dir(dir.path().join("e.0-00000000000000ac.tmp")).unwrap();
    let mut revision = None;
    for _ in 0..3 {
        store.renew(&claim(epoch, 1)).await.unwrap();
        let value = store
            .write_checkpoint(&write(epoch, 1, revision, b"v"))
            .await;
        let Ok(CheckpointWritten::Written(next)) = value else {
            panic!("not written");
        };
        revision = Some(next);
    }
    // Head, record and value.
    tidied(dir.path(), "e", "", 3);
    // Scratch files are swept at the next start once they are old: an hour later.
    let late = UnixMs(BootClock.wall().0 + 3_600_000);
    let clock = Arc::new(ManualClock::new(BootClock.now(), late));
    FileStore::open(dir.path(), clock).unwrap();
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["e.d", "e.json"]);
}

/// A dropped call runs to its end, and the same session asking again finds it.
#[tokio::test]
async fn a_dropped_call_leaves_nothing_half_done() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    for round in 1..30u128 {
        let bid = bid(round, TTL);
        let _ = within(Duration::from_micros(50), store.acquire(&bid)).await;
        let epoch = won(store.acquire(&bid).await.unwrap());
        let claim = claim(epoch, round);
        let _ = within(Duration::from_micros(50), store.release(&claim, None)).await;
        assert_eq!(store.release(&claim, None).await, Ok(Released::Released));
    }
    win(&*store, 99).await;
    only(dir.path(), "e", ".json");
}

fn number(read: CheckpointRead) -> (Option<Revision>, u64) {
    match read {
        CheckpointRead::Present(value) => {
            let text = String::from_utf8(value.bytes).unwrap();
            (Some(value.revision), text.parse().unwrap())
        }
        CheckpointRead::Absent => (None, 0),
        CheckpointRead::Lost(revision) => panic!("{revision} was lost"),
    }
}

#[test]
fn a_counter_over_eight_stores_is_exact() {
    const EACH: u64 = 12;
    let dir = TempDir::new().unwrap();
    let count = |bits: u128| {
        let store = on(dir.path(), "counter");
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut epochs = Vec::new();
            let mut hints = store.changes();
            while (epochs.len() as u64) < EACH {
                let Acquired::Won { epoch, .. } = store.acquire(&bid(bits, TTL)).await.unwrap()
                else {
                    hint(&mut hints).await;
                    continue;
                };
                let (revision, before) = number(store.read_checkpoint().await.unwrap());
                let next = (before + 1).to_string();
                let write = write(epoch, bits, revision, next.as_bytes());
                let answer = store.write_checkpoint(&write).await.unwrap();
                assert!(
                    matches!(answer, CheckpointWritten::Written(_)),
                    "{answer:?}"
                );
                epochs.push(epoch);
                let answer = store.release(&claim(epoch, bits), None).await;
                assert_eq!(answer, Ok(Released::Released));
            }
            epochs
        })
    };
    let epochs: Vec<Epoch> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=8)
            .map(|bits| scope.spawn(move || count(bits)))
            .collect();
        let threads = threads.into_iter();
        threads.flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<&Epoch> = epochs.iter().collect();
    assert_eq!(
        distinct.len() as u64,
        8 * EACH,
        "an epoch was granted twice"
    );
    let store = on(dir.path(), "counter");
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let (_, last) = number(runtime.block_on(store.read_checkpoint()).unwrap());
    assert_eq!(last, 8 * EACH);
}

const CHILD: &str = "TENURE_TEST_FILE_CHILD";
/// Short, so that leases run out while their holders are stopped.
const SHORT: Duration = Duration::from_millis(40);

/// Not a test of its own: one candidate of the next test, when it starts this
/// binary again. It never looks at a clock, so that only the store stops it.
#[test]
fn candidate_process() {
    let Ok(args) = std::env::var(CHILD) else {
        return;
    };
    let (dir, bits) = args.rsplit_once(':').unwrap();
    let (dir, bits) = (Path::new(dir), bits.parse::<u128>().unwrap());
    let store = on(dir, "e");
    let mut log = fs::File::create(dir.join(format!("log-{bits}"))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        while !dir.join("stop").exists() {
            let bid = bid(bits, SHORT);
            let Acquired::Won { epoch, .. } = store.acquire(&bid).await.unwrap() else {
                tenure::time::pause(Duration::from_millis(2)).await;
                continue;
            };
            writeln!(log, "won {epoch}").unwrap();
            for turn in 0..6 {
                let (revision, before) = number(store.read_checkpoint().await.unwrap());
                let next = before + 1;
                let write = write(epoch, bits, revision, next.to_string().as_bytes());
                match store.write_checkpoint(&write).await.unwrap() {
                    CheckpointWritten::Written(_) => writeln!(log, "wrote {next}").unwrap(),
                    _ => break,
                }
                let mut held = claim(epoch, bits);
                held.ttl = SHORT;
                if turn == 2 && store.renew(&held).await.unwrap() != (Renewed::Kept { left: SHORT })
                {
                    break;
                }
            }
            store.release(&claim(epoch, bits), None).await.unwrap();
        }
    });
}

/// Candidates that die with the test.
struct Candidates {
    dir: PathBuf,
    running: Vec<(u128, Child)>,
    next: u128,
}

impl Candidates {
    fn start(&mut self) {
        let bits = self.next;
        self.next += 1;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::candidate_process", "--nocapture"])
            .env(CHILD, format!("{}:{bits}", self.dir.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.running.push((bits, child));
    }

    fn signal(&self, at: usize, signal: Signal) {
        kill_process(Pid::from_child(&self.running[at].1), signal).unwrap();
    }
}

impl Drop for Candidates {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Candidates are stopped at random instructions, for shorter and longer than a
/// lease, and some are killed. Stopped ones must not block the others, and what
/// they do on waking must not undo what was acknowledged meanwhile.
#[test]
fn stopped_and_killed_candidates_undo_nothing() {
    let dir = TempDir::new().unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = Candidates {
        dir: dir.path().to_owned(),
        running: Vec::new(),
        next: 1,
    };
    (0..5).for_each(|_| all.start());
    let end = Instant::now() + Duration::from_secs(rounds_seconds());
    let (mut stops, mut kills) = (0, 0);
    while Instant::now() < end {
        // Up to four of five at once: the last one must still get through.
        let stopped = random.usize(1..5);
        random.shuffle(&mut all.running);
        (0..stopped).for_each(|at| all.signal(at, Signal::STOP));
        stops += stopped;
        let long = random.u8(..4) == 0;
        let most = if long { 120_000 } else { 12_000 };
        std::thread::sleep(Duration::from_micros(random.u64(100..most)));
        (0..stopped).for_each(|at| all.signal(at, Signal::CONT));
        if random.u8(..40) == 0 {
            let (_, mut victim) = all.running.swap_remove(0);
            victim.kill().unwrap();
            victim.wait().unwrap();
            kills += 1;
            all.start();
        }
        std::thread::sleep(Duration::from_micros(random.u64(100..12_000)));
    }
    fs::write(dir.path().join("stop"), "").unwrap();
    for (bits, mut child) in std::mem::take(&mut all.running) {
        assert!(child.wait().unwrap().success(), "candidate {bits} failed");
    }
    let (mut grants, mut written) = (BTreeMap::new(), BTreeSet::new());
    for bits in 1..all.next {
        let log = fs::read_to_string(dir.path().join(format!("log-{bits}"))).unwrap_or_default();
        for line in log
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let (word, number) = line.trim().split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            if word == "won" {
                let owner = *grants.entry(number).or_insert(bits);
                assert_eq!(owner, bits, "epoch {number} was granted twice");
            } else {
                assert!(written.insert(number), "{number} was acknowledged twice");
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let read = runtime
        .block_on(on(dir.path(), "e").read_checkpoint())
        .unwrap();
    let (_, last) = number(read);
    let acknowledged = written.len() as u64;
    println!(
        "{stops} stops, {kills} kills, {} epochs, counter {last}",
        grants.len()
    );
    assert!(
        grants.len() > 10 && acknowledged > 20,
        "the candidates hardly ran"
    );
    assert_eq!(
        written.last().copied().max(Some(last)),
        Some(last),
        "a write was lost"
    );
    // A killed candidate may have written once without saying so.
    assert!(
        acknowledged <= last && last <= acknowledged + kills,
        "{acknowledged} of {last}"
    );
}

/// Longer on request, for a soak: `TENURE_TEST_SECONDS=600`.
fn rounds_seconds() -> u64 {
    let text = std::env::var("TENURE_TEST_SECONDS").unwrap_or_default();
    text.parse().unwrap_or(6)
}
