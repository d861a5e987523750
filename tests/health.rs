//! App health and priority: an app that is not well does not lead, and of those that are,
//! the healthiest leads first.
#![cfg(all(feature = "file", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/called_app.rs"]
mod app;
#[path = "support/http.rs"]
mod http;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
mod process;
#[path = "support/redis.rs"]
mod redis_server;

use std::time::{Duration, Instant};

use app::{Answer, App};
use process::{Node, file_url};
use redis_server::RedisServer;
use serde_json::json;

fn start(store: &str, app: &App, flags: &[&str]) -> Node {
    let url = app.url("/health");
    let own = ["--app-health", url.as_str(), "--app-health-every", "50ms"];
    Node::start(store, &[&own, flags].concat())
}

fn leads(status: &serde_json::Value) -> bool {
    status["is_leader"] == true
}

#[test]
fn unknown_is_no_candidate_and_the_first_success_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start();
    app.answers(|_| Answer::Status(503));
    let node = start(&file_url(dir.path()), &app, &["--ttl", "30s"]);
    node.until("reached the store", |status| {
        status["backend"]["connected"] == true
    });
    app.until_all("some questions", |asked| asked.get(4).cloned());
    let status = node.status();
    assert_eq!(status["state"], "candidate");
    assert_eq!(status["health"], json!({"healthy": false, "score": 0}));
    assert_eq!(app.asked()[0].line, "GET /health HTTP/1.1");
    let told = node.get("/history").text();
    assert!(!told.contains("leadership."), "it led: {told}");
    let revision = status["revision"].as_u64().unwrap();
    app.answers(|_| Answer::Status(204));
    let status = node.until("leads", leads);
    assert_eq!(status["health"], json!({"healthy": true, "score": 100}));
    // The change of health is an event of its own.
    let history = node.get("/history").json();
    let event = |entry: &&serde_json::Value| entry["event"] == "health.changed";
    let changed = history.as_array().unwrap().iter().find(event).unwrap();
    assert_eq!(changed["reason"], "healthy");
    assert_eq!(changed["revision"].as_u64(), Some(revision + 1));
}

#[test]
fn an_unhealthy_leader_steps_down_and_a_healthy_node_leads_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_url(dir.path());
    let (ill, well) = (App::start(), App::start());
    let first = start(&store, &ill, &["--ttl", "6s"]);
    first.until("leads", leads);
    let mut second = start(&store, &well, &["--ttl", "6s"]);
    second.until("follows", |status| status["state"] == "follower");
    // Two bad answers in a row are not three.
    let count = ill.asked().len();
    ill.answers(|_| Answer::Status(500));
    ill.until_all("two bad answers", |asked| asked.get(count + 2).cloned());
    let begun = Instant::now();
    second.until("leads", leads);
    assert!(begun.elapsed() < Duration::from_secs(3));
    let history = first.get("/history").json();
    let releasing = history.as_array().unwrap().iter();
    let mut releasing = releasing.filter(|entry| entry["event"] == "leadership.releasing");
    assert_eq!(releasing.next().unwrap()["reason"], "unhealthy");
    // Well again, it is a candidate again.
    ill.answers(|_| Answer::Status(200));
    first.until("is well", |status| status["health"]["healthy"] == true);
    // Its cooldown of a TTL makes it wait for two calls at most, nobody else being there.
    second.signal(rustix::process::Signal::TERM);
    assert_eq!(second.exit(), Some(0));
    first.until("leads again", leads);
}

/// A load balancer sends readers where `/follower` is 200.
#[test]
fn a_follower_whose_app_is_unhealthy_is_no_follower_to_a_load_balancer() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_url(dir.path());
    let _leader = Node::leading(&store, &["--ttl", "30s"]);
    let app = App::start();
    let node = start(&store, &app, &["--ttl", "30s"]);
    let well = |status: &serde_json::Value| status["health"]["healthy"] == true;
    node.until("follows", |status| {
        status["state"] == "follower" && well(status)
    });
    assert_eq!(node.get("/follower").status, 200);
    app.answers(|_| Answer::Status(503));
    let status = node.until("is unhealthy", |status| !well(status));
    assert_eq!(status["state"], "follower");
    let problem = node.get("/follower").problem(503, "not-follower");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("unhealthy"), "{detail}");
    app.answers(|_| Answer::Status(200));
    node.until("is well again", well);
    assert_eq!(node.get("/follower").status, 200);
}

#[test]
fn a_hanging_app_and_an_absent_one_are_unhealthy_and_delay_no_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_url(dir.path());
    let app = App::start();
    let node = start(&store, &app, &["--ttl", "30s"]);
    node.until("leads", leads);
    app.answers(|_| Answer::Never);
    node.until("gave leadership up", |status| status["is_leader"] == false);
    assert_eq!(node.status()["health"]["healthy"], false);
    app.answers(|_| Answer::Status(200));
    node.until("leads again", leads);
    drop(app);
    node.until("gave leadership up", |status| status["is_leader"] == false);
}

#[test]
fn the_healthiest_candidate_leads_first_after_a_release() {
    let redis = RedisServer::start();
    let app = |score: u32| {
        let app = App::start();
        app.answers(move |_| Answer::Body(json!({ "score": score }).to_string()));
        app
    };
    // A call may take a second: the delays are 0, 300 and 800 ms.
    let flags = ["--ttl", "6s"];
    let scores = [20, 100, 70];
    let apps: Vec<App> = scores.into_iter().map(app).collect();
    let mut nodes = Vec::new();
    let first = Node::leading(&redis.url(), &flags);
    for (app, score) in apps.iter().zip(scores) {
        let node = start(&redis.url(), app, &flags);
        let health = json!({"healthy": true, "score": score});
        node.until("is well", |status| status["health"] == health);
        node.until("follows", |status| status["state"] == "follower");
        nodes.push(node);
    }
    let hands_over = |old: &Node, next: &Node| {
        let stepped = old.post("/leadership/stepdown", r#"{"cooldown_ms":60000}"#);
        assert_eq!(stepped.status, 200, "{}", stepped.text());
        next.until("leads next", leads);
        let took = told_at(next, "leadership.acquired")
            .duration_since(told_at(old, "leadership.releasing"));
        println!("the next one leads after {took:?}");
        took
    };
    // Each moment is told in whole milliseconds.
    let delays = |ms: i64| jiff::SignedDuration::from_millis(ms - 2);
    hands_over(&first, &nodes[1]);
    let took = hands_over(&nodes[1], &nodes[2]);
    assert!(took >= delays(300), "{took:?}");
    let took = hands_over(&nodes[2], &nodes[0]);
    assert!(took >= delays(800), "{took:?}");
}

/// When that last happened to a node, as it says itself: the test may hear of it later.
fn told_at(node: &Node, event: &str) -> jiff::Timestamp {
    let history = node.get("/history").json();
    let mut newest_first = history.as_array().unwrap().iter();
    let entry = newest_first.find(|entry| entry["event"] == event).unwrap();
    entry["at"].as_str().unwrap().parse().unwrap()
}

#[test]
fn priority_decides_after_a_crash_too() {
    let redis = RedisServer::start();
    let flags = ["--ttl", "2s"];
    for _ in 0..3 {
        let first = Node::leading(&redis.url(), &flags);
        let low = Node::following(&redis.url(), &[&flags[..], &["--priority", "40"]].concat());
        let high = Node::following(&redis.url(), &flags);
        drop(first);
        high.until("leads", leads);
        assert_eq!(low.status()["is_leader"], false);
    }
}

/// The longest campaign delay is one call, and a lone candidate waits no longer.
#[test]
fn the_last_of_all_leads_where_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let flags = ["--ttl", "6s", "--priority", "0"];
    let node = Node::leading(&file_url(dir.path()), &flags);
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    let worst = |node: &Node| node.status()["timing"]["worst_case_failover_ms"].as_u64();
    let other = Node::start(&file_url(dir.path()), &["--ttl", "6s"]);
    assert_eq!(worst(&node), worst(&other).map(|worst| worst + 1_000));
    let app = App::start();
    let scored = start(&file_url(dir.path()), &app, &["--ttl", "6s"]);
    assert_eq!(worst(&scored), worst(&node));
}
