//! The lab as a user runs it: real processes, every fault, a verdict of zero.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/cluster_server.rs"]
mod cluster_server;
#[cfg(feature = "etcd")]
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "support/sentinel_set.rs"]
mod sentinel_set;

use std::process::{Command, Output};

use cluster_server::RedisCluster;
use redis_server::RedisServer;
use sentinel_set::SentinelSet;
use serde_json::Value;

fn lab(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenure"))
        .arg("lab")
        .args(flags)
        .output()
        .expect("the lab starts")
}

/// Runs a lab that must hold, and returns its report.
fn sound(flags: &[&str]) -> Value {
    let output = lab(&[&["--json"], flags].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(report["ok"], true, "{report:#}");
    assert!(
        report["verdict"]
            .as_object()
            .unwrap()
            .values()
            .all(|count| count == 0)
    );
    report
}

fn assert_course(report: &Value, faults: &[&str]) {
    let rows = report["faults"].as_array().unwrap();
    let named: Vec<&str> = rows
        .iter()
        .map(|row| row["fault"].as_str().unwrap())
        .collect();
    assert_eq!(named, faults);
    for row in rows {
        let number = |name: &str| row[name].as_u64().unwrap();
        assert!(number("epoch_after") > number("epoch_before"), "{row:#}");
        assert!(
            number("counter_after") > number("counter_before"),
            "{row:#}"
        );
        assert_ne!(row["old_leader"], row["new_leader"], "{row:#}");
        // A handed over lease is not waited for; an abandoned one is.
        let waited = row["share_of_ttl"].as_f64().unwrap();
        let stop = row["fault"] == "stop";
        assert!(if stop { waited < 0.5 } else { waited > 0.3 }, "{row:#}");
    }
    let paused = rows.iter().filter(|row| row["fault"] == "pause");
    for row in paused {
        assert!(
            row["refused"].as_u64().unwrap() >= 1,
            "no stale write was tried: {row:#}"
        );
        assert_eq!(row["stale_answers"], 0);
    }
}

#[test]
fn on_a_directory_nothing_is_lost() {
    let report = sound(&["--ttl", "1s"]);
    assert_course(&report, &["kill", "stop", "pause"]);
}

#[test]
fn it_runs_on_sentinels_and_on_a_cluster() {
    let (set, cluster) = (SentinelSet::start(), RedisCluster::start());
    for url in [set.url(), cluster.url()] {
        let timing = ["--ttl", "1s", "--renew-every", "300ms"];
        let report = sound(&[&["--backend", &url, "--fault", "stop,kill"][..], &timing].concat());
        assert_course(&report, &["stop", "kill"]);
        let told = lab(&["--backend", &url, "--fault", "cut"]);
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains("several servers cannot be cut off"), "{told}");
    }
}

#[test]
fn on_redis_nothing_is_lost_and_a_cut_off_leader_stops() {
    let server = RedisServer::start();
    let faults = "cut,kill,stop,pause";
    let report = sound(&["--backend", &server.url(), "--ttl", "1s", "--fault", faults]);
    assert_course(&report, &["cut", "kill", "stop", "pause"]);
}

#[test]
fn the_table_is_for_people() {
    let output = lab(&["--ttl", "1s", "--fault", "stop", "--nodes", "2"]);
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("leaderless") && table.contains("no gap, no double"),
        "{table}"
    );
    // Off a terminal nothing moves and nothing is coloured.
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!table.contains('\u{1b}') && !told.contains('\u{1b}') && !told.contains('\r'));
}

#[test]
fn what_cannot_be_done_is_refused_together() {
    let output = lab(&[
        "--fault",
        "cut,melt",
        "--nodes",
        "99",
        "--ttl",
        "x",
        "--backend",
        "raft",
    ]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{told}");
    for value in ["melt", "99", "--ttl x", "raft"] {
        assert!(told.contains(value), "{value} is not named in: {told}");
    }
    let output = lab(&["--fault", "cut"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("directory cannot be cut off"), "{told}");
}

#[test]
fn a_store_that_is_not_there_is_said_at_once() {
    let port = redis_server::free_port();
    let address = format!("redis://127.0.0.1:{port}");
    let output = lab(&["--backend", &address]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        told.contains(&port.to_string()) && told.contains("start the store"),
        "{told}"
    );
}

#[cfg(feature = "etcd")]
#[test]
fn on_etcd_nothing_is_lost_and_a_cut_off_leader_stops() {
    let etcd = etcd::Etcd::single(etcd::Version::V3_5);
    let faults = "cut,kill,stop,pause";
    let report = sound(&["--backend", &etcd.url(), "--ttl", "2s", "--fault", faults]);
    assert_course(&report, &["cut", "kill", "stop", "pause"]);
}
