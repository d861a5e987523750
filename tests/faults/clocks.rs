//! wall-clock: the local wall clock jumps by hours, and nothing changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cluster::{Cluster, TTL};
use super::stores::Store;

/// The library that lies about the wall clock to the process it is loaded into.
fn liar() -> PathBuf {
    let triplets = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let libraries = triplets.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    libraries
        .chain([PathBuf::from("/usr/lib/faketime/libfaketime.so.1")])
        .find(|path| path.exists())
        .expect("libfaketime is needed: apt-get install faketime")
}

/// Replaced whole, so that nobody reads half of it.
fn set(clock: &Path, offset: &str) {
    let fresh = clock.with_extension("new");
    std::fs::write(&fresh, offset).unwrap();
    std::fs::rename(&fresh, clock).unwrap();
}

fn wall_clock_strobes(store: &Store) {
    let home = tempfile::tempdir().unwrap();
    let clock = home.path().join("offset");
    set(&clock, "+0");
    let library = liar();
    let cluster = Cluster::start_with(&store.urls(2), |setup| {
        setup
            .flag("--ttl", "1s")
            .variable("LD_PRELOAD", library.display())
            .variable("FAKETIME_TIMESTAMP_FILE", clock.display())
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("DONT_FAKE_MONOTONIC", "1")
    });
    let lead = cluster.working_leader();
    let told = || cluster.http(lead.node).get("/status").unwrap().json()["time"].clone();
    set(&clock, "-48h");
    let early = told();
    set(&clock, "+48h");
    // RFC 3339 sorts as text.
    assert!(
        early.as_str() < told().as_str(),
        "the clock was not moved: {early}"
    );
    for round in 0..60 {
        set(&clock, ["-5h", "+3h", "+0", "-30d", "+30d"][round % 5]);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(cluster.wait_for_write(lead.epoch).epoch, lead.epoch);
    let asked_at = cluster.recorder.now();
    cluster.step_down(lead.node);
    let next = cluster.leader_after(lead.epoch, asked_at, TTL);
    cluster.wait_for_write(next.epoch);
    cluster.judge();
}

#[test]
fn wall_clock_on_redis() {
    wall_clock_strobes(&Store::redis());
}

#[test]
fn wall_clock_on_files() {
    wall_clock_strobes(&Store::file());
}
