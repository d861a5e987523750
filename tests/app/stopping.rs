//! Leadership is given up: the app ends first, then the lease moves.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::Node;
use super::scene::{STUBBORN_FAMILY, Scene, WORK, is_alive, until};

/// Drains for two seconds.
const DRAINS: &str = r#"
trap 'say draining; sleep 2; say end; exit 0' TERM
say begin
while :; do sleep 60 & wait $!; done
"#;

/// graceful-stop: the app drains for two seconds under a lease that is renewed, and the
/// next leader's app begins after its last word.
#[test]
fn sigterm_lets_the_app_drain_and_only_then_the_lease_moves() {
    let scene = Scene::new();
    // Shorter than the drain: it must be renewed meanwhile.
    let flags = ["--ttl", "1s"];
    let (mut first, old) = scene.leading("a", &flags, DRAINS);
    let second = scene.following("b", &flags, WORK);
    let begun = Instant::now();
    first.signal(Signal::TERM);
    scene.nth("draining", 0);
    let status = first.status();
    assert_eq!(status["is_leader"], false, "{status:#}");
    assert_eq!(status["child"]["running"], true, "{status:#}");
    assert_eq!(second.status()["term"], old.token);
    let next = scene.nth("begin", 1);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(2) && took < Duration::from_secs(4),
        "{took:?}"
    );
    assert_eq!((next.node.as_str(), next.token > old.token), ("b", true));
    let log = scene.log();
    let order: Vec<&str> = log.iter().map(|word| word.what.as_str()).collect();
    assert_eq!(order, ["begin", "draining", "end", "begin"]);
    assert_eq!(first.exit(), Some(0));
}

/// An app that does not stop in time is killed with all that it started.
#[test]
fn a_drain_has_an_end() {
    let scene = Scene::new();
    let flags = ["--ttl", "15s", "--drain-timeout", "700ms"];
    let (mut first, old) = scene.leading("a", &flags, STUBBORN_FAMILY);
    let _second = scene.following("b", &flags, WORK);
    let begun = Instant::now();
    first.signal(Signal::TERM);
    scene.nth("begin", 1);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(690) && took < Duration::from_secs(4),
        "{took:?}"
    );
    assert!(!is_alive(old.pid));
    assert_eq!(first.exit(), Some(0));
}

/// The same when somebody asks over HTTP; the answer comes when the lease is free.
#[test]
fn a_step_down_stops_the_app_first() {
    let scene = Scene::new();
    let flags = ["--ttl", "15s"];
    let (first, old) = scene.leading("a", &flags, DRAINS);
    let _second = scene.following("b", &flags, WORK);
    let answer = first.post("/leadership/stepdown", r#"{"wait_ms":100}"#);
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json()["state"], "stepping_down");
    let next = scene.nth("begin", 1);
    assert_eq!(next.node, "b");
    assert!(!is_alive(old.pid));
    let status = first.until("the app is gone", |status| {
        status["child"]["running"] == false
    });
    assert_eq!(status["child"]["pid"], serde_json::Value::Null);
    assert_eq!(status["child"]["restarts"], 0);
}

#[test]
fn a_second_signal_kills_the_app_and_aborts() {
    let scene = Scene::new();
    let flags = ["--ttl", "15s", "--drain-timeout", "1m"];
    let (mut node, old) = scene.leading("a", &flags, STUBBORN_FAMILY);
    node.signal(Signal::TERM);
    node.until("stops", |status| status["state"] == "stopping");
    assert!(is_alive(old.pid));
    let begun = Instant::now();
    node.signal(Signal::INT);
    assert_eq!(node.exit(), Some(128 + 2));
    assert!(begun.elapsed() < Duration::from_secs(2));
    until("all of it is gone", || scene.processes("").is_empty());
    node.err.ended();
    let hangs = |line: &String| line.contains("hangs") || line.contains("was killed");
    let told = node.err.all();
    assert!(!told.iter().any(hangs), "its guard was well: {told:#?}");
}

#[test]
fn the_app_is_asked_by_the_signal_that_it_wants() {
    let scene = Scene::new();
    let flags = ["--ttl", "15s", "--stop-signal", "SIGINT"];
    let app = r#"
trap 'say int; exit 0' INT
trap 'say term; exit 0' TERM
say begin
while :; do sleep 60 & wait $!; done
"#;
    let (mut node, _) = scene.leading("a", &flags, app);
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    let words: Vec<String> = scene.log().into_iter().map(|word| word.what).collect();
    assert_eq!(words, ["begin", "int"]);
}

#[test]
fn other_signals_are_the_apps_own() {
    let scene = Scene::new();
    let app = r#"
trap 'say hup' HUP
trap 'say usr1' USR1
trap 'say usr2' USR2
say begin
while :; do sleep 0.05; done
"#;
    let (node, _) = scene.leading("a", &["--ttl", "15s"], app);
    // A follower has no app to pass them on to, and takes no harm.
    let follower = scene.following("b", &["--ttl", "15s"], app);
    for (signal, word) in [
        (Signal::HUP, "hup"),
        (Signal::USR1, "usr1"),
        (Signal::USR2, "usr2"),
    ] {
        follower.signal(signal);
        node.signal(signal);
        scene.nth(word, 0);
    }
    assert_eq!(node.status()["is_leader"], true);
    assert_eq!(follower.status()["state"], "follower");
    assert_eq!(scene.log().len(), 4);
}

/// `nohup tenure run … &`: what the shell wants ignored is ignored by sidecar, guard and app.
#[test]
fn a_signal_that_is_ignored_from_the_start_stays_so() {
    let scene = Scene::new();
    // A shell cannot trap what was ignored when it began.
    let app = r#"
trap 'say hup' HUP
trap 'say usr1' USR1
say begin
while :; do sleep 0.05; done
"#;
    let mut command = scene.command_after("trap '' HUP", &["--ttl", "15s"], app);
    let mut node = Node::spawn(&mut command);
    let word = scene.nth("begin", 0);
    for round in 0..2 {
        node.signal(Signal::HUP);
        node.signal(Signal::USR1);
        scene.nth("usr1", round);
    }
    super::process::send(scene.guard_of(&node), Signal::HUP);
    super::process::send(word.pid, Signal::HUP);
    node.signal(Signal::USR1);
    scene.nth("usr1", 2);
    assert_eq!(scene.words("hup"), []);
    assert_eq!(node.token(), word.token);
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
}

/// The signal by which the app is asked to stop is its own, however the sidecar was started.
#[test]
fn an_app_heeds_its_stop_signal_though_that_was_ignored() {
    let scene = Scene::new();
    let flags = [
        "--ttl",
        "15s",
        "--stop-signal",
        "INT",
        "--drain-timeout",
        "1m",
    ];
    let app = "trap 'say int; exit 0' INT; say begin; while :; do sleep 60 & wait $!; done";
    let mut command = scene.command_after("trap '' INT", &flags, app);
    let mut node = Node::spawn(&mut command);
    scene.nth("begin", 0);
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    assert_eq!(scene.words("int").len(), 1);
}

/// A service manager may signal every process of a service: the guard does not die of it,
/// so the app still has its time.
#[test]
fn a_guard_that_is_told_to_stop_leaves_that_to_the_sidecar() {
    let scene = Scene::new();
    let (mut node, _) = scene.leading("a", &["--ttl", "15s"], DRAINS);
    let guard = scene.guard_of(&node);
    for pid in [guard, node.pid()] {
        super::process::send(pid, Signal::TERM);
    }
    assert_eq!(node.exit(), Some(0));
    assert_eq!(scene.words("end").len(), 1);
}

/// Whatever the sidecar is doing at that moment, starting the app among them.
#[test]
fn sigterm_at_the_very_start_waits_for_nothing() {
    for round in 0..20u64 {
        let scene = Scene::new();
        let mut node = scene.start("a", &["--ttl", "30s"], WORK);
        std::thread::sleep(Duration::from_micros(round * 700));
        let begun = Instant::now();
        node.signal(Signal::TERM);
        assert_eq!(node.exit(), Some(0), "round {round}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "round {round}: {took:?}");
        assert!(scene.processes("").is_empty());
    }
}

#[test]
fn a_follower_never_starts_the_app() {
    let scene = Scene::new();
    let (_first, _) = scene.leading("a", &["--ttl", "15s"], WORK);
    let mut second = scene.following("b", &["--ttl", "15s"], WORK);
    let status = second.status();
    let nothing =
        serde_json::json!({"pid": null, "running": false, "restarts": 0, "trouble": null});
    assert_eq!(status["child"], nothing);
    second.signal(Signal::TERM);
    assert_eq!(second.exit(), Some(0));
    assert_eq!(scene.log().len(), 1);
}
