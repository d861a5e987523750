//! `/fence-token` and its validation.

use serde_json::{Value, json};

use super::process::{Node, file_url};
use super::redis_server::RedisServer;
use super::{Alone, LONG, Pair};

const VALIDATE: &str = "/fence-token/validate";

#[test]
fn the_token_is_plain_text_for_the_leader_and_a_conflict_for_others() {
    let pair = Pair::new(&[]);
    let reply = pair.leader.get("/fence-token");
    assert_eq!(reply.status, 200);
    let kind = reply.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.text(), pair.leader.token().to_string());
    let refused = pair.follower.get("/fence-token").problem(409, "not-leader");
    assert_eq!(refused["leader"]["id"], "first");
}

#[test]
fn every_node_judges_tokens_by_the_store() {
    let pair = Pair::new(&[]);
    let token = pair.leader.token();
    for node in [&pair.leader, &pair.follower] {
        for (body, valid, reason) in [
            (json!({"token": token}), true, "current"),
            (json!({"token": token.to_string()}), true, "current"),
            (json!({"token": token - 1}), false, "stale"),
            (json!({"token": 1}), false, "stale"),
            (json!({"token": token + 1}), false, "unknown"),
            (json!({"token": (1_u64 << 53) - 1}), false, "unknown"),
        ] {
            let reply = node.post(VALIDATE, &body.to_string());
            assert_eq!(reply.status, 200, "{body}");
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            let answer = reply.json();
            assert_eq!(answer["valid"], valid, "{body}");
            assert_eq!(answer["reason"], reason, "{body}");
            assert_eq!(answer["current_token"], token);
            let at = answer["checked_at"].as_str().unwrap();
            assert!(at.parse::<jiff::Timestamp>().is_ok(), "{at}");
            // With ?strict=true what is not valid is an error, for curl -f.
            let strict = node.post("/fence-token/validate?strict=true", &body.to_string());
            if valid {
                assert_eq!(strict.json()["valid"], true);
            } else {
                let problem = strict.problem(409, "fence-token-invalid");
                assert_eq!(problem["reason"], reason);
                assert_eq!(problem["current_token"], token);
            }
        }
    }
}

#[test]
fn the_newest_token_without_a_lease_is_no_leader_and_one_before_any_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let flags = [LONG, &["--call-timeout", "4s"]].concat();
    let node = Node::leading(&url, &flags);
    let token = node.token();
    // In its cooldown it does not take the lease back at once.
    assert_eq!(node.post("/leadership/stepdown", "").status, 200);
    let answer = node
        .post(VALIDATE, &format!(r#"{{"token":{token}}}"#))
        .json();
    assert_eq!(answer["valid"], false);
    assert_eq!(answer["reason"], "no_leader");
    let older = node.post(VALIDATE, &format!(r#"{{"token":{}}}"#, token - 1));
    assert_eq!(older.json()["reason"], "stale");
}

#[test]
fn a_stale_token_is_told_apart_after_a_handover() {
    let pair = Pair::new(&[]);
    let old = pair.leader.token();
    let answer = pair
        .leader
        .post("/leadership/stepdown", r#"{"to":"second"}"#);
    assert_eq!(answer.status, 200);
    pair.follower
        .until("leads", |status| status["is_leader"] == true);
    let new = pair.follower.token();
    for node in [&pair.leader, &pair.follower] {
        let answer = node.post(VALIDATE, &format!(r#"{{"token":{old}}}"#)).json();
        assert_eq!(answer["reason"], "stale");
        assert_eq!(answer["current_token"], new);
    }
}

#[test]
fn what_is_no_token_is_refused_by_its_value() {
    let alone = Alone::new(&[]);
    for token in [
        "0",
        "-1",
        "1.5",
        "1e3",
        "1.0",
        "9007199254740992",
        "18446744073709551616",
        "1e400",
        "\"0\"",
        "\"-1\"",
        "\"+1\"",
        "\" 1\"",
        "\"1.5\"",
        "\"0x10\"",
        "\"abc\"",
        "\"\"",
        "\"9007199254740992\"",
        "\"99999999999999999999999999\"",
        "null",
        "true",
        "[]",
        "[42]",
        "{}",
        "\"\u{0661}\"",
    ] {
        let body = format!(r#"{{"token":{token}}}"#);
        let reply = alone.node.post(VALIDATE, &body);
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        let problem = reply.problem(400, "malformed");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.len() < 400, "{detail}");
    }
    let huge = format!(r#"{{"token":"{}"}}"#, "9".repeat(60_000));
    let problem = alone.node.post(VALIDATE, &huge).problem(400, "malformed");
    assert!(problem["detail"].as_str().unwrap().len() < 400);
    for body in [
        "",
        "{}",
        "[42]",
        "42",
        "null",
        "{",
        r#"{"token":1,"token":2}"#,
    ] {
        alone.node.post(VALIDATE, body).problem(400, "malformed");
    }
    let depth = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    alone.node.post(VALIDATE, &depth).problem(400, "malformed");
    let query = "/fence-token/validate?strict=maybe";
    alone
        .node
        .post(query, r#"{"token":1}"#)
        .problem(400, "malformed");
}

#[test]
fn without_the_store_nothing_is_valid() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "9s", "--call-timeout", "300ms"]);
    let body = format!(r#"{{"token":{}}}"#, node.token());
    assert_eq!(node.post(VALIDATE, &body).json()["valid"], true);
    redis.pause();
    // It still leads, and does not answer from that.
    assert_eq!(node.status()["is_leader"], true);
    node.post(VALIDATE, &body)
        .problem(503, "backend-unavailable");
    let strict = node.post("/fence-token/validate?strict=true", &body);
    strict.problem(503, "backend-unavailable");
    redis.resume();
}

#[test]
fn an_epoch_that_was_ever_seen_stays_the_measure() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "9s"]);
    let token = node.token();
    redis.command(&["FLUSHALL"]);
    let body = format!(r#"{{"token":{}}}"#, token - 1);
    let answer = node.post(VALIDATE, &body).json();
    assert_eq!(answer["reason"], "stale");
    assert_ne!(answer["current_token"], Value::Null);
    assert!(answer["current_token"].as_u64().unwrap() >= token);
}
