//! What is refused before anything is started, and what the app finds when it is.

use super::http::request;
use super::process::{Node, finish, run, tenure};
use super::scene::{Scene, script, until};

#[track_caller]
fn problem(arguments: &[&str]) -> String {
    let ended = run(arguments);
    assert_eq!(ended.code, Some(78), "{arguments:?}: {ended:?}");
    assert!(ended.err.contains("nothing was started"), "{ended:?}");
    ended.err
}

#[test]
fn a_command_that_cannot_be_started_is_78() {
    let dir = tempfile::tempdir().unwrap();
    let plain = script(dir.path(), "plain", "#!/bin/sh\n", 0o644);
    let plain = plain.to_str().unwrap();
    for (command, mend) in [
        ("no-such-program-anywhere", "PATH"),
        ("/nonexistent/program", "no such file"),
        (plain, "chmod +x"),
        (dir.path().to_str().unwrap(), "no file"),
        ("", "empty"),
    ] {
        for verb in [&["run"][..], &["config", "check"]] {
            let told = problem(&[verb, &["--", command]].concat());
            assert!(told.contains(mend) && told.contains(command), "{told}");
        }
    }
}

#[test]
fn what_does_not_fit_the_command_is_told_together() {
    let told = problem(&[
        "run",
        "--restart",
        "sometimes",
        "--stop-signal",
        "15",
        "--crash-loop",
        "often",
        "--drain-timeout",
        "long",
        "--stop-budget",
        "0s",
        "--election",
        "a,b",
        "--",
        "sh",
    ]);
    for word in [
        "--restart sometimes",
        "on-failure",
        "--stop-signal 15",
        "TERM",
        "--crash-loop often",
        "5 in 1m",
        "--drain-timeout long",
        "--stop-budget 0s",
        "2 elections",
        "6 problems",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    for flag in [["--restart", "never"], ["--stop-signal", "INT"]] {
        let told = problem(&["config", "check", flag[0], flag[1]]);
        assert!(told.contains("no command"), "{told}");
    }
    let ended = finish(
        tenure()
            .args(["config", "check"])
            .env("TENURE_RESTART", "never"),
        b"",
    );
    assert_eq!(ended.code, Some(0), "a file may serve several: {ended:?}");
}

#[test]
fn a_quarter_of_the_lease_is_kept_for_stopping() {
    let settings = |arguments: &[&str]| {
        let all = [&["config", "check", "--json"], arguments].concat();
        run(&all).ok().json()["settings"].clone()
    };
    let with = settings(&["--ttl", "8s", "--", "sh", "-c", "true"]);
    assert_eq!(with["stop-budget"], "2s");
    assert_eq!(with["restart"], "on-failure");
    assert_eq!(with["stop-signal"], "TERM");
    assert_eq!(with["crash-loop"], "5 in 1m");
    assert_eq!(with["drain-timeout"], "5s");
    let without = settings(&["--ttl", "8s"]);
    assert_eq!(without["stop-budget"], "0s");
    // The whole sum is checked: 4/6 and 1/6 leave no quarter.
    let told = problem(&[
        "config",
        "check",
        "--ttl",
        "6s",
        "--renew-every",
        "4s",
        "--",
        "sh",
    ]);
    assert!(told.contains("stop-budget 1s 500ms"), "{told}");
}

#[test]
fn the_app_finds_its_token_and_nothing_of_the_sidecars_own() {
    let scene = Scene::new();
    let app = r#"
env | grep ^TENURE_ | sort
read line || echo "no input"
echo "$0 $*"
say begin
sleep 60"#;
    let mut command = scene.bare("node-1", &["--ttl", "15s", "--election", "orders"]);
    let prelude = r#"say() { echo "$1 $TENURE_ID $TENURE_FENCE_TOKEN $$" >>"$SCENE/log"; }"#;
    let script = format!("{prelude}\n{app}");
    command
        .env("TENURE_LOG_LEVEL", "warn")
        .env("TENURE_MINE", "kept")
        .args(["--", "sh", "-c", &script, "name", "--flag", "two words"]);
    let node = Node::spawn(&mut command);
    let word = scene.nth("begin", 0);
    let url = node.url();
    node.out
        .until("its arguments", |line| line.starts_with("name"));
    let out = node.out.all();
    let expected = [
        format!("TENURE_API={url}"),
        "TENURE_ELECTION=orders".to_owned(),
        format!("TENURE_FENCE_TOKEN={}", word.token),
        "TENURE_ID=node-1".to_owned(),
        "TENURE_MINE=kept".to_owned(),
        "no input".to_owned(),
        "name --flag two words".to_owned(),
    ];
    // The sidecar's own words are on stderr: stdout is the app's.
    assert_eq!(out, expected);
    node.err
        .until("its first words", |line| line.contains(&url));
    assert_eq!(
        request(node.api, "GET", "/fence-token", &[], b"").text(),
        word.token.to_string()
    );
}

/// A sidecar raises its own limit of file descriptors; an app that calls select(2) must not
/// be given more than it was started with.
#[test]
fn the_app_has_the_limit_of_files_that_the_sidecar_was_started_with() {
    let scene = Scene::new();
    let script = r#"say "$(ulimit -Sn)"; sleep 60"#;
    let mut command = scene.command_after("ulimit -Sn 768", &["--ttl", "15s"], script);
    let node = Node::spawn(&mut command);
    until("it says its limit", || !scene.log().is_empty());
    assert_eq!(scene.log()[0].what, "768");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let own = limits.lines().find(|line| line.starts_with("Max open"));
    let own: u64 = own
        .unwrap()
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap();
    assert!(own > 768, "the sidecar has raised its own: {own}");
}

/// The commands that ask find the sidecar by what the app finds.
#[test]
fn the_app_can_ask_its_sidecar_without_a_word() {
    let scene = Scene::new();
    let binary = env!("CARGO_BIN_EXE_tenure");
    let app = format!("\"{binary}\" token; say begin; sleep 60");
    let (node, word) = scene.leading("a", &["--ttl", "15s"], &app);
    let token = word.token.to_string();
    node.out.until("the token", |line| line == token);
    assert_eq!(node.out.all(), [token]);
}

#[test]
fn in_json_the_first_line_of_stderr_is_the_banner() {
    let scene = Scene::new();
    let flags = [
        "--ttl",
        "15s",
        "--log-format",
        "json",
        "--status-every",
        "50ms",
    ];
    let (node, word) = scene.leading("a", &flags, "say begin; echo data; sleep 60");
    let line = node.err.until("a status", |line| {
        line.contains(r#""event":"status""#) && line.contains(r#""is_leader":true"#)
    });
    let status: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(status["fence_token"], word.token);
    node.out.until("the app's own", |line| line == "data");
    assert_eq!(node.out.all(), ["data"]);
}
