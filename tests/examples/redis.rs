//! `lua/fenced_set.lua` and its example: the app's own keys on Redis.

use std::path::Path;
use std::process::Command;

use super::process::finish;
use super::redis_server::{RedisServer, Reply};
use super::{example, stale_writer};

const SCRIPT: &str = include_str!("../../lua/fenced_set.lua");
const KEY: &str = "report";
const FENCE: &str = "{report}:fence";

fn call(server: &RedisServer, arguments: &[&str]) -> Reply {
    server.command(&[&["EVAL", SCRIPT, "2", KEY, FENCE], arguments].concat())
}

fn ok() -> Reply {
    Reply::Text("OK".to_owned())
}

fn stored(server: &RedisServer) -> (Reply, Reply) {
    (
        server.command(&["GET", KEY]),
        server.command(&["GET", FENCE]),
    )
}

fn text(text: &str) -> Reply {
    Reply::Text(text.to_owned())
}

#[test]
fn a_lower_token_is_refused_and_nothing_changes() {
    let server = RedisServer::start();
    // As texts, the second of each pair is the lower one; as printed doubles, the last
    // two are the same.
    let rising = [
        ("9", "10"),
        ("99", "1000"),
        ("999999999999999", "1000000000000000"),
        ("9007199254740990", "9007199254740991"),
    ];
    for (lower, higher) in rising {
        assert_eq!(call(&server, &[lower, "a"]), ok());
        assert_eq!(call(&server, &[higher, "b"]), ok());
        let refusal = call(&server, &[lower, "late"]);
        let refusal = refusal.error();
        assert!(refusal.starts_with("STALE "), "{refusal}");
        assert!(
            refusal.contains(lower) && refusal.contains(higher),
            "{refusal}"
        );
        assert_eq!(stored(&server), (text("b"), text(higher)));
        // The same leader, again and again.
        assert_eq!(call(&server, &[higher, "c"]), ok());
        assert_eq!(stored(&server), (text("c"), text(higher)));
    }
}

#[test]
fn a_fence_is_raised_without_a_write() {
    let server = RedisServer::start();
    assert_eq!(call(&server, &["7", "a"]), ok());
    assert_eq!(call(&server, &["8"]), ok());
    assert_eq!(stored(&server), (text("a"), text("8")));
    assert!(call(&server, &["7", "late"]).error().starts_with("STALE "));
    assert!(call(&server, &["7"]).error().starts_with("STALE "));
}

#[test]
fn values_end_and_fences_do_not() {
    let server = RedisServer::start();
    assert_eq!(call(&server, &["7", "a", "60000"]), ok());
    let left = server.command(&["PTTL", KEY]).number();
    assert!((1..=60_000).contains(&left), "{left}");
    let forever = Reply::Number(-1);
    assert_eq!(server.command(&["PTTL", FENCE]), forever);
    server.command(&["PEXPIRE", FENCE, "60000"]);
    assert_eq!(call(&server, &["7", "b"]), ok());
    assert_eq!(server.command(&["PTTL", FENCE]), forever);
    assert_eq!(server.command(&["PTTL", KEY]), forever);
    // A value that ended, or was deleted, leaves its fence behind.
    server.command(&["DEL", KEY]);
    assert!(call(&server, &["6", "late"]).error().starts_with("STALE "));
}

#[test]
fn what_is_no_token_is_refused_with_a_reason() {
    let server = RedisServer::start();
    assert_eq!(call(&server, &["7", "a"]), ok());
    let wrong = [
        "",
        "0",
        "-1",
        " 8",
        "8 ",
        "8.0",
        "8e3",
        "0x10",
        "1e400",
        "nan",
        "inf",
        "abc",
        "9007199254740992",
        "99999999999999999",
        "8\n",
    ];
    for token in wrong {
        let refusal = call(&server, &[token, "b"]);
        assert!(
            refusal.error().starts_with("ERR "),
            "{token:?}: {refusal:?}"
        );
        assert!(refusal.error().contains("2^53-1"), "{token:?}: {refusal:?}");
    }
    for ttl in ["", "0", "-1", "1.5", "soon"] {
        let refusal = call(&server, &["8", "b", ttl]);
        assert!(refusal.error().starts_with("ERR "), "{ttl:?}: {refusal:?}");
    }
    for arguments in [&[][..], &["8", "b", "1", "more"]] {
        assert!(call(&server, arguments).error().starts_with("ERR "));
    }
    let keys: [&[&str]; 3] = [&["0"], &["1", KEY], &["2", KEY, KEY]];
    for keys in keys {
        let refusal = server.command(&[&["EVAL", SCRIPT], keys, &["8", "b"]].concat());
        assert!(refusal.error().starts_with("ERR "), "{refusal:?}");
    }
    assert_eq!(stored(&server), (text("a"), text("7")));
}

#[test]
fn a_fence_that_cannot_be_read_lets_nobody_through() {
    let server = RedisServer::start();
    for broken in ["", "abc", "0", "1e+15", "9007199254740992", "7.0"] {
        server.command(&["SET", FENCE, broken]);
        let refusal = call(&server, &["8", "b"]);
        assert!(
            refusal.error().starts_with("CORRUPT "),
            "{broken:?}: {refusal:?}"
        );
        assert!(refusal.error().contains("to repair"), "{refusal:?}");
        assert_eq!(stored(&server), (Reply::Nil, text(broken)));
    }
    server.command(&["DEL", FENCE]);
    server.command(&["RPUSH", FENCE, "8"]);
    let refusal = call(&server, &["8", "b"]);
    assert!(refusal.error().starts_with("CORRUPT "), "{refusal:?}");
    assert!(refusal.error().contains("list"), "{refusal:?}");
}

#[test]
fn in_a_cluster_value_and_fence_live_in_one_slot() {
    let flags = [
        "--save",
        "",
        "--appendonly",
        "no",
        "--cluster-enabled",
        "yes",
    ];
    let server = RedisServer::start_with(&flags);
    let mut all = vec!["CLUSTER".to_owned(), "ADDSLOTS".to_owned()];
    all.extend((0..16_384).map(|slot| slot.to_string()));
    assert_eq!(server.raw().command(&all), ok());
    let end = std::time::Instant::now() + super::process::BOUND;
    while !server
        .command(&["CLUSTER", "INFO"])
        .text()
        .contains("cluster_state:ok")
    {
        assert!(
            std::time::Instant::now() < end,
            "the cluster is never ready"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(call(&server, &["7", "a"]), ok());
    let apart = server.command(&["EVAL", SCRIPT, "2", KEY, "report:fence", "7", "a"]);
    assert!(apart.error().starts_with("CROSSSLOT"), "{apart:?}");
    for key in ["report", "{orders}:1", "a{tag}b"] {
        let mut writer = example("fencing/redis.sh");
        writer
            .args([&server.url(), key, "echo", "x"])
            .env("TENURE_FENCE_TOKEN", "7");
        finish(&mut writer, b"").ok();
        assert_eq!(server.command(&["GET", key]), text("x"));
    }
}

#[test]
fn the_usage_in_its_header_works_as_written() {
    let server = RedisServer::start();
    let usage = SCRIPT
        .lines()
        .find_map(|line| line.strip_prefix("--     redis-cli"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("redis-cli{}", usage.unwrap())]);
    shell.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    shell.envs([
        ("REDIS_URL", server.url().as_str()),
        ("TOKEN", "7"),
        ("VALUE", "as written"),
    ]);
    assert_eq!(finish(&mut shell, b"").ok().text(), "OK\n");
    assert_eq!(stored(&server), (text("as written"), text("7")));
}

#[test]
fn the_late_write_of_a_paused_leader_bounces() {
    let server = RedisServer::start();
    let writer = |work: &[&str]| {
        let mut writer = example("fencing/redis.sh");
        writer.arg(server.url()).arg(KEY).args(work);
        writer
    };
    let stored = || server.command(&["GET", KEY]).text().to_owned();
    let told = stale_writer::bounces(&writer, &stored);
    assert!(
        told.contains("STALE") && told.contains("stop leading"),
        "{told}"
    );
}
