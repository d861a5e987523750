//! How changes are told.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tenure::backend::Store;
use tenure::lease::*;
use tenure::time::within;

use super::common::*;

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
