//! A command together with a hook, a health check and a service manager.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::process::Node;
use super::scene::{Scene, WORK, until};
use super::web_app::{Answer, App};

const DRAINS: &str = r#"
trap 'say draining; sleep 0.3; say end; exit 0' TERM
say begin
while :; do sleep 60 & wait $!; done
"#;

/// The app is asked to drain, then it is stopped, then the lease moves.
#[test]
fn the_hook_drains_first_then_the_command_is_stopped() {
    let (scene, hook) = (Scene::new(), App::start());
    hook.answers(|asked| match asked.kind().as_str() {
        "leadership.releasing" => Answer::After(Duration::from_secs(1)),
        _ => Answer::Status(200),
    });
    let url = hook.url("/");
    let (mut first, _) = scene.leading("a", &["--ttl", "2s", "--hook", &url], DRAINS);
    let _second = scene.following("b", &["--ttl", "2s"], WORK);
    hook.until_delivered("leadership.acquired");
    first.signal(Signal::TERM);
    hook.until_kind("leadership.releasing");
    std::thread::sleep(Duration::from_millis(500));
    let asked = hook.until_kind("leadership.releasing");
    assert!(
        scene.words("draining").is_empty() || asked.answered.is_some(),
        "the command is stopped before the app has drained"
    );
    hook.until_delivered("leadership.releasing");
    scene.nth("begin", 1);
    let log = scene.log();
    let order: Vec<&str> = log.iter().map(|word| word.what.as_str()).collect();
    assert_eq!(order, ["begin", "draining", "end", "begin"]);
    assert_eq!(first.exit(), Some(0));
}

/// A hook that takes the whole drain leaves the command its stop budget.
#[test]
fn a_hook_that_takes_all_the_time_leaves_some_for_the_command() {
    let (scene, hook) = (Scene::new(), App::start());
    hook.answers(|asked| match asked.kind().as_str() {
        "leadership.releasing" => Answer::Never,
        _ => Answer::Status(200),
    });
    let url = hook.url("/");
    let flags = ["--ttl", "4s", "--hook", &url, "--drain-timeout", "600ms"];
    let (mut first, _) = scene.leading("a", &flags, DRAINS);
    let _second = scene.following("b", &["--ttl", "4s"], WORK);
    hook.until_delivered("leadership.acquired");
    first.signal(Signal::TERM);
    scene.nth("begin", 1);
    let log = scene.log();
    let order: Vec<&str> = log.iter().map(|word| word.what.as_str()).collect();
    assert_eq!(order, ["begin", "draining", "end", "begin"], "not killed");
    assert_eq!(first.exit(), Some(0));
}

fn checked(scene: &Scene, app: &App, what: &str) -> Node {
    let url = app.url("/health");
    let flags = [
        ["--ttl", "2s"],
        ["--app-health", &url],
        ["--app-health-every", "50ms"],
        ["--on-unhealthy", what],
    ];
    scene.start("a", flags.as_flattened(), WORK)
}

/// There is nothing to ask before the command runs, so nothing speaks against it; one
/// that turns out to be unhealthy loses leadership and is started anew.
#[test]
fn an_unhealthy_command_loses_leadership_and_is_started_anew() {
    for (what, restarts) in [("restart", 1), ("stepdown", 0)] {
        let (scene, app) = (Scene::new(), App::start());
        app.answers(|_| Answer::Status(503));
        let node = checked(&scene, &app, what);
        // It is starting: bad answers do not count before the first good one.
        let first = scene.nth("begin", 0);
        app.until_all("ten questions", |asked| asked.get(10).cloned());
        assert_eq!(node.token(), first.token);
        app.answers(|_| Answer::Status(200));
        let count = app.asked().len();
        app.until_all("a good answer", |asked| asked.get(count + 2).cloned());
        app.answers(|_| Answer::Status(503));
        node.until("steps down", |status| status["is_leader"] == false);
        app.answers(|_| Answer::Status(200));
        let second = scene.nth("begin", 1);
        assert!(second.token > first.token);
        let status = node.until("runs again", |status| status["child"]["running"] == true);
        assert_eq!(status["child"]["restarts"], restarts, "{what}: {status:#}");
        assert_eq!(status["health"], json!({"healthy": true, "score": 100}));
        let history = node.get("/history").text();
        assert!(history.contains(r#""reason":"unhealthy""#), "{history}");
    }
}

/// Ends when the test makes a file named after its token, and leaves a child behind that
/// does not heed SIGTERM, unless it is the second app.
const CRASHES_AND_LEAVES_A_CHILD: &str = r#"
[ -e "$SCENE/second" ] || sh -c 'trap "" TERM; while :; do sleep 60; done' &
say begin
until [ -e "$SCENE/end-$TENURE_FENCE_TOKEN" ]; do sleep 0.02; done
exit 1
"#;

/// Waits for so many more questions; whoever answers badly has done it so often.
fn until_asked(app: &App, more: usize) {
    let before = app.asked().len();
    app.until_all("more questions", |asked| asked.get(before + more).cloned());
}

/// What is said of an app's health while its leftovers are being stopped is said of that
/// app: the next one is neither judged by it, nor does it lead on when it has ended.
#[test]
fn an_app_is_not_judged_by_what_the_one_before_it_left() {
    let (scene, app) = (Scene::new(), App::start());
    let url = app.url("/health");
    let flags = [
        ["--ttl", "4s"],
        ["--app-health", &url],
        ["--app-health-every", "50ms"],
        ["--app-health-failures", "2"],
        ["--on-unhealthy", "restart"],
    ];
    let end = |token: u64| std::fs::write(scene.path().join(format!("end-{token}")), "").unwrap();
    let script = CRASHES_AND_LEAVES_A_CHILD;
    let (node, first) = scene.leading("a", flags.as_flattened(), script);
    until_asked(&app, 2);
    std::fs::write(scene.path().join("second"), "").unwrap();
    end(first.token);
    node.err
        .until("the end", |line| line.contains("the app ended"));
    app.answers(|_| Answer::Status(503));
    until_asked(&app, 4);
    assert_eq!(
        node.status()["child"]["running"],
        true,
        "the child is there"
    );
    node.until("gone", |status| status["child"]["running"] == false);
    app.answers(|_| Answer::Status(200));
    let second = scene.nth("begin", 1);
    until_asked(&app, 4);
    let said = node.err.all();
    let anew = |line: &String| line.contains("starting it anew");
    assert!(!said.iter().any(anew), "it was well: {said:#?}");
    end(second.token);
    let third = scene.nth("begin", 2);
    assert!(third.token > second.token);
}

/// An app that drains may close its port first: that it was asked to stop still counts.
#[test]
fn an_app_that_is_stopping_is_not_judged_by_its_health() {
    let (scene, app) = (Scene::new(), App::start());
    let url = app.url("/health");
    let flags = [
        ["--ttl", "4s"],
        ["--app-health", &url],
        ["--app-health-every", "50ms"],
        ["--on-unhealthy", "restart"],
        ["--restart", "never"],
    ];
    let drains = r#"
trap 'say draining; until [ -e "$SCENE/drained" ]; do sleep 0.02; done; exit 0' TERM
say begin
while :; do sleep 60 & wait $!; done
"#;
    let (mut node, _) = scene.leading("a", flags.as_flattened(), drains);
    let _other = scene.following("b", &["--ttl", "4s"], WORK);
    until_asked(&app, 2);
    node.post("/leadership/stepdown", r#"{"wait_ms":1}"#);
    scene.nth("draining", 0);
    app.answers(|_| Answer::Status(503));
    // Three bad answers, and the one that was on its way.
    until_asked(&app, 5);
    std::fs::write(scene.path().join("drained"), "").unwrap();
    node.until("follows", |status| status["leader"]["id"] == "b");
    assert!(
        node.runs(),
        "it was asked to stop, so it did not end by itself"
    );
    assert_eq!(node.status()["child"]["restarts"], 0);
}

/// Systemd watches over the sidecar; an app that knew its socket could speak for it.
#[test]
fn a_command_does_not_find_the_service_managers_socket() {
    let scene = Scene::new();
    let script = r#"[ -z "$NOTIFY_SOCKET$WATCHDOG_USEC" ] && say clean; say begin; sleep 60"#;
    let mut command = scene.command("a", &["--ttl", "2s"], script);
    command
        .env("NOTIFY_SOCKET", scene.path().join("notify"))
        .env("WATCHDOG_USEC", "1000000");
    let _node = Node::spawn(&mut command);
    scene.nth("begin", 0);
    until("it is clean", || scene.words("clean").len() == 1);
}
