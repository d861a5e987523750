//! Leases, clocks and other boots.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure::backend::Store;
use tenure::backend::file::FileStore;
use tenure::lease::*;
use tenure::time::{BootClock, Clock, ManualClock, Moment, UnixMs};

use super::common::*;

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
