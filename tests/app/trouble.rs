//! Sidecar, guard or app are killed or stopped: no app runs past its lease.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::send;
use super::redis_server::RedisServer;
use super::scene::{STUBBORN_FAMILY, Scene, WORK, is_alive, until};

const TTL: &[&str] = &["--ttl", "2s"];
/// A lease that runs out, and of which the parts are told apart, on a busy machine too.
const EXPIRES: (Duration, &[&str]) = (Duration::from_secs(6), &["--ttl", "6s"]);

/// sidecar-crash: the app dies with it, and with it all that the app started.
#[test]
fn the_app_does_not_outlive_its_sidecar() {
    let scene = Scene::new();
    let (first, old) = scene.leading("a", TTL, STUBBORN_FAMILY);
    until("the family is there", || {
        scene.processes("sleep 60").len() >= 5
    });
    let family = scene.processes("");
    let _second = scene.following("b", TTL, WORK);
    let killed = Instant::now();
    first.signal(Signal::KILL);
    until("all of it is gone", || {
        !family.iter().any(|pid| is_alive(*pid))
    });
    // At once, not at the end of the lease.
    assert!(
        killed.elapsed() < Duration::from_secs(1),
        "{:?}",
        killed.elapsed()
    );
    let next = scene.nth("begin", 1);
    assert_eq!(next.node, "b");
    assert!(!is_alive(old.pid));
}

/// pause-sidecar-only: the guard ends the app in time, and the sidecar, when it goes on,
/// knows that it has none.
#[test]
fn the_app_does_not_outlive_the_lease_of_a_stopped_sidecar() {
    for app in [WORK, STUBBORN_FAMILY] {
        let scene = Scene::new();
        let (first, old) = scene.leading("a", EXPIRES.1, app);
        let second = scene.following("b", EXPIRES.1, WORK);
        first.signal(Signal::STOP);
        let paused = Instant::now();
        until("the app is gone", || {
            // In this order: an app that is alive now was alive while nobody else led.
            let led = second.status()["is_leader"] == true;
            let alive = is_alive(old.pid);
            assert!(!(led && alive), "the next one leads, and the app is there");
            !alive
        });
        let gone = paused.elapsed();
        assert!(gone < EXPIRES.0, "{gone:?}");
        let next = scene.nth("begin", 1);
        assert_eq!(next.node, "b");
        first.signal(Signal::CONT);
        // What came while it slept, it takes in one by one.
        first.until("follows, and knows that its app is gone", |status| {
            status["leader"]["id"] == "b" && status["child"]["running"] == false
        });
        assert_eq!(scene.words("begin").len(), 2);
    }
}

/// The guard dies: so does the app, and leadership is handed over at once.
#[test]
fn the_app_does_not_outlive_its_guard() {
    for app in [WORK, STUBBORN_FAMILY] {
        let scene = Scene::new();
        let flags = ["--ttl", "15s"];
        let (first, old) = scene.leading("a", &flags, app);
        let _second = scene.following("b", &flags, WORK);
        let killed = Instant::now();
        send(scene.guard_of(&first), Signal::KILL);
        let next = scene.nth("begin", 1);
        assert_eq!(next.node, "b");
        assert!(!is_alive(old.pid));
        assert!(
            killed.elapsed() < Duration::from_secs(4),
            "{:?}",
            killed.elapsed()
        );
        let told = |line: &str| line.contains("guard of the app was killed");
        first.err.until("what happened", told);
    }
}

/// A guard that is stopped hears nothing: its sidecar ends it, and what it guarded.
#[test]
fn a_stopped_guard_keeps_no_app_alive() {
    for app in [WORK, STUBBORN_FAMILY] {
        let scene = Scene::new();
        let flags = ["--ttl", "15s", "--drain-timeout", "500ms"];
        let (first, old) = scene.leading("a", &flags, app);
        let _second = scene.following("b", &flags, WORK);
        send(scene.guard_of(&first), Signal::STOP);
        first.post("/leadership/stepdown", r#"{"wait_ms":1}"#);
        let next = scene.nth("begin", 1);
        assert_eq!(next.node, "b");
        assert!(!is_alive(old.pid));
    }
}

/// pause-app-only: an app that is stopped cannot stop itself.
#[test]
fn a_stopped_app_is_killed() {
    let scene = Scene::new();
    let (first, old) = scene.leading("a", TTL, STUBBORN_FAMILY);
    let _second = scene.following("b", TTL, WORK);
    send(old.pid, Signal::STOP);
    // Its sidecar leads on: nobody has told it to look at the app.
    let token = first.token();
    first.signal(Signal::STOP);
    let next = scene.nth("begin", 1);
    assert!(next.token > token);
    assert!(!is_alive(old.pid));
}

/// A machine that stood still may start a guard when the lease is over already.
#[test]
fn a_guard_that_comes_too_late_starts_nothing() {
    let scene = Scene::new();
    let touched = scene.path().join("touched");
    let said = |leads_until: &str, ends_at: &str| {
        let (mut own, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut guard = super::process::tenure();
        guard
            .args([
                "__guard",
                "TERM",
                "1000000000",
                leads_until,
                ends_at,
                "none",
            ])
            .arg("touch")
            .arg(&touched)
            .stdin(Stdio::from(OwnedFd::from(other)));
        assert!(guard.status().unwrap().success());
        drop(guard);
        let mut said = String::new();
        own.read_to_string(&mut said).unwrap();
        said
    };
    let far = u64::MAX.to_string();
    for ends_at in ["0", &far] {
        assert_eq!(said("0", ends_at), "stoppinggone");
        assert!(!touched.exists());
    }
    assert!(said(&far, &far).starts_with("started "));
    assert!(touched.exists());
}

/// The store goes away: the app is asked at leads_until, and over by the lease's end.
#[test]
fn the_app_does_not_outlive_a_lease_that_cannot_be_renewed() {
    let redis = RedisServer::start();
    let scene = Scene::on(&redis.url());
    let app = "trap 'say asked' TERM; say begin; while :; do sleep 60 & wait $!; done";
    let (_first, old) = scene.leading("a", EXPIRES.1, app);
    let _second = scene.following("b", EXPIRES.1, WORK);
    redis.pause();
    let paused = Instant::now();
    scene.nth("asked", 0);
    let asked = paused.elapsed();
    until("the app is gone", || !is_alive(old.pid));
    let gone = paused.elapsed();
    let ttl = EXPIRES.0;
    assert!(asked < ttl * 4 / 5, "{asked:?}");
    assert!(gone < ttl, "{gone:?}");
    assert!(gone - asked > ttl / 10, "{asked:?} to {gone:?}");
    redis.resume();
    let next = scene.nth("begin", 1);
    assert!(next.token > old.token);
}
