//! `/status`, `/`, `/elections`, `/history` and the probes.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::request;
use super::ports::free_port;
use super::process::{BOUND, Node, file_url};
use super::redis_server::RedisServer;
use super::{Alone, LONG, Pair};

/// RFC 3339 in UTC: `2026-01-01T00:00:09.120Z`.
#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let stamp: Result<jiff::Timestamp, _> = text.parse();
    assert!(stamp.is_ok() && text.ends_with('Z'), "{value} is no time");
}

#[test]
fn the_status_of_a_leader_has_every_member() {
    let pair = Pair::new(&[]);
    let reply = pair.leader.get("/status");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let status = reply.json();
    assert_eq!(status["election"], "default");
    assert_eq!(status["id"], "first");
    assert_eq!(status["state"], "leader");
    assert_eq!(status["is_leader"], true);
    assert_eq!(status["leader"]["id"], "first");
    assert_eq!(status["leader"]["url"], "http://10.0.0.7:8080");
    assert_time(&status["leader"]["since"]);
    let token = status["fence_token"].as_u64().unwrap();
    assert!((1..1 << 53).contains(&token));
    assert_eq!(status["term"], token);
    let lease = &status["lease"];
    assert_eq!(lease["ttl_ms"], 30_000);
    let left = lease["remaining_ms"].as_u64().unwrap();
    // 1 % of drift on both sides is taken off.
    assert!((15_000..29_500).contains(&left), "{left}");
    assert_time(&lease["expires_at"]);
    assert_time(&lease["renewed_at"]);
    assert_eq!(status["backend"]["kind"], "file");
    assert_eq!(status["backend"]["connected"], true);
    assert_time(&status["backend"]["last_success_at"]);
    for absent in ["health", "child"] {
        assert_eq!(status.get(absent), Some(&Value::Null));
    }
    let timing = &status["timing"];
    assert_eq!(timing["ttl_ms"], 30_000);
    assert_eq!(timing["renew_every_ms"], 10_000);
    // ttl · 1.01 + 2 × call_timeout at least.
    assert!(timing["worst_case_failover_ms"].as_u64().unwrap() >= 40_300);
    assert!(!status["boot_id"].as_str().unwrap().is_empty());
    assert!(status["revision"].as_u64().unwrap() >= 1);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_time(&status["time"]);
    let expires: jiff::Timestamp = lease["expires_at"].as_str().unwrap().parse().unwrap();
    let time: jiff::Timestamp = status["time"].as_str().unwrap().parse().unwrap();
    let ahead = expires.as_millisecond() - time.as_millisecond();
    assert!(
        ahead.abs_diff(i64::try_from(left).unwrap()) <= 5,
        "{status}"
    );
}

#[test]
fn a_follower_tells_who_leads_and_no_token() {
    let pair = Pair::new(&[]);
    let leader = pair.leader.status();
    let status = pair.follower.status();
    assert_eq!(status["state"], "follower");
    assert_eq!(status["is_leader"], false);
    assert_eq!(status["id"], "second");
    assert_eq!(status["leader"]["id"], "first");
    assert_eq!(status["leader"]["url"], "http://10.0.0.7:8080");
    assert_time(&status["leader"]["since"]);
    assert_eq!(status["fence_token"], Value::Null);
    assert_eq!(status["term"], leader["fence_token"]);
    let left = status["lease"]["remaining_ms"].as_u64().unwrap();
    assert!((1..=30_000).contains(&left), "{left}");
    assert_ne!(status["boot_id"], leader["boot_id"]);
}

#[test]
fn a_node_without_its_store_is_alive_and_starting_and_not_ready() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let node = Node::start(&url, &["--ttl", "2s"]);
    let status = node.until("told of trouble", |status| {
        status["backend"]["trouble"].is_string()
    });
    assert_eq!(status["state"], "starting");
    assert_eq!(status["is_leader"], false);
    assert_eq!(status["backend"]["connected"], false);
    assert_eq!(status["backend"]["kind"], "redis");
    for unknown in ["leader", "fence_token", "term"] {
        assert_eq!(status.get(unknown), Some(&Value::Null), "{unknown}");
    }
    for unknown in ["remaining_ms", "expires_at", "renewed_at"] {
        assert_eq!(status["lease"].get(unknown), Some(&Value::Null));
    }
    assert_eq!(status["backend"]["last_success_at"], Value::Null);
    assert_eq!(node.get("/livez").status, 200);
    assert_eq!(node.get("/healthz").status, 200);
    let ready = node.get("/readyz").problem(503, "not-ready");
    let detail = ready["detail"].as_str().unwrap();
    assert!(detail.contains("not reached the store yet: "), "{detail}");
    node.get("/leader").problem(503, "not-leader");
    node.get("/follower").problem(503, "not-follower");
    let conflict = node.get("/fence-token").problem(409, "not-leader");
    assert_eq!(conflict.get("leader"), Some(&Value::Null));
    node.post("/fence-token/validate", r#"{"token":1}"#)
        .problem(503, "backend-unavailable");
    node.get("/checkpoint").problem(503, "backend-unavailable");
    let accept = [("Accept", "application/json")];
    let body = request(node.api, "GET", "/", &accept, b"").json();
    assert_eq!(body["name"], "");
}

#[test]
fn probes_do_not_ask_who_leads() {
    let pair = Pair::new(&[]);
    for node in [&pair.leader, &pair.follower] {
        for path in ["/livez", "/healthz", "/readyz"] {
            for method in ["GET", "HEAD"] {
                let reply = request(node.api, method, path, &[], b"");
                assert_eq!(reply.status, 200, "{method} {path}");
                assert_eq!(reply.header("cache-control"), Some("no-store"));
            }
        }
    }
}

#[test]
fn probes_answer_options_as_the_other_probe_routes_do() {
    let alone = Alone::new(&[]);
    for path in ["/leader", "/follower", "/livez", "/healthz", "/readyz"] {
        let get = alone.node.get(path).status;
        let options = request(alone.node.api, "OPTIONS", path, &[], b"");
        assert_eq!(options.status, get, "{path}");
    }
}

#[test]
fn a_long_poll_returns_at_the_change_and_not_before() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let revision = node.status()["revision"].as_u64().unwrap();
    let begun = Instant::now();
    let path = format!("/status?after_revision={revision}&wait=300ms");
    assert_eq!(node.get(&path).json()["revision"], revision);
    assert!(begun.elapsed() >= Duration::from_millis(300));

    let path = format!("/status?after_revision={revision}&wait=1000h");
    let api = node.api;
    let poll = std::thread::spawn(move || {
        let reply = request(api, "GET", &path, &[], b"");
        (reply.json(), Instant::now())
    });
    // Long enough for the poll to be waiting; were it not, it would return as well.
    std::thread::sleep(Duration::from_millis(100));
    assert!(!poll.is_finished());
    let stepped = Instant::now();
    node.post("/leadership/stepdown", "{}");
    let (status, woken) = poll.join().unwrap();
    assert!(status["revision"].as_u64().unwrap() > revision);
    assert_eq!(status["is_leader"], false);
    assert!(woken - stepped < Duration::from_secs(2));

    // What is already past is answered at once.
    let begun = Instant::now();
    node.get("/status?after_revision=0&wait=60s").json();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_long_poll_wakes_at_the_end_of_a_lease_that_cannot_be_renewed() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "2s"]);
    redis.pause();
    let status = node.status();
    let revision = status["revision"].as_u64().unwrap();
    let mut left = Duration::from_millis(status["lease"]["remaining_ms"].as_u64().unwrap());
    let mut begun = Instant::now();
    let mut seen = revision;
    loop {
        let path = format!("/status?after_revision={seen}&wait=30s");
        let status = node.get(&path).json();
        if status["is_leader"] == false {
            assert_eq!(status["fence_token"], Value::Null);
            let late = begun.elapsed().saturating_sub(left);
            assert!(late < Duration::from_millis(500), "{late:?} late");
            break;
        }
        // The store's trouble is an event of its own; nothing prolongs the lease.
        seen = status["revision"].as_u64().unwrap();
        left = Duration::from_millis(status["lease"]["remaining_ms"].as_u64().unwrap());
        begun = Instant::now();
        assert!(left <= Duration::from_secs(2));
    }
    node.get("/leader").problem(503, "not-leader");
    assert_eq!(node.get("/livez").status, 200);
    // The store was reached once: being away does not take a rollout down.
    assert_eq!(node.get("/readyz").status, 200);
    redis.resume();
    node.until("leads again", |status| status["is_leader"] == true);
}

#[test]
fn a_malformed_query_is_told_with_its_value() {
    let alone = Alone::new(&[]);
    for (query, named) in [
        ("after_revision=abc", "abc"),
        ("after_revision=-1", "-1"),
        ("after_revision=1.5", "1.5"),
        (
            "after_revision=99999999999999999999",
            "99999999999999999999",
        ),
        ("after_revision=", "after_revision"),
        ("after_revision=1&wait=soon", "soon"),
        ("after_revision=1&wait=5", "5"),
        ("after_revision=1&wait=-5s", "-5s"),
        ("wait=x", "x"),
        ("after_revision=1&after_revision=2", "after_revision"),
    ] {
        let problem = alone
            .node
            .get(&format!("/status?{query}"))
            .problem(400, "malformed");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(named), "{query}: {detail}");
    }
}

#[test]
fn several_elections_are_served_by_name_and_the_first_without() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--election", "orders", "--election", "mail.v2_x-1"];
    let node = Node::leading(&file_url(dir.path()), &[LONG, &flags].concat());
    node.until("leads both", |_| {
        let list = node.get("/elections").json();
        list.as_array()
            .unwrap()
            .iter()
            .all(|one| one["is_leader"] == true)
    });
    let list = node.get("/elections").json();
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["orders", "mail.v2_x-1"]);
    assert_eq!(list[0]["state"], "leader");
    assert!(list[0]["epoch"].as_u64().unwrap() > 0);
    assert_eq!(node.status()["election"], "orders");
    for name in names {
        let under = |path: &str| node.get(&format!("/elections/{name}{path}"));
        assert_eq!(under("/status").json()["election"], name);
        assert_eq!(under("/leader").status, 200);
        assert_eq!(under("/follower").status, 503);
        let token = under("/fence-token").text();
        assert_eq!(under("/status").json()["fence_token"].to_string(), token);
        under("/checkpoint").problem(404, "no-checkpoint");
        assert!(!under("/history").json().as_array().unwrap().is_empty());
        let body = format!(r#"{{"token":{token}}}"#);
        let path = format!("/elections/{name}/fence-token/validate");
        assert_eq!(node.post(&path, &body).json()["valid"], true);
    }
    // A token, a checkpoint and a step-down are one election's own.
    let path = "/elections/mail.v2_x-1/leadership/stepdown";
    assert_eq!(node.post(path, "").status, 200);
    assert_eq!(node.get("/leader").status, 200);

    let problem = node
        .get("/elections/ghost/status")
        .problem(404, "not-found");
    assert!(problem["detail"].as_str().unwrap().contains("ghost"));
    node.get("/elections/ghost").problem(404, "not-found");
    node.get("/elections/orders/livez")
        .problem(404, "not-found");
    node.get("/elections/%FF/status").problem(400, "malformed");
    assert_eq!(node.get("/elections/%6Frders/status").status, 200);
}

#[test]
fn the_root_serves_clients_of_the_leader_elector() {
    let pair = Pair::new(&[]);
    let json = [("Accept", "application/json")];
    for node in [&pair.leader, &pair.follower] {
        let body = request(node.api, "GET", "/", &json, b"").json();
        assert_eq!(body["name"], "first");
        assert!(body["state"].is_string());
    }
}

#[test]
fn history_is_newest_first_and_keeps_a_hundred() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let first = node.get("/history").json();
    let entry = first.as_array().unwrap().last().unwrap();
    assert_time(&entry["at"]);
    for member in ["from", "to", "reason", "epoch", "leader"] {
        assert!(entry.get(member).is_some(), "{member} in {entry}");
    }
    let won = first.as_array().unwrap();
    let won = won.iter().find(|entry| entry["to"] == "leader").unwrap();
    assert_eq!(won["epoch"], node.token());
    assert_eq!(won["leader"], node.status()["id"]);
    // Three transitions a round: releasing, lost, acquired.
    let end = Instant::now() + BOUND;
    while node.status()["revision"].as_u64().unwrap() < 110 {
        assert!(Instant::now() < end);
        node.until("leads", |status| status["is_leader"] == true);
        node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    }
    let list = node.get("/history").json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 100);
    let times: Vec<&str> = list.iter().map(|one| one["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older));
    let states = [
        "starting",
        "follower",
        "candidate",
        "leader",
        "stepping_down",
    ];
    for pair in list.windows(2) {
        assert_eq!(pair[1]["to"], pair[0]["from"], "a gap: {pair:#?}");
        assert!(states.contains(&pair[0]["to"].as_str().unwrap()));
    }
}

#[test]
fn each_start_has_its_own_boot_id_and_a_higher_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let flags = [LONG, &["--id", "same"]].concat();
    let mut seen: Vec<(String, u64)> = Vec::new();
    for _ in 0..3 {
        let mut node = Node::leading(&url, &flags);
        let boot = node.status()["boot_id"].as_str().unwrap().to_owned();
        let epoch = node.token();
        for (earlier, older) in &seen {
            assert_ne!(*earlier, boot);
            assert!(*older < epoch, "{seen:?} then {epoch}");
        }
        seen.push((boot, epoch));
        node.signal(rustix::process::Signal::TERM);
        assert_eq!(node.exit(), Some(0));
    }
}

#[test]
fn a_leader_is_told_in_the_same_words_each_time() {
    let alone = Alone::new(&[]);
    let first = alone.node.status()["leader"].clone();
    for _ in 0..100 {
        assert_eq!(alone.node.status()["leader"], first);
    }
}
