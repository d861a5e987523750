//! `--state-dir`: what a node remembers of an election across its restarts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::Signal;

use super::LONG;
use super::process::{Ended, Node, file_url, run};
use super::redis_server::RedisServer;

fn refused(backend: &str, state: &Path) -> Ended {
    let state = state.display().to_string();
    let flags = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "--backend",
        backend,
        "--state-dir",
        &state,
    ];
    let ended = run(&flags);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.out.is_empty(), "{}", ended.text());
    assert!(ended.err.contains("--state-dir"), "{}", ended.err);
    assert!(ended.err.contains(&state), "{}", ended.err);
    ended
}

#[test]
fn an_epoch_is_remembered_though_the_store_forgot() {
    let redis = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("made/when/missing");
    let flags = ["--ttl", "1s", "--state-dir", state.to_str().unwrap()];
    let mut node = Node::leading(&redis.url(), &flags);
    let epoch = node.token();
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    // Far above any clock, as a store with another clock would have given it.
    let file = state.join("default.seen.json");
    let far = epoch + 1_000_000_000_000;
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&epoch.to_string()), "{text}");
    fs::write(&file, text.replace(&epoch.to_string(), &far.to_string())).unwrap();
    redis.command(&["FLUSHALL"]);
    let node = Node::leading(&redis.url(), &flags);
    assert!(node.token() > far, "{} after {far}", node.token());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&node.token().to_string()), "{text}");
}

#[test]
fn a_second_process_with_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let backend = file_url(&dir.path().join("leases"));
    let flags = [LONG, &["--state-dir", state.to_str().unwrap()]].concat();
    let node = Node::leading(&backend, &flags);
    let ended = refused(&backend, &state);
    assert!(ended.err.contains("in use"), "{}", ended.err);
    assert_eq!(node.status()["is_leader"], true);
    drop(node);
    // Killed without a goodbye, it leaves nothing in the way.
    Node::start(&backend, &flags);
}

#[test]
fn a_damaged_record_is_refused_and_left_alone() {
    for damage in [
        &b"{\"epoch\":9"[..],
        b"",
        b"{\"epoch\":-1}",
        b"{\"epoch\":9007199254740992}",
        b"[]",
        b"\0\0",
        b"{\"epcoh\":1}",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("default.seen.json");
        fs::write(&file, damage).unwrap();
        let ended = refused(&file_url(&dir.path().join("leases")), dir.path());
        assert!(ended.err.contains("default.seen.json"), "{}", ended.err);
        assert_eq!(fs::read(&file).unwrap(), damage);
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let backend = file_url(&dir.path().join("leases"));
    refused(&backend, &file);
    refused(&backend, &file.join("below"));
    // /proc takes no files, whoever asks.
    refused(&backend, Path::new("/proc/tenure"));
    refused(&backend, Path::new("/sys"));
}

#[test]
fn no_epoch_is_acted_on_that_a_full_disk_would_forget() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    // Whatever is written there fails with "no space left on device".
    symlink("/dev/full", state.join("default.seen.new")).unwrap();
    let flags = ["--ttl", "1s", "--state-dir", state.to_str().unwrap()];
    let node = Node::start(&file_url(&dir.path().join("leases")), &flags);
    // A busy machine may have another trouble first.
    let told =
        |status: &serde_json::Value| status["backend"]["trouble"].as_str().map(str::to_owned);
    let status = node.until("told that no space is left", |status| {
        assert_eq!(status["is_leader"], false, "{status:#}");
        told(status).is_some_and(|trouble| trouble.contains("No space left"))
    });
    let trouble = told(&status).unwrap();
    assert!(trouble.contains(state.to_str().unwrap()), "{trouble}");
    node.get("/fence-token").problem(409, "not-leader");
    assert_eq!(node.get("/livez").status, 200);
    // With room again, it goes on by itself.
    fs::remove_file(state.join("default.seen.new")).unwrap();
    node.until("leads", |status| status["is_leader"] == true);
}
