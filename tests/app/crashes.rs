//! Apps that end again and again.

use std::time::{Duration, Instant};

use super::scene::{Scene, WORK};

/// child-trouble: a crash loop gives leadership up, says so, and leaves it to others.
#[test]
fn a_crash_loop_stays_out_and_others_lead() {
    let scene = Scene::new();
    let flags = ["--ttl", "1s", "--crash-loop", "3 in 30s"];
    let looping = scene.start("a", &flags, "say crash; exit 1");
    let status = looping.until("told of the loop", |status| {
        let trouble = status["child"]["trouble"].as_str();
        trouble.is_some_and(|text| text.contains("crash loop: the app ended 3 in 30s"))
    });
    assert_eq!(scene.words("crash").len(), 3);
    assert_eq!(status["child"]["restarts"], 2);
    looping.err.until("the same in the log", |line| {
        line.contains("ERROR") && line.contains("crash loop") && line.contains("others may lead")
    });
    // It is out though nobody else leads, and names who leads later.
    assert_eq!(looping.status()["is_leader"], false);
    let (healthy, word) = scene.leading("b", &flags, WORK);
    looping.until("follows", |status| status["leader"]["id"] == "b");
    // Its own pause is far from over: others may come and go.
    healthy.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    let again = scene.nth("begin", 1);
    assert_eq!(again.node, "b");
    assert!(again.token > word.token);
    assert_eq!(scene.words("crash").len(), 3);
}

/// After its pause it may lead again, and pauses for longer the next time.
#[test]
fn after_its_pause_it_may_lead_again() {
    let scene = Scene::new();
    let flags = ["--ttl", "500ms", "--crash-loop", "2 in 2s"];
    let mends = r#"say crash; [ -e "$SCENE/mended" ] || exit 1; say begin; sleep 60"#;
    let node = scene.start("a", &flags, mends);
    let pause = |text: &str| {
        node.until("out for that long", |status| {
            let trouble = status["child"]["trouble"].as_str();
            trouble.is_some_and(|trouble| trouble.contains(text))
        });
        Instant::now()
    };
    let first = pause("stays out for 2s");
    let second = pause("stays out for 4s");
    assert!(second - first > Duration::from_millis(1_800));
    std::fs::write(scene.path().join("mended"), "").unwrap();
    scene.nth("begin", 0);
    assert!(second.elapsed() > Duration::from_millis(3_800));
    let crashes = scene.words("crash").len();
    assert_eq!(crashes, 5, "twice two that crashed, and one that did not");
    node.until("no more trouble", |status| {
        status["child"]["trouble"].is_null()
    });
}
