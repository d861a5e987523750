//! The lease moves when the app has drained, and not before.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::app::{Answer, App};
use super::leader;
use super::process::{Node, file_url};

/// Leadership changes are noticed by asking; that costs a little.
const ASKING: Duration = Duration::from_millis(500);

#[test]
fn sigterm_waits_for_an_app_that_drains_and_then_the_lease_moves() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_url(dir.path());
    let app = App::start();
    let drain = Duration::from_secs(2);
    app.answers(move |asked| match asked.kind().as_str() {
        "leadership.releasing" => Answer::After(drain),
        _ => Answer::Status(200),
    });
    // The lease is shorter than the drain, so it is renewed meanwhile.
    let mut first = leader(&store, &app, &["--ttl", "1500ms"]);
    let epoch = first.token();
    let second = Node::following(&store, &["--ttl", "1500ms"]);
    app.until_delivered("leadership.acquired");
    first.signal(Signal::TERM);
    let asked = app.until_kind("leadership.releasing");
    // Not leader anywhere before the app is asked.
    let told = asked.json();
    assert_eq!(told["data"]["is_leader"], false);
    assert_eq!(told["data"]["fence_token"], serde_json::Value::Null);
    assert!(told["data"]["lease"]["remaining_ms"].as_u64() > Some(0));
    let status = second.until("leads", |status| status["is_leader"] == true);
    let led = Instant::now();
    assert!(status["fence_token"].as_u64() > Some(epoch));
    let asked = app.until_delivered("leadership.releasing");
    let (acknowledged, _) = asked.answered.unwrap();
    let after = led.saturating_duration_since(acknowledged);
    println!(
        "drained for {:?}; the next node leads {after:?} after the app's word",
        acknowledged.duration_since(asked.at)
    );
    assert!(led > acknowledged, "it leads before the app has drained");
    assert!(after < ASKING, "{after:?}");
    assert_eq!(first.exit(), Some(0));
    assert_eq!(app.delivered().last().unwrap(), "leadership.lost");
    // Asked once: a drain is not broken off and begun anew.
    let asked = app.asked();
    let drains = asked
        .iter()
        .filter(|asked| asked.kind() == "leadership.releasing");
    assert_eq!(drains.count(), 1);
}

#[test]
fn an_app_that_does_not_answer_has_the_drain_timeout_and_no_longer() {
    for silent in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = file_url(dir.path());
        let app = App::start();
        app.answers(move |asked| match asked.kind().as_str() {
            "leadership.releasing" if silent => Answer::Never,
            "leadership.releasing" => Answer::Status(503),
            _ => Answer::Status(200),
        });
        let limit = Duration::from_secs(1);
        let mut first = leader(&store, &app, &["--ttl", "30s", "--drain-timeout", "1s"]);
        let second = Node::following(&store, &["--ttl", "30s"]);
        app.until_delivered("leadership.acquired");
        // The drain begins between these two: its end is not early by the first, nor late by
        // the second.
        let signalled = Instant::now();
        first.signal(Signal::TERM);
        let asked = app.until_kind("leadership.releasing").at;
        second.until("leads", |status| status["is_leader"] == true);
        let (at_most, at_least) = (signalled.elapsed(), asked.elapsed());
        assert!(at_most >= limit, "{at_most:?}");
        assert!(at_least < limit + ASKING, "{at_least:?}");
        assert_eq!(first.exit(), Some(0));
    }
}

#[test]
fn a_step_down_is_answered_when_the_app_has_drained() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start();
    app.answers(|asked| match asked.kind().as_str() {
        "leadership.releasing" => Answer::After(Duration::from_millis(700)),
        _ => Answer::Status(200),
    });
    let node = leader(&file_url(dir.path()), &app, &["--ttl", "30s"]);
    app.until_delivered("leadership.acquired");
    let body = r#"{"wait_ms":100,"cooldown_ms":0}"#;
    let early = node.post("/leadership/stepdown", body);
    assert_eq!(early.status, 202);
    assert_eq!(early.json()["state"], "stepping_down");
    app.until_delivered("leadership.releasing");
    node.until("leads again", |status| status["is_leader"] == true);
    let late = node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    assert_eq!((late.status, late.json()["released"] == true), (200, true));
}

/// A hook that takes no call, and long patience with it.
fn deaf(drain: &str) -> (tempfile::TempDir, App, Node) {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start();
    app.answers(|_| Answer::Never);
    let flags = [["--hook-timeout", "30s"], ["--drain-timeout", drain]];
    let node = leader(&file_url(dir.path()), &app, flags.as_flattened());
    app.until_kind("leadership.acquired");
    (dir, app, node)
}

/// However patient it is, a sidecar that is told to stop ends within the drain and ten
/// seconds.
#[test]
fn a_deaf_hook_does_not_keep_a_sidecar_from_ending() {
    let (_dir, _app, mut node) = deaf("200ms");
    let begun = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// A second signal aborts, also when nothing but the last word to the hook is left.
#[test]
fn a_second_signal_ends_the_last_word_to_a_deaf_hook() {
    let (_dir, _app, mut node) = deaf("200ms");
    node.signal(Signal::TERM);
    node.err
        .until("the lease is free", |line| line.contains("handed over"));
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(128 + 15));
}
