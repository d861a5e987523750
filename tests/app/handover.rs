//! The app dies: the next leader's app runs, without waiting for a lease.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::send;
use super::scene::{STUBBORN_FAMILY, Scene, WORK, is_alive, until};

/// Far longer than any handover may take; a TTL that was waited for would show.
const SOON: Duration = Duration::from_secs(4);

/// app-crash: killed fifty times over, it is handed over each time, and no two apps are
/// ever alive at once.
#[test]
fn an_app_that_is_killed_is_handed_over_at_once() {
    let scene = Scene::new();
    let flags = ["--ttl", "15s", "--restart", "never"];
    let (first, mut word) = scene.leading("node-0", &flags, WORK);
    let mut nodes = vec![first];
    for number in 1..3 {
        nodes.push(scene.following(&format!("node-{number}"), &flags, WORK));
    }
    for round in 0..50 {
        let number: usize = word.node["node-".len()..].parse().unwrap();
        send(word.pid, Signal::KILL);
        let killed = Instant::now();
        let next = scene.nth("begin", round + 1);
        let took = killed.elapsed();
        assert!(took < SOON, "round {round}: {took:?}");
        assert_ne!(next.node, word.node);
        assert!(next.token > word.token);
        assert!(!is_alive(word.pid));
        // The code of an app that was killed passes through.
        assert_eq!(nodes[number].exit(), Some(128 + 9));
        nodes[number] = scene.following(&word.node, &flags, WORK);
        word = next;
    }
}

/// What the app started is stopped before the next leader's app runs, be it in the same
/// group or in a session of its own, and though it ignores SIGTERM.
#[test]
fn what_the_app_leaves_behind_is_gone_before_the_next_begins() {
    let scene = Scene::new();
    let flags = ["--ttl", "15s", "--stop-budget", "500ms"];
    let (_first, old) = scene.leading("a", &flags, STUBBORN_FAMILY);
    let _second = scene.following("b", &flags, WORK);
    until("the family is there", || {
        scene.processes("sleep 60").len() >= 5
    });
    let killed = Instant::now();
    send(old.pid, Signal::KILL);
    let next = scene.nth("begin", 1);
    assert_eq!(next.node, "b");
    let took = killed.elapsed();
    assert!(
        took >= Duration::from_millis(490),
        "not asked before: {took:?}"
    );
    assert!(took < SOON, "{took:?}");
}

/// Leftovers that heed SIGTERM cost nothing.
#[test]
fn leftovers_that_stop_when_asked_delay_nothing() {
    let scene = Scene::new();
    let flags = ["--ttl", "15s"];
    let family = "sleep 60 & setsid sleep 60 & (setsid sleep 60 &); say begin; sleep 60";
    let (_first, old) = scene.leading("a", &flags, family);
    let _second = scene.following("b", &flags, WORK);
    let killed = Instant::now();
    send(old.pid, Signal::KILL);
    scene.nth("begin", 1);
    // The stop budget is 3.75 s.
    assert!(
        killed.elapsed() < Duration::from_secs(2),
        "{:?}",
        killed.elapsed()
    );
}

/// A node whose app ended campaigns last, and again.
#[test]
fn alone_it_starts_the_app_again() {
    let scene = Scene::new();
    let (node, first) = scene.leading("a", &["--ttl", "2s"], WORK);
    assert_eq!(node.status()["child"]["restarts"], 0);
    let pid = node.until("told of the app", |status| status["child"]["pid"].is_u64());
    assert_eq!(pid["child"]["pid"], first.pid);
    send(first.pid, Signal::KILL);
    let second = scene.nth("begin", 1);
    assert!(second.token > first.token);
    let status = node.until("told of it", |status| status["child"]["pid"] == second.pid);
    assert_eq!(status["child"]["restarts"], 1);
    assert_eq!(status["child"]["running"], true);
    let history = node.get("/history").json();
    let ended = history.as_array().unwrap().iter();
    let mut ended = ended.filter(|entry| entry["reason"] == "app_ended");
    assert_eq!(
        ended.next().expect("the reason is told")["to"],
        "stepping_down"
    );
}
