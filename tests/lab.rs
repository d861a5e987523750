//! The lab as a user runs it: real processes, every fault, a verdict of zero.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/cluster_server.rs"]
mod cluster_server;
#[cfg(feature = "etcd")]
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "support/sentinel_set.rs"]
mod sentinel_set;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use cluster_server::RedisCluster;
use redis_server::RedisServer;
use rustix::process::{Pid, Signal};
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

/// The lab's nodes are its own, whatever is set for the user's sidecars.
#[test]
fn what_configures_the_users_sidecars_does_not_reach_the_lab() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tenure.toml");
    std::fs::write(&config, "wait = \"for ever\"\n").unwrap();
    let notify = dir.path().join("notify");
    let service_manager = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    service_manager.set_nonblocking(true).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(["lab", "--ttl", "1s", "--fault", "stop", "--nodes", "2"])
        .env("TENURE_CONFIG", &config)
        .env("TENURE_ELECTION", "orders,invoices")
        .env("NOTIFY_SOCKET", &notify)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(service_manager.recv(&mut [0; 64]).is_err(), "it was told");
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
fn the_report_has_a_lane_a_node_and_every_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lab.html");
    std::fs::write(&path, "of an earlier run").unwrap();
    let file = path.to_str().unwrap();
    let report = sound(&["--ttl", "1s", "--report", file]);
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    for node in ["node-1", "node-2", "node-3"] {
        let lane = format!("<g class=\"lane\" role=\"img\" aria-label=\"{node}:");
        assert_eq!(page.matches(&lane).count(), 1, "{node}");
    }
    let rows = report["faults"].as_array().unwrap();
    assert_eq!(page.matches("class=\"fault\"").count(), rows.len());
    for (index, row) in rows.iter().enumerate() {
        let (fault, node) = (row["fault"].as_str(), row["old_leader"].as_str());
        let mark = format!(
            "fault {}: {} {} at",
            index + 1,
            fault.unwrap(),
            node.unwrap()
        );
        assert!(page.contains(&mark), "{mark} is not marked");
        // The bars of those who led before and after, and the table's figures.
        for epoch in [&row["epoch_before"], &row["epoch_after"]] {
            assert!(page.contains(&format!("epoch {epoch}</title>")), "{epoch}");
        }
        let leaderless = format!("{:.1} ms</td>", row["leaderless_ms"].as_f64().unwrap());
        assert!(page.contains(&leaderless), "{leaderless}");
    }
    assert!(
        page.contains("class=\"refusal\""),
        "the paused leader's write"
    );
    let counter = format!("counter, up to {}<", report["counter"]);
    assert!(page.contains(&counter), "{counter}");
    let elsewhere = ["src=\"", "url(http", "@import", "<script"];
    assert!(elsewhere.iter().all(|it| !page.contains(it)));
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, lost) = (dir.path(), dir.path().join("no/such/lab.html"));
    for (path, why) in [
        (folder, "is a directory"),
        (&lost, "cannot be made"),
        ("/dev/null".as_ref(), "no regular file"),
        ("".as_ref(), "no path"),
    ] {
        let output = lab(&["--nodes", "99", "--report", path.to_str().unwrap()]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains("--report") && told.contains(why), "{told}");
        assert!(told.contains("2 problems") && told.contains("99"), "{told}");
    }
    // A refused lab leaves no file behind, and one that is there as it was.
    let (new, old) = (dir.path().join("new.html"), dir.path().join("old.html"));
    std::fs::write(&old, "kept").unwrap();
    for path in [&new, &old] {
        let output = lab(&["--nodes", "99", "--report", path.to_str().unwrap()]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(!told.contains("--report"), "{told}");
    }
    assert!(!new.exists());
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "kept");
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
        "melon",
    ]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{told}");
    for value in ["melt", "99", "--ttl x", "write it as 15s", "melon"] {
        assert!(told.contains(value), "{value} is not named in: {told}");
    }
    let output = lab(&["--ttl", "0s", "--renew-every", "0s"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(
        told.contains("2 problems") && told.contains("100ms"),
        "{told}"
    );
    let output = lab(&["--fault", "cut"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("directory cannot be cut off"), "{told}");
    let output = lab(&["--fault", "partition"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("only members have sides"), "{told}");
}

#[test]
fn flags_come_from_the_environment_too_and_a_flag_wins() {
    let told = |flags: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command.arg("lab").args(flags);
        command.envs(environment.iter().copied());
        let output = command.output().expect("the lab starts");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{told}");
        told
    };
    let wrong = [
        ("TENURE_BACKEND", "mongo://u:s3cr3t@h"),
        ("TENURE_NODES", "99"),
        ("TENURE_TTL", "x"),
        ("TENURE_RENEW_EVERY", "y"),
        ("TENURE_FAULT", "melt"),
        ("TENURE_ROUNDS", "0"),
        ("TENURE_REPORT", "/nonexistent/lab.html"),
    ];
    let all = told(&[], &wrong);
    assert!(all.contains("7 problems"), "{all}");
    assert!(wrong.iter().all(|(name, _)| all.contains(name)), "{all}");
    assert!(!all.contains("s3cr3t"), "{all}");
    let flag = told(&["--nodes", "77"], &[("TENURE_NODES", "99")]);
    assert!(
        flag.contains("--nodes 77") && !flag.contains("99"),
        "{flag}"
    );
    // A variable that is set to nothing is not set.
    let unset = told(
        &["--nodes", "77"],
        &[("TENURE_TTL", ""), ("TENURE_BACKEND", "")],
    );
    assert!(unset.contains("1 problem "), "{unset}");
}

/// A password in the environment reaches the nodes.
#[test]
fn a_store_with_a_password_is_named_in_the_environment() {
    let server = RedisServer::start();
    let reply = server.command(&["CONFIG", "SET", "requirepass", "s3cr3t"]);
    assert_eq!(reply.text(), "OK");
    let url = server.url().replace("redis://", "redis://:s3cr3t@");
    let output = Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(["lab", "--json", "--nodes", "2", "--fault", "stop"])
        .env("TENURE_BACKEND", url)
        .env("TENURE_TTL", "1s")
        .output()
        .expect("the lab starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(report["ok"], true, "{report:#}");
    let backend = report["backend"].as_str().unwrap();
    assert_eq!(backend.trim_end_matches("/0"), server.url(), "{report:#}");
    assert!(!told.contains("s3cr3t"), "{told}");
}

#[test]
fn a_signal_leaves_neither_nodes_nor_files_behind() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let place = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenure"))
            .args(["lab", "--rounds", "100"])
            .env("TMPDIR", place.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the lab starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let begun = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("kill")));
        begun.expect("a fault is announced").unwrap();
        let pid = Pid::from_child(&child);
        assert!(std::fs::read_dir(place.path()).unwrap().next().is_some());
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        // Closed by the last of those who had it: the nodes.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        assert!(
            rest.iter().any(|line| line.contains("interrupted")),
            "{rest:?}"
        );
        let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_store_that_is_not_there_is_said_at_once() {
    let port = ports::free_port();
    let address = format!("redis://127.0.0.1:{port}");
    let output = lab(&["--backend", &address]);
    let told = String::from_utf8(output.stderr).unwrap();
    // 1 would be a verdict.
    assert_eq!(output.status.code(), Some(69), "{told}");
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

/// Five members, parted 2 | 3 and healed: the leader is on the smaller side first, on the
/// larger one then.
#[cfg(feature = "quorum")]
fn parted(backend: &str) {
    let flags = ["--backend", backend, "--nodes", "5", "--ttl", "2s"];
    let more = ["--fault", "partition", "--rounds", "2"];
    let report = sound(&[&flags[..], &more].concat());
    let rows = report["faults"].as_array().unwrap();
    let faults: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["fault"].as_str())
        .collect();
    assert_eq!(faults, ["partition"; 2]);
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
    for row in rows {
        let counted = number(row, "counter_after") > number(row, "counter_before");
        assert!(counted, "the larger side did not go on: {row:#}");
        let same = number(row, "epoch_after") == number(row, "epoch_before");
        let went_on = same && row["old_leader"] == row["new_leader"];
        assert_eq!(row["leaderless_ms"] == 0.0, went_on, "{row:#}");
    }
    let first = &rows[0];
    assert!(number(first, "epoch_after") > number(first, "epoch_before"));
    let node = |name: &str| -> usize {
        let name = first[name].as_str().unwrap();
        name.strip_prefix("node-").unwrap().parse().unwrap()
    };
    let (old, new) = (node("old_leader"), node("new_leader"));
    let smaller_side = [old, old % 5 + 1];
    assert!(!smaller_side.contains(&new), "{first:#}");
}

#[cfg(feature = "quorum")]
#[test]
fn parted_members_of_bully_have_one_leader_on_the_larger_side() {
    parted("bully");
}

#[cfg(feature = "quorum")]
#[test]
fn parted_members_of_ring_have_one_leader_on_the_larger_side() {
    parted("ring");
}

#[cfg(feature = "raft")]
#[test]
fn parted_members_of_raft_have_one_leader_on_the_larger_side() {
    parted("raft");
}

#[cfg(feature = "quorum")]
#[test]
fn among_members_nothing_is_lost_and_the_report_shows_who_was_parted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lab.html");
    let file = path.to_str().unwrap();
    let faults = "stop,kill,pause,cut,partition";
    let flags = ["--backend", "bully", "--ttl", "2s", "--fault", faults];
    let report = sound(&[&flags[..], &["--report", file]].concat());
    assert_course(&report, &["stop", "kill", "pause", "cut", "partition"]);
    let page = std::fs::read_to_string(&path).unwrap();
    let parted = report["faults"][4]["old_leader"].as_str().unwrap();
    let mark = format!("fault 5: partition {parted} at");
    assert!(page.contains(&mark), "{mark} is not marked");
    assert!(page.contains("cut off</li>"), "it is not in the legend");
}

#[cfg(feature = "quorum")]
#[test]
fn members_that_are_their_own_majority_are_refused() {
    let output = lab(&["--backend", "ring", "--nodes", "2", "--fault", "partition"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{told}");
    let why = "2 members are their own majority";
    assert!(told.contains(why) && told.contains("3 at least"), "{told}");
}
