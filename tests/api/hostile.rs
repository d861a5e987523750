//! Clients that mean ill: too much, too slow, too many, no HTTP at all. Whatever
//! they do, the lease is renewed on time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Wire, raw, request};
use super::process::{Node, file_url, tenure};
use super::redis_server::RedisServer;
use super::{Alone, LONG};

/// Runs `trouble` beside a leader with a short lease; it must lead on in one tenure,
/// with its lease renewed all the while.
fn leads_on_beside(trouble: impl FnOnce(SocketAddr) + Send) {
    let dir = tempfile::tempdir().unwrap();
    // A call may take a second: on a busy machine, too, nothing happens to the lease.
    let node = Node::leading(&file_url(dir.path()), &["--ttl", "6s"]);
    let before = node.status();
    let api = node.api;
    std::thread::scope(|scope| {
        let troubled = scope.spawn(move || trouble(api));
        let end = Instant::now() + Duration::from_millis(7500);
        while Instant::now() < end || !troubled.is_finished() {
            let begun = Instant::now();
            let status = node.status();
            assert_eq!(status["fence_token"], before["fence_token"], "{status:#}");
            assert!(begun.elapsed() < Duration::from_secs(2), "a slow answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Err(panic) = troubled.join() {
            std::panic::resume_unwind(panic);
        }
    });
    let after = node.status();
    assert_eq!(after["revision"], before["revision"], "{after:#}");
    let renewed = |status: &Value| -> jiff::Timestamp {
        let text = status["lease"]["renewed_at"].as_str().unwrap();
        text.parse().unwrap()
    };
    let moved = renewed(&after).as_millisecond() - renewed(&before).as_millisecond();
    // Renewed every 2 s: over 7.5 s at least twice.
    assert!(moved >= 3900, "{moved} ms");
}

#[test]
fn headers_above_the_limit_are_431() {
    leads_on_beside(|api| {
        for size in [17 * 1024, 1 << 20] {
            let mut wire = Wire::open(api);
            wire.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\nX: ");
            wire.send(&vec![b'x'; size]);
            wire.send(b"\r\n\r\n");
            let reply = wire.reply(false).expect("an answer");
            reply.problem(431, "request-header-fields-too-large");
            assert!(wire.closes(), "{size}");
        }
        let many: String = (0..2000).map(|at| format!("X{at}: 1\r\n")).collect();
        let bytes = format!("GET /status HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
        let reply = raw(api, bytes.as_bytes()).expect("an answer");
        reply.problem(431, "request-header-fields-too-large");
        // No more than 16 KiB, and more headers than are taken.
        let many: String = (0..200).map(|at| format!("X{at}: 1\r\n")).collect();
        let bytes = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
        let reply = raw(api, bytes.as_bytes()).expect("an answer");
        reply.problem(431, "request-header-fields-too-large");
        let path = format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "p".repeat(20_000)
        );
        let status = raw(api, path.as_bytes()).map(|reply| reply.status);
        assert!([Some(414), Some(431)].contains(&status), "{status:?}");
    });
}

#[test]
fn what_is_no_http_is_refused_and_forgotten() {
    leads_on_beside(|api| {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let redis = b"*1\r\n$4\r\nPING\r\n";
        for bytes in [
            &hello[..],
            preface,
            redis,
            b"\0\0\0\0",
            b"GET\r\n\r\n",
            b"GET /status\r\n\r\n",
            b"GET /status HTTP/9.9\r\n\r\n",
            b"GET /status HTTP/1.1\r\nHost localhost\r\n\r\n",
            b"GET /status HTTP/1.1\r\nHost: a\r\n b: folded\r\n\r\n",
            b"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"POST /fence-token/validate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        ] {
            let mut wire = Wire::open(api);
            wire.send(bytes);
            if let Some(reply) = wire.reply(false) {
                assert!((400..600).contains(&reply.status), "{bytes:?}: {reply:?}");
                reply.problem(400, "malformed");
            }
            assert!(wire.closes());
        }
    });
}

#[test]
fn a_request_that_cannot_be_read_is_told_what_is_wrong_like_any_other() {
    let alone = Alone::new(&[]);
    for head in [
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n",
        "GET /li\u{7f}vez HTTP/1.1\r\nHost: localhost\r\n",
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n",
    ] {
        // After answers to requests that could be read.
        let mut wire = Wire::open(alone.node.api);
        for _ in 0..3 {
            assert_eq!(wire.get("/leader").status, 200);
        }
        wire.send(format!("{head}\r\n").as_bytes());
        let reply = wire.reply(false).expect("an answer");
        let problem = reply.problem(400, "malformed");
        assert_eq!(reply.header("connection"), Some("close"));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("Content-Length"), "{detail}");
        assert!(wire.closes(), "{head}");
    }
    // A value that looks like such an answer stays what it is.
    let node = &alone.node;
    let token = node.token().to_string();
    let value = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".repeat(1_000);
    let headers = [("Fence-Token", token.as_str())];
    let put = request(node.api, "PUT", "/checkpoint", &headers, &value);
    assert_eq!(put.status, 204, "{}", put.text());
    assert_eq!(node.get("/checkpoint").body, value);
}

#[test]
fn slow_clients_are_timed_out() {
    leads_on_beside(|api| {
        let mut headers = Wire::open(api);
        headers.send(b"GET /status HTTP/1.1\r\nHost: local");
        let mut body = Wire::open(api);
        body.send(
            b"POST /fence-token/validate HTTP/1.1\r\nHost: localhost\r\n\
              Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"tok",
        );
        let mut put = Wire::open(api);
        put.send(
            b"PUT /checkpoint HTTP/1.1\r\nHost: localhost\r\nFence-Token: 1\r\n\
              Content-Length: 100\r\n\r\nslow",
        );
        let begun = Instant::now();
        let reply = headers.reply(false).unwrap();
        assert_eq!(reply.status, 408);
        reply.problem(408, "request-timeout");
        body.reply(false).unwrap().problem(408, "request-timeout");
        put.reply(false).unwrap().problem(408, "request-timeout");
        let held = begun.elapsed().as_secs_f64();
        assert!((9.0..13.0).contains(&held), "{held}");
        assert!(headers.closes() && body.closes() && put.closes());
    });
}

#[test]
fn bodies_that_break_off_change_nothing() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let token = node.token();
    for _ in 0..20 {
        let mut wire = Wire::open(node.api);
        wire.send(
            format!(
                "PUT /checkpoint HTTP/1.1\r\nHost: localhost\r\nFence-Token: {token}\r\n\
                 Content-Length: 100\r\n\r\nhalf"
            )
            .as_bytes(),
        );
        drop(wire);
        let mut wire = Wire::open(node.api);
        wire.send(
            b"POST /leadership/stepdown HTTP/1.1\r\nHost: localhost\r\n\
              Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{",
        );
        drop(wire);
    }
    node.get("/checkpoint").problem(404, "no-checkpoint");
    assert_eq!(node.status()["is_leader"], true);
}

/// A client that leaves before its request was read has asked for nothing; one that
/// leaves while the release is under way has.
#[test]
fn a_step_down_goes_on_though_its_client_is_gone() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), LONG);
    redis.pause();
    let mut wire = Wire::open(node.api);
    wire.send(
        b"POST /leadership/stepdown HTTP/1.1\r\nHost: localhost\r\n\
          Content-Length: 0\r\n\r\n",
    );
    node.until("stepping down", |status| status["is_leader"] == false);
    drop(wire);
    redis.resume();
    node.until("released", |_| {
        let history = node.get("/history").json();
        let entries = history.as_array().unwrap();
        entries.iter().any(|entry| entry["reason"] == "released")
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let alone = Alone::new(&[]);
    let mut wire = Wire::open(alone.node.api);
    let one = "GET /fence-token HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let two = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let bad = "GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    wire.send([one, two, bad].concat().repeat(30).as_bytes());
    for _ in 0..30 {
        for expected in [200, 404, 403] {
            assert_eq!(wire.reply(false).unwrap().status, expected);
        }
    }
}

#[test]
fn a_connection_is_kept_for_further_requests() {
    let alone = Alone::new(&[]);
    let mut wire = Wire::open(alone.node.api);
    for _ in 0..50 {
        wire.send(b"GET /leader HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(wire.reply(false).unwrap().status, 200);
    }
}

#[test]
fn idle_connections_cost_no_renewal() {
    leads_on_beside(|api| {
        let idle: Vec<Wire> = (0..300).map(|_| Wire::open(api)).collect();
        assert_eq!(request(api, "GET", "/leader", &[], b"").status, 200);
        std::thread::sleep(Duration::from_secs(6));
        drop(idle);
    });
}

#[test]
fn clients_cannot_use_up_the_descriptors_that_renewals_need() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    let binary = tenure().get_program().to_owned();
    command
        .args(["-c", "ulimit -n 128 && exec \"$0\" \"$@\""])
        .arg(binary)
        .args(["run", "--ttl", "6s", "--listen", "127.0.0.1:0"])
        .args(["--backend", &file_url(dir.path())]);
    let node = Node::spawn(&mut command);
    let before = node.until("leads", |status| status["is_leader"] == true);
    // Half of them hold a request open, which needs a timer each as well. What is
    // not served at once fits into the kernel's queue of 128.
    let mut held: Vec<Wire> = Vec::new();
    for at in 0..140 {
        let mut wire = Wire::open(node.api);
        if at % 2 == 0 {
            let path = "/status?after_revision=1000&wait=60s";
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        }
        held.push(wire);
    }
    std::thread::sleep(Duration::from_secs(12));
    drop(held);
    let after = node.status();
    assert_eq!(after["revision"], before["revision"], "{after:#}");
    assert_eq!(after["is_leader"], true, "{:#?}", node.err.all());
}

#[test]
fn random_bytes_in_bodies_are_answered() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let mut random = fastrand::Rng::with_seed(7);
    let routes = ["/fence-token/validate", "/leadership/stepdown"];
    for round in 0..150 {
        let length = random.usize(1..200);
        let mut body: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        if round % 2 == 0 {
            // Close to what is expected, with one byte wrong.
            body = br#"{"token":42,"cooldown_ms":1,"to":"x"}"#.to_vec();
            let at = random.usize(..body.len());
            body[at] = random.u8(..);
        }
        let kind = [("Content-Type", "application/json")];
        let path = routes[round % 2];
        let reply = request(node.api, "POST", path, &kind, &body);
        assert!(
            [200, 400].contains(&reply.status),
            "{path} {:?}: {}",
            String::from_utf8_lossy(&body),
            reply.text()
        );
    }
    assert_eq!(node.get("/livez").status, 200);
}
