//! What follows an end that the app chose itself: exit codes and `--restart`.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::Node;
use super::scene::{Scene, WORK, script};

#[track_caller]
fn exit_of(flags: &[&str], app: &str) -> Option<i32> {
    let scene = Scene::new();
    let flags = [&["--ttl", "15s"], flags].concat();
    scene.start("a", &flags, app).exit()
}

#[test]
fn never_passes_every_code_through() {
    let never = &["--restart", "never"];
    assert_eq!(exit_of(never, "exit 0"), Some(0));
    assert_eq!(exit_of(never, "exit 7"), Some(7));
    assert_eq!(exit_of(never, "kill -9 $$"), Some(128 + 9));
    assert_eq!(exit_of(never, "kill -TERM $$"), Some(128 + 15));
}

#[test]
fn on_failure_an_app_that_is_done_ends_the_sidecar() {
    assert_eq!(exit_of(&[], "exit 0"), Some(0));
}

#[test]
fn once_passes_the_code_of_the_one_run_through() {
    assert_eq!(exit_of(&["--once"], "exit 0"), Some(0));
    assert_eq!(
        exit_of(&["--once", "--restart", "always"], "exit 4"),
        Some(4)
    );
    let scene = Scene::new();
    let (mut node, _) = scene.leading("a", &["--ttl", "15s", "--once"], WORK);
    // Nor does it campaign again in the moment that is left to it.
    let begun = Instant::now();
    node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    assert_eq!(node.exit(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(scene.log().len(), 1);
}

#[test]
fn always_runs_it_again_though_it_be_done() {
    let scene = Scene::new();
    let flags = ["--ttl", "1s", "--restart", "always"];
    let node = scene.start("a", &flags, "say begin");
    for before in 0..3 {
        scene.nth("begin", before);
    }
    node.until("counted", |status| {
        status["child"]["restarts"].as_u64() >= Some(2)
    });
}

#[test]
fn an_app_that_is_done_leaves_the_lease_free() {
    let scene = Scene::new();
    let flags = ["--ttl", "30s"];
    let waits = "say begin; until [ -e \"$SCENE/gate\" ]; do sleep 0.05; done";
    let (mut first, _) = scene.leading("a", &flags, waits);
    let _second = scene.following("b", &flags, WORK);
    std::fs::write(scene.path().join("gate"), "").unwrap();
    let begun = Instant::now();
    assert_eq!(first.exit(), Some(0));
    scene.nth("begin", 1);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// Found before anything is started where that can be; else told when it is.
#[test]
fn a_command_whose_interpreter_is_missing_is_127() {
    let scene = Scene::new();
    let path = script(scene.path(), "app", "#!/nonexistent/interpreter\n", 0o755);
    let mut command = scene.bare("a", &["--restart", "never"]);
    command.arg("--").arg(&path);
    let mut node = Node::spawn(&mut command);
    assert_eq!(node.exit(), Some(127));
    node.err.until("why", |line| line.contains("cannot be run"));
}

/// The guard of an app that ends says so and is gone, perhaps before it has read what it
/// was told last: its last words count all the same.
#[test]
fn an_end_is_told_as_it_was_though_an_order_was_on_its_way() {
    let scene = Scene::new();
    let flags = ["--ttl", "2s", "--renew-every", "20ms", "--restart", "never"];
    // The renewals are orders to the guard, and so are the signals.
    let ends = r#"trap '' USR1; say begin; until [ -e "$SCENE/end" ]; do sleep 0.01; done; exit 3"#;
    for round in 0..25 {
        let _ = std::fs::remove_file(scene.path().join("end"));
        let (mut node, _) = scene.leading("a", &flags, ends);
        std::fs::write(scene.path().join("end"), "").unwrap();
        while node.runs() {
            node.signal(Signal::USR1);
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(node.exit(), Some(3), "round {round}: {:#?}", node.err.all());
        node.err.ended();
        let killed = |line: &String| line.contains("guard of the app was killed");
        assert!(!node.err.all().iter().any(killed), "round {round}");
    }
}
