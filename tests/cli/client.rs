//! The commands that ask a running sidecar.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::LONG;
use super::ports::free_port;
use super::process::{Ended, Node, file_url, finish, run, tenure};
use super::redis_server::RedisServer;

fn ask(node: &Node, arguments: &[&str]) -> Ended {
    put(node, arguments, b"")
}

/// Asks with this on stdin.
fn put(node: &Node, arguments: &[&str], input: &[u8]) -> Ended {
    finish(
        tenure().args(arguments).env("TENURE_API", node.url()),
        input,
    )
}

fn two() -> (Node, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let leader = Node::leading(
        &url,
        &[LONG, &["--id", "first", "--url", "http://a:1"]].concat(),
    );
    let follower = Node::following(&url, &[LONG, &["--id", "second"]].concat());
    (leader, follower, dir)
}

#[test]
fn status_in_words_and_json() {
    let (leader, follower, _dir) = two();
    for node in [&leader, &follower] {
        let text = ask(node, &["status"]).ok().text();
        let epoch = leader.token().to_string();
        for word in ["default", "first", "http://a:1", epoch.as_str(), "file://"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let json = ask(node, &["status", "--json"]).ok().json();
        let mut status = node.status();
        for moving in ["time", "lease", "backend"] {
            status[moving] = json[moving].clone();
        }
        assert_eq!(json, status);
        let flag = run(&["status", "--api", &node.url(), "--json"]).ok().json();
        assert_eq!(flag["id"], json["id"]);
        let named = ask(node, &["status", "--election", "default"]).ok();
        assert!(named.text().contains("default"));
    }
}

#[test]
fn token_validate_and_healthcheck() {
    let (leader, follower, _dir) = two();
    let token = leader.token().to_string();
    assert_eq!(ask(&leader, &["token"]).ok().text(), format!("{token}\n"));
    let json = ask(&leader, &["token", "--json"]).ok().json();
    assert_eq!(json, serde_json::json!({"fence_token": leader.token()}));
    let refused = ask(&follower, &["token", "--json"]);
    assert!(refused.code == Some(1) && refused.out.is_empty());
    let refused = ask(&follower, &["token"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.out.is_empty() && refused.err.contains("first"),
        "{}",
        refused.err
    );
    for node in [&leader, &follower] {
        ask(node, &["healthcheck"]).ok();
        let valid = ask(node, &["validate", &token]).ok().text();
        assert!(valid.contains("current"), "{valid}");
        let json = ask(node, &["validate", &token, "--json"]).ok().json();
        assert_eq!(json["valid"], true);
        let stale = ask(node, &["validate", "1"]);
        assert_eq!(stale.code, Some(1));
        assert!(stale.text().contains("stale") && stale.text().contains(&token));
        let stale = ask(node, &["validate", "1", "--json"]);
        assert_eq!(stale.code, Some(1));
        assert_eq!(stale.json()["reason"], "stale");
    }
    for wrong in ["0", "-1", "abc", "1.5", "9007199254740992"] {
        let ended = ask(&leader, &["validate", wrong]);
        assert_eq!(ended.code, Some(78), "{wrong}: {}", ended.err);
        assert!(ended.err.contains(wrong), "{}", ended.err);
    }
}

#[test]
fn a_checkpoint_goes_through_byte_by_byte() {
    let (leader, follower, _dir) = two();
    let absent = ask(&leader, &["checkpoint", "get"]);
    assert_eq!(absent.code, Some(1), "{}", absent.err);
    assert!(absent.out.is_empty());
    let bytes: Vec<u8> = (0..=255).cycle().take(65_536).collect();
    let first = put(&leader, &["checkpoint", "put", "--if-none-match"], &bytes).ok();
    let revision = first.text().trim().to_owned();
    assert_eq!(revision, format!("{}.1", leader.token()));
    for node in [&leader, &follower] {
        assert_eq!(ask(node, &["checkpoint", "get"]).ok().out, bytes);
    }
    let json = ask(&leader, &["checkpoint", "get", "--json"]).ok().json();
    assert_eq!(json["revision"], revision);
    assert!(json["value_base64"].is_string());

    let again = put(&leader, &["checkpoint", "put", "--if-none-match"], b"x");
    assert_eq!(again.code, Some(1), "{}", again.err);
    let second = put(
        &leader,
        &["checkpoint", "put", "--if-match", &revision, "--json"],
        b"text",
    )
    .ok();
    assert_ne!(second.json()["revision"], revision);
    let json = ask(&follower, &["checkpoint", "get", "--json"]).ok().json();
    assert_eq!(json["value"], "text");
    let late = put(
        &leader,
        &["checkpoint", "put", "--if-match", &revision],
        b"late",
    );
    assert_eq!(late.code, Some(1));
    let empty = put(&leader, &["checkpoint", "put"], b"").ok();
    assert!(!empty.out.is_empty());
    assert!(ask(&leader, &["checkpoint", "get"]).ok().out.is_empty());

    let thief = put(&follower, &["checkpoint", "put"], b"x");
    assert_eq!(thief.code, Some(1), "{}", thief.err);
    let token = leader.token().to_string();
    let thief = put(&follower, &["checkpoint", "put", "--token", &token], b"x");
    assert_eq!(thief.code, Some(1), "{}", thief.err);
    for wrong in [
        &["--token", "abc"],
        &["--token", "0"],
        &["--token", "4\n2"],
        &["--if-match", "abc"],
        &["--if-match", "a\nb"],
    ] {
        let ended = put(
            &leader,
            &[&["checkpoint", "put"], &wrong[..]].concat(),
            b"x",
        );
        assert_eq!(ended.code, Some(78), "{wrong:?}: {}", ended.err);
        assert!(ended.err.contains(wrong[0]), "{wrong:?}: {}", ended.err);
    }
}

#[test]
fn a_checkpoint_above_the_limit_is_refused_before_it_is_all_read() {
    let (leader, _follower, _dir) = two();
    let large = put(&leader, &["checkpoint", "put"], &vec![1; 65_537]);
    assert_eq!(large.code, Some(78), "{}", large.err);
    assert!(large.err.contains("65536"), "{}", large.err);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "exec \"$0\" checkpoint put < /dev/zero"])
        .arg(tenure().get_program());
    command.env("TENURE_API", leader.url());
    assert_eq!(finish(&mut command, b"").code, Some(78));
}

#[test]
fn stepdown_and_history() {
    let (leader, follower, _dir) = two();
    let epoch = leader.token().to_string();
    for (flag, wrong) in [
        ("--cooldown", "soon"),
        ("--wait", "5"),
        ("--to", ""),
        ("--to", "a\nb"),
    ] {
        let ended = ask(&leader, &["stepdown", flag, wrong]);
        assert_eq!(ended.code, Some(78), "{flag} {wrong}: {}", ended.err);
        assert!(ended.err.contains(flag), "{flag} {wrong:?}: {}", ended.err);
    }
    let wrong = [
        ["--wait", "x"],
        ["--cooldown", "y"],
        ["--to", ""],
        ["--election", "a/b"],
        ["--api", "h:1"],
        ["--api-token-file", "/nonexistent"],
    ];
    let all = ask(&leader, &[&["stepdown"], wrong.as_flattened()].concat());
    assert_eq!(all.code, Some(78), "{}", all.err);
    for [flag, _] in wrong {
        assert!(all.err.contains(flag), "{flag}: {}", all.err);
    }
    assert_eq!(all.err.lines().count(), wrong.len(), "{}", all.err);
    assert_eq!(leader.status()["is_leader"], true);
    let none = ask(&follower, &["stepdown"]);
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("first"), "{}", none.err);
    let flags = [
        "stepdown",
        "--reason",
        "deploy",
        "--cooldown",
        "10s",
        "--wait",
        "10s",
        "--to",
        "second",
    ];
    let done = ask(&leader, &flags).ok();
    assert!(done.text().contains(&epoch), "{}", done.text());
    follower.until("leads", |status| status["is_leader"] == true);
    let json = ask(&follower, &["stepdown", "--json"]).ok().json();
    assert_eq!(json["released"], true);

    let text = ask(&leader, &["history"]).ok().text();
    assert!(
        text.lines()
            .any(|line| line.contains("stepping_down") && line.contains(&epoch)),
        "{text}"
    );
    let json = ask(&leader, &["history", "--json"]).ok().json();
    assert!(json.as_array().unwrap().len() >= 3);
}

#[test]
fn without_a_sidecar_every_command_is_69() {
    let api = format!("http://127.0.0.1:{}", free_port());
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["stepdown"],
        &["token"],
        &["validate", "1"],
        &["checkpoint", "get"],
        &["checkpoint", "put"],
        &["history"],
        &["healthcheck"],
    ] {
        let ended = finish(tenure().args(arguments).env("TENURE_API", &api), b"");
        assert_eq!(ended.code, Some(69), "{arguments:?}: {ended:?}");
        assert!(ended.out.is_empty());
        assert!(ended.err.contains(&api), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains("tenure run"), "{}", ended.err);
    }
    // Something else that listens there is no sidecar either.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", other.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in other.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"220 mail.example ESMTP\r\n");
        }
    });
    let ended = run(&["status", "--api", &api]);
    assert_eq!(ended.code, Some(69), "{ended:?}");
}

#[test]
fn without_its_store_a_sidecar_answers_what_it_can() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "20s", "--call-timeout", "200ms"]);
    let token = node.token().to_string();
    redis.pause();
    for arguments in [&["validate", token.as_str()][..], &["checkpoint", "get"]] {
        let ended = ask(&node, arguments);
        assert_eq!(ended.code, Some(69), "{arguments:?}: {ended:?}");
    }
    ask(&node, &["status"]).ok();
    ask(&node, &["healthcheck"]).ok();
    redis.resume();
}

#[test]
fn a_healthcheck_of_a_hung_sidecar_fails_before_docker_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::leading(&file_url(dir.path()), LONG);
    node.signal(Signal::STOP);
    let begun = Instant::now();
    let ended = ask(&node, &["healthcheck"]);
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    node.signal(Signal::CONT);
}

#[test]
fn wrong_addresses_and_names_are_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::leading(&file_url(dir.path()), LONG);
    for wrong in [
        "127.0.0.1:4040",
        "https://127.0.0.1:1",
        "http://h/path",
        "http://",
        "ftp://h",
        "http://h:99999",
    ] {
        let ended = run(&["status", "--api", wrong]);
        assert_eq!(ended.code, Some(78), "{wrong}: {ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{wrong}: {}", ended.err);
        assert!(ended.err.contains(wrong) && ended.err.contains("http://127.0.0.1:4040"));
    }
    for wrong in ["a b", "a/b", "..", "", "ghost"] {
        let ended = ask(&node, &["status", "--election", wrong]);
        assert_eq!(ended.code, Some(78), "{wrong}: {ended:?}");
        assert!(ended.err.contains(wrong), "{wrong}: {}", ended.err);
    }
    // A variable that is set to nothing is not set: the usual address is asked.
    let ended = finish(tenure().args(["status"]).env("TENURE_API", ""), b"");
    assert!(ended.code == Some(69) || ended.code == Some(0), "{ended:?}");
}
