//! Signed calls, and keys that are rotated. (The signature itself is checked against the
//! specification's vector where it is made.)

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tenure::hook::Secrets;

use super::app::{App, Asked};
use super::leader;
use super::process::file_url;

const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn signed_by(asked: &Asked, file: &Path) -> bool {
    let id = asked.header("webhook-id").unwrap();
    let timestamp: u64 = asked.header("webhook-timestamp").unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(timestamp) < 30);
    let wanted = Secrets::read(file)
        .unwrap()
        .sign(id, timestamp, &asked.body);
    asked.header("webhook-signature") == Some(wanted.as_str())
}

#[test]
fn keys_are_rotated_without_a_restart_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let copy = dir.path().join("copy");
    std::fs::write(&file, FIRST).unwrap();
    let app = App::start();
    let flags = ["--ttl", "30s", "--hook-secret-file", file.to_str().unwrap()];
    let store = file_url(&dir.path().join("store"));
    let node = leader(&store, &app, &flags);
    let first = app.until_kind("leadership.acquired");
    assert!(signed_by(&first, &file));
    let tampered = Asked {
        body: [first.body.as_slice(), b" "].concat(),
        ..first
    };
    assert!(!signed_by(&tampered, &file));
    // Written anew for each step: the next call is signed by what stands there then.
    for keys in [
        format!("{SECOND}\n{FIRST}\n"),
        SECOND.to_owned(),
        String::new(),
    ] {
        let before = app.asked().len();
        std::fs::write(&file, &keys).unwrap();
        if !keys.is_empty() {
            std::fs::write(&copy, &keys).unwrap();
        }
        node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
        let later = app.until_all("a call after the change", |asked| {
            let kind = |asked: &&Asked| asked.kind() == "leadership.acquired";
            asked.iter().skip(before).find(kind).cloned()
        });
        assert!(signed_by(&later, &copy), "{keys:?}: {later:?}");
        let count = keys.lines().count().max(1);
        let signatures = later.header("webhook-signature").unwrap().split(' ');
        assert_eq!(signatures.count(), count, "{keys:?}");
    }
    node.err.until("the trouble with the file", |line| {
        line.contains("--hook-secret-file") && !line.contains("whsec_C2")
    });
}
