//! What is told, and in which order.

use std::time::Duration;

use super::app::{Answer, App};
use super::leader;
use super::process::{Node, file_url};
use super::redis_server::RedisServer;

#[test]
fn the_app_is_told_the_state_of_the_moment() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start();
    let url = app.url("/hook?who=me");
    let flags = ["--ttl", "30s", "--election", "orders", "--hook", &url];
    let node = Node::leading(&file_url(dir.path()), &flags);
    let asked = app.until_kind("leadership.acquired");
    assert_eq!(asked.line, "POST /hook?who=me HTTP/1.1");
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let host = app.address.to_string();
    assert_eq!(asked.header("host"), Some(host.as_str()));
    assert_eq!(asked.header("webhook-signature"), None);
    let (told, status) = (asked.json(), node.status());
    let at: Vec<String> = told.as_object().unwrap().keys().cloned().collect();
    assert_eq!(at, ["data", "timestamp", "type"]);
    for member in ["election", "id", "is_leader", "fence_token", "boot_id"] {
        assert_eq!(told["data"][member], status[member], "{member}");
    }
    assert_eq!(told["data"]["state"], "leader");
    assert!(told["data"]["lease"]["remaining_ms"].as_u64() > Some(0));
    let history = node.get("/history").json();
    let won = history.as_array().unwrap().iter();
    let won = won
        .rev()
        .find(|entry| entry["event"] == "leadership.acquired");
    assert_eq!(told["timestamp"], won.unwrap()["at"]);
}

#[test]
fn followers_and_store_trouble_are_told_too() {
    let redis = RedisServer::start();
    let first = Node::leading(&redis.url(), &["--ttl", "2s"]);
    let app = App::start();
    let url = app.url("/");
    let flags = ["--ttl", "2s", "--hook", &url];
    let _second = Node::following(&redis.url(), &flags);
    let seen = app.until_kind("leader.changed").json();
    assert_eq!(seen["data"]["state"], "follower");
    assert_eq!(seen["data"]["fence_token"], serde_json::Value::Null);
    assert_eq!(seen["data"]["leader"]["id"], first.status()["id"]);
    redis.pause();
    let down = app.until_kind("backend.down").json();
    assert_eq!(down["data"]["backend"]["connected"], false);
    assert!(!app.delivered().iter().any(|kind| kind == "leadership.lost"));
}

#[test]
fn a_tenure_is_told_from_its_beginning_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start();
    let mut node = leader(&file_url(dir.path()), &app, &["--ttl", "30s"]);
    app.until_delivered("leadership.acquired");
    node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    node.until("leads again", |status| status["is_leader"] == true);
    // The last word is waited for.
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    let told: Vec<String> = app
        .delivered()
        .into_iter()
        .filter(|kind| kind.starts_with("leadership."))
        .collect();
    let ends = ["leadership.releasing", "leadership.lost"];
    assert_eq!(
        told.first().map(String::as_str),
        Some("leadership.acquired")
    );
    assert_eq!(told[told.len() - 2..], ends, "{told:?}");
    // Between the tenures the loss may be overtaken by the win: the newest state counts.
    assert_eq!(told[1], "leadership.releasing");
    assert!(
        told[2..].contains(&"leadership.acquired".to_owned()),
        "{told:?}"
    );
    // In order: revisions never fall.
    let revisions: Vec<u64> = app
        .asked()
        .iter()
        .map(|asked| asked.json()["data"]["revision"].as_u64().unwrap())
        .collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
}

#[test]
fn a_newer_state_aborts_one_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start();
    app.answers(|asked| match asked.kind().as_str() {
        "leadership.acquired" => Answer::Never,
        _ => Answer::Status(200),
    });
    // A call would be waited for, for a minute.
    let flags = ["--ttl", "30s", "--hook-timeout", "1m"];
    let node = leader(&file_url(dir.path()), &app, &flags);
    let hung = app.until_kind("leadership.acquired");
    node.post("/leadership/stepdown", r#"{"cooldown_ms":60000}"#);
    let next = app.until_kind("leadership.releasing");
    assert_eq!(next.json()["data"]["is_leader"], false);
    assert!(next.at.duration_since(hung.at) < Duration::from_secs(10));
    app.until("the end of the call that hung", |asked| {
        asked.kind() == "leadership.acquired" && asked.given_up
    });
}

#[test]
fn several_elections_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start();
    let flags = ["--ttl", "30s", "--election", "a.b", "--election", "c"];
    let _node = leader(&file_url(dir.path()), &app, &flags);
    let mut ids = Vec::new();
    for election in ["a.b", "c"] {
        let asked = app.until(election, |asked| {
            let told = asked.json();
            told["type"] == "leadership.acquired" && told["data"]["election"] == election
        });
        let id = asked.header("webhook-id").unwrap().to_owned();
        // A dot would leave open where the id ends in what is signed.
        assert!(!id.contains('.'), "{id}");
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_lost_lease_is_told_at_the_deadline_by_the_clock_alone() {
    let redis = RedisServer::start();
    let app = App::start();
    let node = leader(&redis.url(), &app, &["--ttl", "6s"]);
    app.until_delivered("leadership.acquired");
    redis.pause();
    let mut deadline = None;
    let lost = loop {
        let (status, now) = (node.status(), std::time::Instant::now());
        if status["is_leader"] == true {
            let left = status["lease"]["remaining_ms"].as_u64().unwrap();
            deadline = Some(now + Duration::from_millis(left + 1));
        } else {
            break app.until_kind("leadership.lost");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let late = lost.at.saturating_duration_since(deadline.unwrap());
    println!("told {late:?} after leads_until");
    // A quarter of the TTL is kept for the app to stop: 1.5 s before another can lead.
    assert!(late < Duration::from_millis(750), "{late:?}");
    let told = lost.json();
    assert_eq!(told["data"]["is_leader"], false);
    assert_eq!(told["data"]["fence_token"], serde_json::Value::Null);
}
