//! A sidecar's life: its first words, its logs, its signals, its end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::LONG;
use super::http::request;
use super::ports::free_port;
use super::process::{BOUND, Killed, Node, file_url, finish, send, tenure};
use super::redis_server::RedisServer;

#[test]
fn the_first_words_say_what_a_user_asks_first() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let node = Node::start(&url, &["--election", "orders", "--id", "orders-0"]);
    let told = node.out.all().join("\n");
    for word in [
        "orders",
        "orders-0",
        url.as_str(),
        "guarantees",
        &node.url(),
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn without_flags_it_leads_in_the_users_state_directory() {
    let home = tempfile::tempdir().unwrap();
    let mut command = tenure();
    command
        .args(["run", "--listen", "127.0.0.1:0"])
        .env("HOME", home.path());
    command.env_remove("XDG_STATE_HOME");
    let node = Node::spawn(&mut command);
    let status = node.until("leads", |status| status["is_leader"] == true);
    let dir = home.path().join(".local/state/tenure");
    assert!(dir.is_dir());
    node.out
        .until("the directory", |line| line.contains(dir.to_str().unwrap()));
    // host:port of the API.
    let port = format!(":{}", node.api.port());
    assert!(status["id"].as_str().unwrap().ends_with(&port), "{status}");
}

#[test]
fn sigterm_gives_the_lease_back_and_exits_with_zero() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let url = file_url(dir.path());
        let mut first = Node::leading(&url, LONG);
        let second = Node::following(&url, LONG);
        let epoch = first.token();
        let begun = Instant::now();
        first.signal(signal);
        let status = second.until("leads", |status| status["is_leader"] == true);
        // At once, not at the end of a lease of 30 s.
        assert!(begun.elapsed() < Duration::from_secs(3));
        assert!(status["fence_token"].as_u64().unwrap() > epoch);
        assert_eq!(first.exit(), Some(0));
    }
}

#[test]
fn sigterm_while_the_store_is_away_exits_with_zero_all_the_same() {
    let mut node = Node::start(
        &format!("redis://127.0.0.1:{}", free_port()),
        &["--ttl", "3s"],
    );
    node.until("told of trouble", |status| {
        status["backend"]["trouble"].is_string()
    });
    let begun = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn while_stopping_it_says_so_and_a_second_signal_aborts() {
    let redis = RedisServer::start();
    let flags = ["--ttl", "60s", "--call-timeout", "8s"];
    let mut node = Node::leading(&redis.url(), &flags);
    redis.pause();
    node.signal(Signal::TERM);
    let status = node.until("stops", |status| status["is_leader"] == false);
    assert!(["stepping_down", "stopping"].contains(&status["state"].as_str().unwrap()));
    node.get("/leader").problem(503, "not-leader");
    node.get("/readyz").problem(503, "not-ready");
    assert_eq!(node.get("/livez").status, 200);
    assert!(node.runs());
    let begun = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(128 + 15));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_graceful_stop_ends_though_the_store_hangs() {
    let redis = RedisServer::start();
    let mut node = Node::leading(&redis.url(), &["--ttl", "60s", "--call-timeout", "9s"]);
    redis.pause();
    let begun = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    // Within the drain, of which there is none, and ten seconds.
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn leadership_not_had_in_time_is_75() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let _leader = Node::leading(&url, LONG);
    let mut waiting = Node::start(&url, &["--ttl", "30s", "--wait", "300ms"]);
    assert_eq!(waiting.exit(), Some(75));
    waiting
        .err
        .until("the reason", |line| line.contains("--wait 300ms"));
    // Nor is a store that is away anything else.
    let url = format!("redis://127.0.0.1:{}", free_port());
    let mut waiting = Node::start(&url, &["--ttl", "3s", "--wait", "300ms"]);
    assert_eq!(waiting.exit(), Some(75));
}

#[test]
fn once_had_the_wait_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [LONG, &["--wait", "1s", "--once"]].concat();
    let mut node = Node::leading(&file_url(dir.path()), &flags);
    std::thread::sleep(Duration::from_millis(1300));
    assert!(node.runs());
    assert_eq!(node.status()["is_leader"], true);
    // And --once ends with the leadership.
    node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    assert_eq!(node.exit(), Some(0));
}

#[test]
fn status_lines_come_at_their_interval_without_signs_off_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [LONG, &["--status-every", "50ms", "--election", "orders"]].concat();
    let node = Node::leading(&file_url(dir.path()), &flags);
    let token = node.token().to_string();
    let line = node.out.until("a status", |line| {
        line.contains("orders") && line.contains("leader") && line.contains(&token)
    });
    assert!(line.is_ascii(), "{line}");
    let count = || {
        node.out
            .all()
            .iter()
            .filter(|line| line.contains(&token))
            .count()
    };
    let before = count();
    let end = Instant::now() + super::process::BOUND;
    while count() < before + 3 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn in_json_every_line_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let flags = [
        "--log-format",
        "json",
        "--log-level",
        "debug",
        "--status-every",
        "50ms",
    ];
    let mut node = Node::leading(&url, &[LONG, &flags].concat());
    let token = node.token();
    node.out.until("a status", |line| {
        line.contains("fence_token") && line.contains(&token.to_string())
    });
    let late = ["--ttl", "30s", "--log-format", "json", "--wait", "100ms"];
    let mut waiting = Node::start(&url, &late);
    assert_eq!(waiting.exit(), Some(75));
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    for node in [&node, &waiting] {
        for line in [node.out.all(), node.err.all()].concat() {
            let parsed: Result<Value, _> = serde_json::from_str(&line);
            assert!(parsed.is_ok_and(|value| value.is_object()), "{line}");
        }
    }
    let logs = node.err.all();
    let leading: Vec<Value> = logs
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["message"] == "leading")
        .collect();
    assert_eq!(leading[0]["level"], "INFO");
    assert_eq!(leading[0]["epoch"], token);
    assert_eq!(leading[0]["election"], "default");
}

#[test]
fn logs_are_on_stderr_at_their_level() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::leading(&file_url(dir.path()), &["--log-level", "off"]);
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    assert_eq!(node.err.all(), Vec::<String>::new());
    assert!(!node.out.all().iter().any(|line| line.contains("INFO")));
}

#[test]
fn a_reader_of_the_output_may_go_away() {
    let dir = tempfile::tempdir().unwrap();
    let api: std::net::SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let listen = api.to_string();
    let mut command = tenure();
    command.args(["run", "--listen", &listen, "--status-every", "10ms"]);
    command
        .args(LONG)
        .args(["--backend", &file_url(dir.path())]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = super::process::Killed(command.spawn().unwrap());
    let first = leads_above(api, 0);
    drop(child.0.stdout.take());
    drop(child.0.stderr.take());
    // What happens then is told in lines that nobody takes.
    let kind = [("Content-Type", "application/json")];
    let body = br#"{"cooldown_ms":0}"#;
    let answer = request(api, "POST", "/leadership/stepdown", &kind, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    leads_above(api, first);
    assert!(
        child.0.try_wait().unwrap().is_none(),
        "it went with its reader"
    );
    super::process::send(child.0.id(), Signal::TERM);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

/// Waits until the sidecar there, which may not listen yet, leads under a later token.
fn leads_above(api: std::net::SocketAddr, token: u64) -> u64 {
    let end = Instant::now() + BOUND;
    loop {
        if std::net::TcpStream::connect(api).is_ok() {
            let status = request(api, "GET", "/status", &[], b"").json();
            if let Some(own) = status["fence_token"].as_u64().filter(|own| *own > token) {
                return own;
            }
        }
        assert!(Instant::now() < end, "it does not lead");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_reader_that_stands_still_costs_no_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let api: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
    let mut command = tenure();
    command.args([
        "run",
        "--ttl",
        "2s",
        "--log-level",
        "trace",
        "--status-every",
        "1ms",
    ]);
    command.args([
        "--listen",
        &api.to_string(),
        "--backend",
        &file_url(dir.path()),
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Both pipes are open and nobody reads: the first 64 KiB fill them.
    let mut child = Killed(command.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(6);
    let mut led = None;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        if std::net::TcpStream::connect(api).is_err() {
            assert!(led.is_none());
            continue;
        }
        let status = request(api, "GET", "/status", &[], b"").json();
        match (&led, status["fence_token"].as_u64()) {
            (Some(before), now) => assert_eq!(now, Some(*before), "{status:#}"),
            (None, now) => led = now,
        }
    }
    assert!(led.is_some());
    send(child.0.id(), Signal::TERM);
    let end = Instant::now() + Duration::from_secs(5);
    while child.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it waits for its reader");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_lab_shows_its_verdict_as_json() {
    let ended = finish(
        tenure().args([
            "lab", "--nodes", "2", "--ttl", "1s", "--fault", "stop", "--json",
        ]),
        b"",
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.json().is_object());
}
