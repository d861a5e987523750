//! The picture of every text on fencing, played: a leader takes its token, works, and is
//! paused, app and sidecar; another leads and writes; the first wakes and writes.

use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;

use super::app::App;
use super::process::{BOUND, Node, file_url, finish};

/// `writer` prepares an example that writes what the given command prints; `stored`
/// reads what is there. How the refused writer put it into words is returned.
#[track_caller]
pub fn bounces(writer: &dyn Fn(&[&str]) -> Command, stored: &dyn Fn() -> String) -> String {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let first = Node::leading(&url, &["--ttl", "3s", "--id", "first"]);
    let second = Node::following(&url, &["--ttl", "3s", "--id", "second"]);

    // Who does not lead does not get as far as a write.
    let mut refused = writer(&["echo", "thief"]);
    assert_ne!(
        finish(refused.env("TENURE_API", second.url()), b"").code,
        Some(0)
    );

    let gate = dir.path().join("gate");
    let work = format!(
        "echo working >&2; until [ -e {} ]; do sleep 0.02; done; echo old",
        gate.display()
    );
    let mut stale = writer(&["sh", "-c", &work]);
    let mut stale = App::start(stale.env("TENURE_API", first.url()));
    // It has its token now: every example takes that first.
    stale.err.until("its work", |line| line == "working");
    stale.signal(Signal::STOP);
    first.signal(Signal::STOP);

    second.until("leads", |status| status["is_leader"] == true);
    written(writer(&["echo", "new"]), &[&second]);
    assert_eq!(stored(), "new");

    std::fs::write(&gate, "").unwrap();
    first.signal(Signal::CONT);
    stale.signal(Signal::CONT);
    let status = stale.exit();
    stale.err.ended();
    let told = stale.err.all().join("\n");
    assert!(!status.success(), "{told}");
    assert_eq!(stored(), "new", "{told}");

    // Whoever is the leader in force goes on writing.
    written(writer(&["echo", "newer"]), &[&second, &first]);
    assert_eq!(stored(), "newer");
    told
}

/// By whichever of these leads: on a busy machine leadership may have moved once more.
#[track_caller]
fn written(mut writer: Command, by: &[&Node]) {
    let end = Instant::now() + BOUND;
    let mut told = String::new();
    for node in by.iter().cycle() {
        assert!(Instant::now() < end, "nobody can write: {told}");
        let ended = finish(writer.env("TENURE_API", node.url()), b"");
        if ended.code == Some(0) {
            return;
        }
        told = ended.err;
    }
}
