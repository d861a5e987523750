//! The file store's own matters: its files, its fitness checks, damage, other boots,
//! stopped writers, wake-ups. What every store must do is in the conformance suite.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tenure::backend::file::{FileStore, FileStoreError};
use tenure::backend::{Backend, Hints, Store};
use tenure::lease::*;
use tenure::time::{BootClock, Clock, ManualClock, Moment, UnixMs, within};

const BOUND: Duration = Duration::from_secs(10);

fn open(dir: &Path) -> FileStore {
    FileStore::open(dir, Arc::new(BootClock)).unwrap()
}

fn name(text: &str) -> ElectionName {
    text.parse().unwrap()
}

fn on(dir: &Path, election: &str) -> Arc<dyn Backend> {
    open(dir).election(&name(election))
}

fn session(bits: u128) -> SessionId {
    SessionId::from_bits(bits)
}

fn bid(bits: u128, ttl: Duration) -> Bid {
    Bid {
        session: session(bits),
        profile: Profile {
            node: format!("node-{bits}").parse().unwrap(),
            url: Some(format!("http://127.0.0.1:{}", 8000 + bits % 1000)),
            metadata: vec![0, 255, 7],
        },
        ttl,
        floor: None,
        incumbent: false,
        hold: ttl,
    }
}

const TTL: Duration = Duration::from_secs(30);

fn claim(epoch: Epoch, bits: u128) -> Claim {
    Claim {
        epoch,
        session: session(bits),
        ttl: TTL,
        hold: TTL,
    }
}

fn won(answer: Acquired) -> Epoch {
    match answer {
        Acquired::Won { epoch, .. } => epoch,
        other => panic!("not won: {other:?}"),
    }
}

async fn win(backend: &dyn Backend, bits: u128) -> Epoch {
    won(backend.acquire(&bid(bits, TTL)).await.unwrap())
}

fn write(epoch: Epoch, bits: u128, expected: Option<Revision>, bytes: &[u8]) -> CheckpointWrite {
    CheckpointWrite {
        epoch,
        session: session(bits),
        expected,
        bytes: bytes.to_vec(),
    }
}

async fn hint(hints: &mut Hints) -> Hint {
    within(BOUND, hints.next())
        .await
        .expect("no hint in time")
        .expect("the stream ended")
}

fn shown(dir: &Path, election: &str) -> serde_json::Value {
    let text = fs::read_to_string(dir.join(format!("{election}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The files in an election's folder with that ending.
fn files(dir: &Path, election: &str, ending: &str) -> Vec<PathBuf> {
    let folder = dir.join(format!("{election}.d"));
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    found.sort();
    found
}

/// The same once there are only so many: what is out of force is removed after the
/// answer.
fn tidied(dir: &Path, election: &str, ending: &str, count: usize) -> Vec<PathBuf> {
    let until = BootClock.now() + BOUND;
    loop {
        let found = files(dir, election, ending);
        if found.len() <= count {
            assert_eq!(found.len(), count, "{found:?}");
            return found;
        }
        assert!(BootClock.now() < until, "never tidied: {found:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn only(dir: &Path, election: &str, ending: &str) -> PathBuf {
    tidied(dir, election, ending, 1).remove(0)
}

#[tokio::test]
async fn the_record_is_readable() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "orders");
    let before = BootClock.now().as_millis();
    let epoch = win(&*store, 1).await;
    let record = shown(dir.path(), "orders");
    assert_eq!(record["leader"], "node-1");
    assert_eq!(record["url"], "http://127.0.0.1:8001");
    assert_eq!(record["epoch"], epoch.get());
    assert_eq!(record["ttl_ms"], 30_000);
    assert_eq!(record["released"], false);
    let ends = record["lease_ends_boottime_ms"].as_u64().unwrap();
    assert!((before + 30_000..=before + 60_000).contains(&ends));
    let wall: jiff::Timestamp = record["lease_ends"].as_str().unwrap().parse().unwrap();
    let left = wall.as_millisecond() - i64::try_from(BootClock.wall().0).unwrap();
    assert!((0..=30_000).contains(&left), "lease ends in {left} ms");

    // A renewal shows too.
    let mut later = claim(epoch, 1);
    later.ttl = Duration::from_secs(300);
    store.renew(&later).await.unwrap();
    let record = shown(dir.path(), "orders");
    assert!(record["lease_ends_boottime_ms"].as_u64().unwrap() >= before + 300_000);

    let heir = "node-9".parse().unwrap();
    store.release(&claim(epoch, 1), Some(&heir)).await.unwrap();
    let record = shown(dir.path(), "orders");
    assert_eq!(record["leader"], serde_json::Value::Null);
    assert_eq!(record["epoch"], epoch.get());
    assert_eq!(record["released"], true);
    assert_eq!(record["prefer"], "node-9");
}

#[tokio::test]
async fn the_holder_is_seen_with_all_that_it_told() {
    let dir = TempDir::new().unwrap();
    let epoch = win(&*on(dir.path(), "e"), 1).await;
    let Acquired::Held { holder, left } = on(dir.path(), "e").acquire(&bid(2, TTL)).await.unwrap()
    else {
        panic!("two leaders");
    };
    assert_eq!((holder.epoch, holder.session), (epoch, session(1)));
    assert_eq!(holder.profile, bid(1, TTL).profile);
    assert!(left <= TTL && left > TTL / 2);
}

#[tokio::test]
async fn a_checkpoint_is_kept_beside_the_record() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    assert_eq!(store.read_checkpoint().await, Ok(CheckpointRead::Absent));
    let epoch = win(&*store, 1).await;
    let bytes: Vec<u8> = (0..65_536u32).map(|at| (at % 251) as u8).collect();
    let answer = store.write_checkpoint(&write(epoch, 1, None, &bytes)).await;
    let revision = Revision { epoch, seq: 1 };
    assert_eq!(answer, Ok(CheckpointWritten::Written(revision)));
    let record = only(dir.path(), "e", ".json");
    assert!(fs::metadata(record).unwrap().len() < 4096);

    // A renewal leaves its file alone, and another process reads it.
    let file = only(dir.path(), "e", ".checkpoint");
    store.renew(&claim(epoch, 1)).await.unwrap();
    assert_eq!(only(dir.path(), "e", ".checkpoint"), file);
    let read = on(dir.path(), "e").read_checkpoint().await.unwrap();
    assert_eq!(
        read,
        CheckpointRead::Present(Checkpoint { revision, bytes })
    );

    // Lost and damaged are told apart, and neither is taken for "never written".
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let error = store.read_checkpoint().await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains(file.to_str().unwrap())));
    fs::remove_file(&file).unwrap();
    let lost = store.read_checkpoint().await.unwrap();
    assert_eq!(lost, CheckpointRead::Lost(revision));
    let next = store.write_checkpoint(&write(epoch, 1, None, b"x")).await;
    let second = Revision { epoch, seq: 2 };
    assert_eq!(next, Ok(CheckpointWritten::Written(second)));
}

#[tokio::test]
async fn no_two_elections_share_a_file() {
    let dir = TempDir::new().unwrap();
    let names = [
        "a",
        "a.json",
        "a.d",
        "a.tmp",
        "a.json.json",
        "a.lock",
        "a.checkpoint",
        ".a",
        "...",
        "head.1-0.1-0",
        "A",
        &"x".repeat(128),
    ];
    let store = open(dir.path());
    let mut epochs = BTreeMap::new();
    for (bits, election) in (1..).zip(names) {
        let backend = store.election(&name(election));
        assert_eq!(backend.observe().await.unwrap(), Observed::default());
        let epoch = win(&*backend, bits).await;
        let write = write(epoch, bits, None, election.as_bytes());
        let value = backend.write_checkpoint(&write).await;
        assert!(matches!(value, Ok(CheckpointWritten::Written(_))));
        epochs.insert(election, (bits, epoch));
    }
    // A store opened anew sweeps nothing that is in use.
    let store = open(dir.path());
    for (election, (bits, epoch)) in epochs {
        let backend = store.election(&name(election));
        let (holder, _) = backend.observe().await.unwrap().holder.unwrap();
        assert_eq!((holder.epoch, holder.session), (epoch, session(bits)));
        let Ok(CheckpointRead::Present(value)) = backend.read_checkpoint().await else {
            panic!("the checkpoint of {election} is gone");
        };
        assert_eq!(value.bytes, election.as_bytes());
        assert_eq!(shown(dir.path(), election)["election"], election);
    }
}

#[tokio::test]
async fn a_damaged_record_is_told_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    let epoch = win(&*store, 1).await;
    let file = only(dir.path(), "e", ".json");
    let whole = fs::read_to_string(&file).unwrap();
    let number = epoch.to_string();
    let other = whole.replace("\"election\": \"e\"", "\"election\": \"f\"");
    let damages = [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        "no json".to_owned(),
        "\0".repeat(whole.len()),
        "null".to_owned(),
        whole.replace(&number, "0"),
        whole.replace(&number, "9007199254740992"),
        whole.replace("\"format\": 1", "\"format\": 2"),
        other,
    ];
    for damage in damages {
        assert_ne!(damage, whole, "a damage that changes nothing");
        fs::write(&file, &damage).unwrap();
        let held = claim(epoch, 1);
        let errors = [
            store.observe().await.map(drop),
            store.acquire(&bid(2, TTL)).await.map(drop),
            store.renew(&held).await.map(drop),
            store.release(&held, None).await.map(drop),
            store.read_checkpoint().await.map(drop),
            store
                .write_checkpoint(&write(epoch, 1, None, b"v"))
                .await
                .map(drop),
        ];
        for error in errors {
            let Err(StoreError::Corrupt(text)) = error else {
                panic!("{damage:?} gave {error:?}");
            };
            assert!(text.contains(file.to_str().unwrap()), "{text}");
            assert!(text.contains("move it away"), "{text}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), damage);
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(
        store.renew(&claim(epoch, 1)).await,
        Ok(Renewed::Kept { left: TTL })
    );
}

#[tokio::test]
async fn a_lost_record_or_head_and_a_second_head_are_told() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    win(&*store, 1).await;
    let folder = dir.path().join("e.d");
    let record = only(dir.path(), "e", ".json");
    let whole = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let error = store.observe().await.unwrap_err().to_string();
    assert!(error.contains("it is missing"), "{error}");
    fs::write(&record, whole).unwrap();

    let second = folder.join("head.7-00000000000000aa.7-00000000000000aa");
    fs::write(&second, "").unwrap();
    let error = store.acquire(&bid(2, TTL)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("more than one head")));
    fs::remove_file(&second).unwrap();
    store.observe().await.unwrap();

    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("head.")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let error = store.acquire(&bid(2, TTL)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("no file head")));
}

#[tokio::test]
async fn a_removed_folder_is_an_election_begun_anew() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    let epoch = win(&*store, 1).await;
    // Emptied, and removed with the directory itself.
    let folder = dir.path().join("e.d");
    for entry in fs::read_dir(&folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(store.renew(&claim(epoch, 1)).await, Ok(Renewed::Lost(None)));
    let second = win(&*store, 2).await;
    assert!(second > epoch);
    fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(store.observe().await, Ok(Observed::default()));
    let mut remembering = bid(3, TTL);
    remembering.floor = Some(second);
    let answer = store.acquire(&remembering).await.unwrap();
    let why = HoldReason::StoreWentBack;
    assert!(
        matches!(answer, Acquired::Hold { why: told, .. } if told == why),
        "{answer:?}"
    );
}

#[test]
fn unfit_directories_are_refused_with_the_mend() {
    let open = |path: &Path| FileStore::open(path, Arc::new(BootClock));
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file).unwrap_err();
    assert!(matches!(error, FileStoreError::NotADirectory { .. }));
    assert!(error.to_string().contains(file.to_str().unwrap()));
    let below = file.join("below");
    let error = open(&below).unwrap_err();
    assert!(matches!(error, FileStoreError::Create { .. }));
    assert!(error.to_string().contains(below.to_str().unwrap()));
    let error = open(Path::new("/proc/self")).unwrap_err();
    assert!(
        matches!(error, FileStoreError::NotWritable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("choose another"), "{error}");
    // Missing ones are made.
    let deep = dir.path().join("a/b/c");
    assert_eq!(open(&deep).unwrap().directory(), deep);
    assert!(deep.is_dir());
}

/// Rewrites the record as another boot would have left it.
fn as_of_another_boot(file: &Path) {
    let own = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(file).unwrap();
    let other = text.replace(own.trim(), "00000000-0000-4000-8000-000000000000");
    assert_ne!(text, other);
    fs::write(file, other).unwrap();
}

#[tokio::test]
async fn leases_and_holds_end_with_their_boot() {
    let dir = TempDir::new().unwrap();
    // The earlier boot had lasted long: its lease ends far ahead by this one's clock.
    let long = Moment::from_millis(BootClock.now().as_millis() + 1_000_000_000);
    let clock = Arc::new(ManualClock::new(long, BootClock.wall()));
    let before = FileStore::open(dir.path(), clock)
        .unwrap()
        .election(&name("e"));
    let epoch = win(&*before, 1).await;
    let value = before
        .write_checkpoint(&write(epoch, 1, None, b"kept"))
        .await;
    assert!(matches!(value, Ok(CheckpointWritten::Written(_))));
    as_of_another_boot(&only(dir.path(), "e", ".json"));

    let store = on(dir.path(), "e");
    let seen = store.observe().await.unwrap();
    assert_eq!((seen.epoch, seen.holder), (Some(epoch), None));
    let stale = store
        .write_checkpoint(&write(epoch, 1, None, b"late"))
        .await;
    assert!(matches!(stale, Ok(CheckpointWritten::Stale { .. })));
    assert_eq!(store.renew(&claim(epoch, 1)).await, Ok(Renewed::Lost(None)));
    let mut remembering = bid(2, TTL);
    remembering.floor = Some(epoch);
    let next = won(store.acquire(&remembering).await.unwrap());
    assert!(next > epoch);
    let Ok(CheckpointRead::Present(value)) = store.read_checkpoint().await else {
        panic!("the checkpoint is gone");
    };
    assert_eq!(value.bytes, b"kept");

    // A hold of an earlier boot.
    let mut ahead = bid(3, TTL);
    ahead.floor = Epoch::new(next.get() + 10).ok();
    store.release(&claim(next, 2), None).await.unwrap();
    let held = store.acquire(&ahead).await.unwrap();
    assert!(matches!(held, Acquired::Hold { .. }), "{held:?}");
    as_of_another_boot(&only(dir.path(), "e", ".json"));
    assert!(won(store.acquire(&ahead).await.unwrap()) > ahead.floor.unwrap());
}

#[tokio::test]
async fn a_renewal_that_a_power_cut_took_is_passed_over() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    let epoch = win(&*store, 1).await;
    let granted = only(dir.path(), "e", ".json");
    store.renew(&claim(epoch, 1)).await.unwrap();
    store.renew(&claim(epoch, 1)).await.unwrap();
    // The fsynced record and the last renewal.
    let records = tidied(dir.path(), "e", ".json", 2);
    let renewed = records.into_iter().find(|path| *path != granted).unwrap();
    // In this boot an empty record is damage.
    fs::write(&renewed, "").unwrap();
    let error = store.observe().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)));
    as_of_another_boot(&granted);
    let seen = store.observe().await.unwrap();
    assert_eq!((seen.epoch, seen.holder), (Some(epoch), None));
    assert!(win(&*store, 2).await > epoch);
}

#[tokio::test]
async fn another_time_namespace_is_refused() {
    let dir = TempDir::new().unwrap();
    let store = on(dir.path(), "e");
    win(&*store, 1).await;
    let file = only(dir.path(), "e", ".json");
    let record = shown(dir.path(), "e");
    let own = record["time_namespace"].to_string();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&own, "17")).unwrap();
    let error = store.acquire(&bid(2, TTL)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Misconfigured(text) if text.contains("namespace 17")));
    assert_eq!(shown(dir.path(), "e")["time_namespace"], 17);
    // Of another boot it does not matter.
    as_of_another_boot(&file);
    win(&*store, 2).await;
}

#[tokio::test]
async fn a_lease_ends_to_the_millisecond_and_is_not_brought_back() {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::new(Moment::from_millis(5_000), UnixMs(9_000)));
    let store = FileStore::open(dir.path(), clock.clone()).unwrap();
    let store = store.election(&name("e"));
    let epoch = win(&*store, 1).await;
    clock.advance(TTL);
    let last = store.acquire(&bid(2, TTL)).await.unwrap();
    assert!(
        matches!(last, Acquired::Held { .. }),
        "ended early: {last:?}"
    );
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.renew(&claim(epoch, 1)).await, Ok(Renewed::Lost(None)));
    assert!(win(&*store, 2).await > epoch);
}

#[tokio::test]
async fn changes_tell_what_matters_and_no_renewals() {
    let dir = TempDir::new().unwrap();
    let (store, other) = (on(dir.path(), "e"), on(dir.path(), "f"));
    let mut hints = on(dir.path(), "e").changes();
    assert_eq!(hint(&mut hints).await, Hint::Present(Observed::default()));
    let first = win(&*store, 1).await;
    assert_eq!(hint(&mut hints).await, Hint::Began(first));
    win(&*other, 1).await;
    for _ in 0..20 {
        store.renew(&claim(first, 1)).await.unwrap();
    }
    let value = store.write_checkpoint(&write(first, 1, None, b"v")).await;
    assert!(matches!(value, Ok(CheckpointWritten::Written(_))));
    // Silence can only be waited for; a late hint is caught by what is told next.
    let silence = within(Duration::from_millis(200), hints.next()).await;
    assert_eq!(silence, None);
    let heir: NodeId = "node-2".parse().unwrap();
    store.release(&claim(first, 1), Some(&heir)).await.unwrap();
    let ended = Hint::Ended {
        epoch: first,
        prefer: Some(heir),
    };
    assert_eq!(hint(&mut hints).await, ended);
    // Released again: nothing new to say.
    store.release(&claim(first, 1), None).await.unwrap();
    let second = win(&*store, 2).await;
    assert_eq!(hint(&mut hints).await, Hint::Began(second));
    store.release(&claim(second, 2), None).await.unwrap();
    let ended = Hint::Ended {
        epoch: second,
        prefer: None,
    };
    assert_eq!(hint(&mut hints).await, ended);
}

#[tokio::test]
async fn a_lost_directory_is_a_gap_and_then_the_state() {
    let outer = TempDir::new().unwrap();
    let dir = outer.path().join("store");
    let store = on(&dir, "e");
    let epoch = win(&*store, 1).await;
    let mut hints = store.changes();
    assert!(matches!(hint(&mut hints).await, Hint::Present(seen) if seen.epoch == Some(epoch)));
    fs::rename(&dir, outer.path().join("away")).unwrap();
    assert_eq!(hint(&mut hints).await, Hint::Gap);
    let second = win(&*store, 2).await;
    loop {
        match hint(&mut hints).await {
            Hint::Present(seen) if seen.epoch == Some(second) => break,
            Hint::Began(told) if told == second => break,
            Hint::Present(_) | Hint::Gap => {}
            other => panic!("{other:?}"),
        }
    }
    // Only the folder of the election.
    fs::remove_dir_all(dir.join("e.d")).unwrap();
    assert_eq!(hint(&mut hints).await, Hint::Gap);
    assert_eq!(hint(&mut hints).await, Hint::Present(Observed::default()));
}

#[tokio::test]
async fn a_hundred_elections_share_one_watch() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let watches = || {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().contains("inotify"))
            .count()
    };
    let before = watches();
    let mut streams = Vec::new();
    for number in 0..100 {
        let backend = store.election(&name(&format!("e{number}")));
        let mut hints = backend.changes();
        assert_eq!(hint(&mut hints).await, Hint::Present(Observed::default()));
        streams.push((backend, hints));
    }
    // Other tests of this process hold a few of their own meanwhile.
    assert!(watches() < before + 30, "{} watches", watches());
    for (backend, hints) in &mut streams {
        let epoch = win(&**backend, 1).await;
        assert_eq!(hint(hints).await, Hint::Began(epoch));
    }
}

#[tokio::test]
async fn a_release_wakes_a_watcher_at_once() {
    let dir = TempDir::new().unwrap();
    let (leader, follower) = (on(dir.path(), "e"), on(dir.path(), "e"));
    let mut hints = follower.changes();
    assert!(matches!(hint(&mut hints).await, Hint::Present(_)));
    let (mut wakes, mut handovers) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        let epoch = win(&*leader, 1).await;
        assert_eq!(hint(&mut hints).await, Hint::Began(epoch));
        let start = Instant::now();
        leader.release(&claim(epoch, 1), None).await.unwrap();
        assert!(matches!(hint(&mut hints).await, Hint::Ended { .. }));
        wakes.push(start.elapsed());
        let next = win(&*follower, 2).await;
        handovers.push(start.elapsed());
        assert_eq!(hint(&mut hints).await, Hint::Began(next));
        follower.release(&claim(next, 2), None).await.unwrap();
        assert!(matches!(hint(&mut hints).await, Hint::Ended { .. }));
    }
    wakes.sort();
    handovers.sort();
    println!(
        "release to hint: {:?} median, {:?} most",
        wakes[15], wakes[29]
    );
    println!(
        "release to grant: {:?} median, {:?} most",
        handovers[15], handovers[29]
    );
    // No polling and no debounce: far below either, also on a busy machine.
    assert!(wakes[15] < Duration::from_millis(50), "{wakes:?}");
}

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
            .args(["--exact", "candidate_process", "--nocapture"])
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
