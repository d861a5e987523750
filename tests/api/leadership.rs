//! `/leader`, `/follower` and stepping down.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Reply, request};
use super::process::{Node, file_url};
use super::redis_server::RedisServer;
use super::{Alone, Pair};

const ASKING: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

#[test]
fn the_leader_says_yes_to_every_asking_method() {
    let pair = Pair::new(&[]);
    let epoch = pair.leader.token().to_string();
    for method in ASKING {
        let reply = request(pair.leader.api, method, "/leader", &[], b"");
        assert_eq!(reply.status, 200, "{method}");
        assert_eq!(reply.header("tenure-leader"), Some("first"));
        assert_eq!(
            reply.header("tenure-leader-url"),
            Some("http://10.0.0.7:8080")
        );
        assert_eq!(reply.header("tenure-epoch"), Some(epoch.as_str()));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let left: u64 = remaining(&reply).unwrap();
        assert!((10_000..30_000).contains(&left));
        if method == "HEAD" {
            assert!(reply.body.is_empty());
        }
        let reply = request(pair.leader.api, method, "/follower", &[], b"");
        assert_eq!(reply.status, 503, "{method}");
        assert_eq!(reply.header("tenure-leader"), Some("first"));
    }
}

#[test]
fn a_follower_says_no_and_who_leads() {
    let pair = Pair::new(&[]);
    let epoch = pair.leader.token().to_string();
    for (path, status) in [("/leader", 503), ("/follower", 200)] {
        for method in ASKING {
            let reply = request(pair.follower.api, method, path, &[], b"");
            assert_eq!(reply.status, status, "{method} {path}");
            assert_eq!(reply.header("tenure-leader"), Some("first"));
            assert_eq!(
                reply.header("tenure-leader-url"),
                Some("http://10.0.0.7:8080")
            );
            assert_eq!(reply.header("tenure-epoch"), Some(epoch.as_str()));
            assert_eq!(remaining(&reply), None);
        }
    }
    pair.follower.get("/leader").problem(503, "not-leader");
    pair.leader.get("/follower").problem(503, "not-follower");
}

fn remaining(reply: &Reply) -> Option<u64> {
    let header = reply.header("tenure-lease-remaining-ms")?;
    Some(header.parse().unwrap())
}

#[test]
fn min_remaining_asks_for_a_rest_of_the_lease() {
    let pair = Pair::new(&[]);
    let ask = |node: &Node, least: &str| node.get(&format!("/leader?min_remaining={least}"));
    for least in ["0s", "3s", "10s", "1500ms"] {
        assert_eq!(ask(&pair.leader, least).status, 200, "{least}");
    }
    for least in ["30s", "1h", "100years"] {
        let reply = ask(&pair.leader, least);
        reply.problem(503, "not-leader");
        // Who leads and for how long is told all the same.
        assert_eq!(reply.header("tenure-leader"), Some("first"));
        assert!(remaining(&reply).unwrap() > 10_000);
    }
    assert_eq!(ask(&pair.follower, "0s").status, 503);
    for wrong in ["3", "", "abc", "-3s", "1e3s", "3s&min_remaining=4s"] {
        ask(&pair.leader, wrong).problem(400, "malformed");
    }
}

#[test]
fn a_step_down_hands_over_and_says_so() {
    let pair = Pair::new(&[]);
    let epoch = pair.leader.token();
    let body = r#"{"reason":"deploy","cooldown_ms":10000,"wait_ms":10000,"to":"second"}"#;
    let answer = pair.leader.post("/leadership/stepdown", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["released"], true);
    assert_eq!(answer["fence_token"], epoch);
    assert!(answer.get("leader").is_some());
    let status = pair
        .follower
        .until("leads", |status| status["is_leader"] == true);
    assert!(status["fence_token"].as_u64().unwrap() > epoch);
    // The old leader knows the new one at once, though it campaigns last for 10 s.
    let begun = Instant::now();
    let status = pair
        .leader
        .until("follows", |status| status["state"] == "follower");
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(status["leader"]["id"], "second");
    let refused = pair.leader.post("/leadership/stepdown", "");
    let refused = refused.problem(409, "not-leader");
    assert_eq!(refused["leader"]["id"], "second");
    assert_eq!(refused["leader"]["url"], "http://10.0.0.8:8080");
    // The reason is for the log.
    pair.leader
        .err
        .until("the reason", |line| line.contains("deploy"));
}

/// Whoever may step a leader down may yet not write the log's lines, nor speak to the
/// terminal of whoever reads it.
#[test]
fn a_reason_stays_one_short_line_of_the_log() {
    let alone = Alone::new(&[]);
    let long = "x".repeat(50_000);
    let reason = format!("it can't\n2026-01-01T00:00:00Z ERROR forged \u{1b}[31m red {long}");
    let body = serde_json::json!({ "reason": reason }).to_string();
    assert_eq!(alone.node.post("/leadership/stepdown", &body).status, 200);
    let told = "reason=\"it can't\\n2026-01-01T00:00:00Z ERROR forged \\u{1b}[31m red xxx";
    let err = &alone.node.err;
    let line = err.until("the reason", |line| line.contains("can't"));
    assert!(line.contains(told), "{line}");
    assert!(line.len() < 500, "{line}");
    let all = err.all();
    let forged = |line: &String| line.starts_with("2026-01-01") || line.contains('\u{1b}');
    assert!(!all.iter().any(forged), "{all:#?}");
}

#[test]
fn in_its_cooldown_a_node_leaves_the_lease_to_others_at_first() {
    let alone = Alone::new(&["--call-timeout", "1s"]);
    let node = &alone.node;
    let begun = Instant::now();
    let reply = node.post("/leadership/stepdown", r#"{"cooldown_ms":60000}"#);
    assert_eq!(reply.status, 200);
    node.get("/leader").problem(503, "not-leader");
    // It campaigns last: two call timeouts after the lease is free, not never.
    node.until("leads again", |status| status["is_leader"] == true);
    let away = begun.elapsed();
    assert!(away >= Duration::from_millis(1990), "{away:?}");

    let begun = Instant::now();
    node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    node.until("leads again", |status| status["is_leader"] == true);
    assert!(begun.elapsed() < Duration::from_millis(1500));
}

#[test]
fn the_candidate_named_tries_first() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let flags = |id| ["--ttl", "30s", "--call-timeout", "2s", "--id", id];
    let leader = Node::leading(&url, &flags("a"));
    let others: Vec<Node> = ["b", "c", "d"]
        .iter()
        .map(|id| Node::following(&url, &flags(id)))
        .collect();
    let answer = leader.post("/leadership/stepdown", r#"{"to":"c"}"#);
    assert_eq!(answer.status, 200);
    let status = others[0].until("knows the next leader", |status| {
        status["leader"]["id"].is_string() && status["leader"]["id"] != "a"
    });
    assert_eq!(status["leader"]["id"], "c");
}

/// The others wait for it in vain, and who gave leadership up waits for them.
#[test]
fn where_the_candidate_named_is_not_there_the_others_still_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let flags = |id| ["--ttl", "30s", "--call-timeout", "500ms", "--id", id];
    let mut others = vec![Node::leading(&url, &flags("a"))];
    for id in ["b", "c", "d"] {
        others.push(Node::following(&url, &flags(id)));
    }
    let at = |nodes: &[Node], id: &str| {
        let mut nodes = nodes.iter();
        nodes.position(|node| node.status()["id"] == id)
    };
    // Who has left once is among the last, too: each leader is one that never left.
    let mut gone = Vec::new();
    let mut leader = "a".to_owned();
    for _ in 0..3 {
        let leaves = others.remove(at(&others, &leader).expect("it never left"));
        leaves.until("leads", |status| status["is_leader"] == true);
        let answer = leaves.post("/leadership/stepdown", r#"{"to":"nobody"}"#);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let status = leaves.until("knows the next leader", |status| {
            status["leader"]["id"].is_string()
        });
        leader = status["leader"]["id"].as_str().unwrap().to_owned();
        gone.push(leaves);
    }
    let last = others.remove(at(&others, &leader).expect("it never left"));
    assert!(others.is_empty());
    // Alone it does not wait for ever.
    drop(gone);
    last.until("leads", |status| status["is_leader"] == true);
    let answer = last.post("/leadership/stepdown", r#"{"to":"nobody"}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    last.until("leads again", |status| status["is_leader"] == true);
}

#[test]
fn who_gives_leadership_up_cannot_be_named_to_go_first() {
    let pair = Pair::new(&[]);
    let refused = pair
        .leader
        .post("/leadership/stepdown", r#"{"to":"first"}"#);
    let refused = refused.problem(400, "malformed");
    assert!(refused["detail"].as_str().unwrap().contains("first"));
    assert_eq!(pair.leader.status()["is_leader"], true);
    let follower = pair
        .follower
        .post("/leadership/stepdown", r#"{"to":"second"}"#);
    follower.problem(409, "not-leader");
}

#[test]
fn extreme_numbers_are_taken_for_what_they_are() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let body = r#"{"cooldown_ms":18446744073709551615,"wait_ms":18446744073709551615}"#;
    assert_eq!(node.post("/leadership/stepdown", body).status, 200);
    node.until("campaigns", |status| status["is_leader"] == false);
}

#[test]
fn a_step_down_without_a_body_needs_no_type() {
    let alone = Alone::new(&[]);
    let reply = request(alone.node.api, "POST", "/leadership/stepdown", &[], b"");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn a_wrong_step_down_changes_nothing() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let before = node.status()["revision"].clone();
    for body in [
        "{",
        "[]",
        r#"["deploy",1,1,null]"#,
        "null",
        "5",
        r#""deploy""#,
        r#"{"raeson":"typo"}"#,
        r#"{"cooldown_ms":-1}"#,
        r#"{"cooldown_ms":1.5}"#,
        r#"{"cooldown_ms":"10s"}"#,
        r#"{"wait_ms":18446744073709551616}"#,
        r#"{"to":""}"#,
        r#"{"to":"a\nb"}"#,
        r#"{"to":5}"#,
        r#"{"reason":1}"#,
        r#"{"to":"b","to":"c"}"#,
        "{} {}",
        "\u{feff}{}",
    ] {
        let reply = node.post("/leadership/stepdown", body);
        assert_eq!(reply.status, 400, "{body} gave {}", reply.text());
        reply.problem(400, "malformed");
    }
    let form: &[(&str, &str)] = &[("Content-Type", "application/x-www-form-urlencoded")];
    for kinds in [form, &[], &[("Content-Type", "text/plain")]] {
        let body = br#"{"reason":"x"}"#;
        request(node.api, "POST", "/leadership/stepdown", kinds, body)
            .problem(415, "unsupported-media-type");
    }
    let status = node.status();
    assert_eq!(status["is_leader"], true);
    assert_eq!(status["revision"], before);
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        let kind = [("Content-Type", kind)];
        let body = br#"{"cooldown_ms":0}"#;
        let reply = request(node.api, "POST", "/leadership/stepdown", &kind, body);
        assert_eq!(reply.status, 200, "{kind:?}");
        node.until("leads", |status| status["is_leader"] == true);
    }
}

#[test]
fn where_the_store_hangs_leadership_is_dropped_first_and_the_rest_told() {
    let redis = RedisServer::start();
    let flags = ["--ttl", "6s", "--call-timeout", "500ms"];
    let node = Node::leading(&redis.url(), &flags);
    redis.pause();
    let begun = Instant::now();
    let reply = node.post("/leadership/stepdown", r#"{"wait_ms":50}"#);
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let body = reply.json();
    assert_eq!(body["released"], false);
    assert_eq!(body["state"], "stepping_down");
    let status = node.status();
    assert_eq!(status["state"], "stepping_down");
    assert_eq!(status["is_leader"], false);
    assert_eq!(status["fence_token"], Value::Null);
    node.get("/leader").problem(503, "not-leader");
    node.get("/fence-token").problem(409, "not-leader");
    node.get("/follower").problem(503, "not-follower");
    assert!(begun.elapsed() < Duration::from_secs(3));
    // Asked again meanwhile, it has nothing to give up.
    node.post("/leadership/stepdown", "{}")
        .problem(409, "not-leader");
    let status = node.until("gave up", |status| status["state"] != "stepping_down");
    assert_eq!(status["is_leader"], false);
}

#[test]
fn a_release_that_never_arrived_says_when_the_lease_frees_itself() {
    let redis = RedisServer::start();
    let flags = ["--ttl", "20s", "--call-timeout", "200ms"];
    let node = Node::leading(&redis.url(), &flags);
    redis.pause();
    std::thread::sleep(Duration::from_millis(1200));
    let reply = node.post("/leadership/stepdown", r#"{"wait_ms":15000}"#);
    let problem = reply.problem(503, "backend-unavailable");
    let left = problem["remaining_ms"].as_u64().unwrap();
    // A second and more of the 20 have passed since the last renewal.
    assert!((1..19_000).contains(&left), "{left}");
    assert_eq!(node.status()["is_leader"], false);
}

#[test]
fn two_with_one_id_never_both_lead_and_the_second_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let flags = ["--ttl", "30s", "--id", "twin"];
    let first = Node::leading(&url, &flags);
    let second = Node::following(&url, &flags);
    second.err.until("a warning", |line| {
        line.contains("WARN") && line.contains("twin") && line.contains("--id")
    });
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        // Asked in this order, a yes after a yes would be two leaders.
        let one = first.get("/leader").status == 200;
        let two = second.get("/leader").status == 200;
        assert!(one && !two);
    }
}
