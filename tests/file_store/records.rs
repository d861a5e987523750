//! What the store writes, and how it reads.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use tenure::backend::Store;
use tenure::lease::*;
use tenure::time::{BootClock, Clock};

use super::common::*;

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
