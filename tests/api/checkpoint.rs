//! `/checkpoint`: a small value, fenced where the lease is.

use super::http::{Reply, request};
use super::process::{Node, file_url};
use super::redis_server::RedisServer;
use super::{Alone, LONG, Pair};

fn etag(reply: &Reply) -> String {
    assert_eq!(reply.status, 204, "{}", reply.text());
    assert!(reply.body.is_empty());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    reply.header("etag").unwrap().to_owned()
}

#[test]
fn what_the_leader_writes_every_node_reads() {
    let pair = Pair::new(&[]);
    let token = pair.leader.token().to_string();
    for node in [&pair.leader, &pair.follower] {
        node.get("/checkpoint").problem(404, "no-checkpoint");
    }
    let mut tags = Vec::new();
    for value in [&b"one"[..], b"", &[0, 255, 13, 10, 0], b"{\"count\":3}"] {
        let tag = etag(&pair.leader.put(&[("Fence-Token", &token)], value));
        assert!(!tags.contains(&tag), "{tag} again");
        // "<epoch>.<seq>", quoted.
        let bare = tag.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        assert_eq!(bare.split_once('.').unwrap().0, token);
        for node in [&pair.leader, &pair.follower] {
            let reply = node.get("/checkpoint");
            assert_eq!(reply.status, 200);
            assert_eq!(reply.body, value);
            assert_eq!(reply.header("etag"), Some(tag.as_str()));
            assert_eq!(reply.header("tenure-epoch"), Some(token.as_str()));
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            let head = request(node.api, "HEAD", "/checkpoint", &[], b"");
            assert_eq!(head.header("etag"), Some(tag.as_str()));
        }
        tags.push(tag);
    }
}

#[test]
fn conditions_make_a_retried_write_idempotent() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let token = node.token().to_string();
    let put = |condition: (&str, &str), value: &[u8]| {
        node.put(&[("Fence-Token", &token), condition], value)
    };
    let first = etag(&put(("If-None-Match", "*"), b"a"));
    let again = put(("If-None-Match", "*"), b"a").problem(412, "revision-mismatch");
    let bare = first.trim_matches('"');
    assert_eq!(again["revision"], bare);
    assert_eq!(again["epoch"].to_string(), token);
    let second = etag(&put(("If-Match", &first), b"b"));
    assert_ne!(first, second);
    let late = put(("If-Match", &first), b"late").problem(412, "revision-mismatch");
    assert_eq!(late["revision"], second.trim_matches('"'));
    assert_eq!(node.get("/checkpoint").body, b"b");
    // Revisions are compared as a whole, not as numbers.
    let (epoch, sequence) = second.trim_matches('"').split_once('.').unwrap();
    for other in [
        format!("\"{epoch}.0{sequence}\""),
        format!("\"1.{sequence}\""),
    ] {
        let reply = put(("If-Match", &other), b"x");
        assert!([400, 412].contains(&reply.status), "{other}");
    }
    assert_eq!(node.get("/checkpoint").body, b"b");
}

#[test]
fn wrong_headers_are_told() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let token = node.token().to_string();
    node.put(&[], b"x").problem(400, "malformed");
    for wrong in ["", "0", "-1", "1.5", "abc", "9007199254740992", "\u{e9}"] {
        node.put(&[("Fence-Token", wrong)], b"x")
            .problem(400, "malformed");
    }
    for (name, value) in [
        ("If-Match", "1.2"),
        ("If-Match", "\"abc\""),
        ("If-Match", "*"),
        ("If-Match", "W/\"1.2\""),
        ("If-Match", "\"1.2\", \"1.3\""),
        ("If-None-Match", "\"1.2\""),
        ("If-None-Match", ""),
    ] {
        let reply = node.put(&[("Fence-Token", &token), (name, value)], b"x");
        assert_eq!(reply.status, 400, "{name}: {value}: {}", reply.text());
        reply.problem(400, "malformed");
    }
    let both = [
        ("Fence-Token", token.as_str()),
        ("If-Match", "\"1.2\""),
        ("If-None-Match", "*"),
    ];
    node.put(&both, b"x").problem(400, "malformed");
    let twice = [("Fence-Token", token.as_str()), ("Fence-Token", "5")];
    node.put(&twice, b"x").problem(400, "malformed");
    node.get("/checkpoint").problem(404, "no-checkpoint");
}

#[test]
fn sixty_four_kibibytes_and_no_byte_more() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let token = node.token().to_string();
    let fence = [("Fence-Token", token.as_str())];
    let value: Vec<u8> = (0..65_536_u32).map(|at| (at % 251) as u8).collect();
    etag(&node.put(&fence, &value));
    assert_eq!(node.get("/checkpoint").body, value);
    let problem = node
        .put(&fence, &[value.as_slice(), b"!"].concat())
        .problem(413, "payload-too-large");
    assert!(problem["detail"].as_str().unwrap().contains("65536"));
    // Whatever length is announced or sent, the answer arrives.
    let chunked = [
        ("Fence-Token", token.as_str()),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length-X", "0"),
    ];
    let mut wire = super::http::Wire::open(node.api);
    let head: String = chunked
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    wire.send(format!("PUT /checkpoint HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes());
    for _ in 0..70 {
        if !wire.send(format!("400\r\n{}\r\n", "x".repeat(1024)).as_bytes()) {
            break;
        }
    }
    wire.reply(false).unwrap().problem(413, "payload-too-large");
    node.put(&fence, &vec![7; 4 << 20])
        .problem(413, "payload-too-large");
    assert_eq!(node.get("/checkpoint").body, value);
}

#[test]
fn only_the_leader_in_office_writes() {
    let pair = Pair::new(&[]);
    let old = pair.leader.token().to_string();
    etag(&pair.leader.put(&[("Fence-Token", &old)], b"of the first"));
    // The right token in the wrong hands.
    let stale = pair.follower.put(&[("Fence-Token", &old)], b"thief");
    let stale = stale.problem(409, "stale-token");
    assert_eq!(stale["epoch"].to_string(), old);
    assert_eq!(stale["revision"], format!("{old}.1"));
    for wrong in ["1", "9007199254740991"] {
        pair.leader
            .put(&[("Fence-Token", wrong)], b"x")
            .problem(409, "stale-token");
    }
    let answer = pair
        .leader
        .post("/leadership/stepdown", r#"{"to":"second"}"#);
    assert_eq!(answer.status, 200);
    pair.follower
        .until("leads", |status| status["is_leader"] == true);
    let new = pair.follower.token().to_string();
    // A write of the old leader, however late, and whoever passes it on.
    for node in [&pair.leader, &pair.follower] {
        let stale = node.put(&[("Fence-Token", &old)], b"late");
        let stale = stale.problem(409, "stale-token");
        assert_eq!(stale["epoch"].to_string(), new);
        assert_eq!(stale["revision"], format!("{old}.1"));
    }
    etag(
        &pair
            .follower
            .put(&[("Fence-Token", &new)], b"of the second"),
    );
    assert_eq!(pair.leader.get("/checkpoint").body, b"of the second");
    assert_eq!(
        pair.leader.get("/checkpoint").header("tenure-epoch"),
        Some(new.as_str())
    );
}

#[test]
fn a_value_survives_its_writers_restart() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let flags = [LONG, &["--id", "same"]].concat();
    let mut node = Node::leading(&url, &flags);
    let token = node.token().to_string();
    let tag = etag(&node.put(&[("Fence-Token", &token)], b"kept"));
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    let node = Node::leading(&url, &flags);
    let reply = node.get("/checkpoint");
    assert_eq!(reply.body, b"kept");
    assert_eq!(reply.header("etag"), Some(tag.as_str()));
    // Its own older token is stale now.
    node.put(&[("Fence-Token", &token)], b"late")
        .problem(409, "stale-token");
}

#[test]
fn a_value_that_the_store_lost_is_not_one_never_written() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), LONG);
    let token = node.token().to_string();
    let fence = [("Fence-Token", token.as_str())];
    let tag = etag(&node.put(&fence, b"precious"));
    let bare = tag.trim_matches('"');
    let deleted = redis.command(&["DEL", "tenure:{default}:checkpoint"]);
    assert_eq!(deleted.number(), 1);
    let lost = node.get("/checkpoint").problem(503, "checkpoint-lost");
    assert!(lost["detail"].as_str().unwrap().contains(bare), "{lost}");
    // A blind write does not paper over it; the leader must say that it knows.
    let blind = node.put(&fence, b"blind");
    assert!(!blind.status.to_string().starts_with('2'), "{blind:?}");
    node.get("/checkpoint").problem(503, "checkpoint-lost");
    let anew = [("Fence-Token", token.as_str()), ("If-None-Match", "*")];
    let fresh = etag(&node.put(&anew, b"anew"));
    assert_ne!(fresh, tag);
    assert_eq!(node.get("/checkpoint").body, b"anew");
}

#[test]
fn a_write_that_may_have_happened_says_so() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "20s", "--call-timeout", "300ms"]);
    let token = node.token().to_string();
    let fence = [("Fence-Token", token.as_str())];
    etag(&node.put(&fence, b"before"));
    redis.pause();
    let problem = node
        .put(&fence, b"perhaps")
        .problem(503, "backend-unavailable");
    assert_eq!(problem["outcome"], "unknown");
    // The app reads and compares; this write was in the server's buffer.
    redis.resume();
    let value = loop {
        let reply = node.get("/checkpoint");
        if reply.status == 200 {
            break reply.body;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert!([&b"before"[..], b"perhaps"].contains(&value.as_slice()));
}

#[test]
fn a_write_that_was_never_sent_says_so() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "20s", "--call-timeout", "300ms"]);
    let token = node.token().to_string();
    let fence = [("Fence-Token", token.as_str())];
    drop(redis);
    // The first may meet the connection as it breaks; then nothing is sent at all.
    let end = std::time::Instant::now() + super::process::BOUND;
    loop {
        let problem = node
            .put(&fence, b"never")
            .problem(503, "backend-unavailable");
        if problem["outcome"] == "not_applied" {
            break;
        }
        assert_eq!(problem["outcome"], "unknown");
        assert!(std::time::Instant::now() < end);
    }
}

#[test]
fn a_delayed_older_write_never_lands_on_a_newer_one() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "20s", "--call-timeout", "400ms"]);
    let token = node.token().to_string();
    let fence = [("Fence-Token", token.as_str())];
    etag(&node.put(&fence, b"1"));
    redis.pause();
    let problem = node
        .put(&fence, b"delayed")
        .problem(503, "backend-unavailable");
    assert_eq!(problem["outcome"], "unknown");
    redis.resume();
    // The retry: whether the first attempt is applied before or after it, the value
    // that is acknowledged last stands.
    let tag = loop {
        let reply = node.put(&fence, b"newer");
        if reply.status == 204 {
            break etag(&reply);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    for _ in 0..20 {
        let reply = node.get("/checkpoint");
        assert_eq!(reply.body, b"newer");
        assert_eq!(reply.header("etag"), Some(tag.as_str()));
    }
}

#[test]
fn readers_beside_a_writer_are_never_told_of_a_loss() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let api = node.api;
    let token = node.token().to_string();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let reply = request(api, "GET", "/checkpoint", &[], b"");
                    assert!([200, 404].contains(&reply.status), "{}", reply.text());
                }
            });
        }
        let writes = std::panic::catch_unwind(|| {
            for count in 0..150 {
                let value = count.to_string();
                etag(&node.put(&[("Fence-Token", &token)], value.as_bytes()));
            }
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writes.is_ok());
    });
}
