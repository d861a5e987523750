//! Who may ask, and what is asked in vain: hosts, origins, methods, paths.

use std::net::SocketAddr;

use super::Alone;
use super::http::{raw, request};

fn as_host(api: SocketAddr, host: &str) -> u16 {
    request(api, "GET", "/status", &[("Host", host)], b"").status
}

#[test]
fn only_loopback_names_and_those_allowed_are_hosts() {
    let alone = Alone::new(&["--allow-host", "Orders.internal", "--allow-host", "sidecar"]);
    let api = alone.node.api;
    for good in [
        "localhost",
        "localhost:4040",
        "LOCALHOST:1",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.1.2.3:9",
        "[::1]",
        "[::1]:4040",
        "orders.internal",
        "orders.internal:4040",
        "ORDERS.INTERNAL",
        "sidecar:1",
    ] {
        assert_eq!(as_host(api, good), 200, "{good}");
    }
    for foreign in [
        "evil.example",
        "evil.example:4040",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "0.0.0.0:4040",
        "10.0.0.1",
        "[::]",
        "[fe80::1]:4040",
        "169.254.169.254",
        "evil.example@127.0.0.1",
        "127.0.0.1:80@evil.example",
        "[::1]evil.example",
        "localhost:evil.example",
        "2130706433",
        "orders.internal.evil.example",
    ] {
        let reply = request(api, "GET", "/status", &[("Host", foreign)], b"");
        assert!([400, 403].contains(&reply.status), "{foreign}: {reply:?}");
        assert!(!reply.text().contains("fence_token"), "{foreign}");
    }
    let refused = request(api, "GET", "/nowhere", &[("Host", "evil.example")], b"");
    let problem = refused.problem(403, "forbidden-host");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("evil.example") && detail.contains("--allow-host"));
}

#[test]
fn a_host_is_asked_once_and_in_the_request_target_too() {
    let alone = Alone::new(&[]);
    let api = alone.node.api;
    let status = |bytes: &str| raw(api, bytes.as_bytes()).map(|reply| reply.status);
    // HTTP/1.0 knows no Host; HTTP/1.1 requires exactly one (RFC 9112, 3.2).
    assert_eq!(status("GET /status HTTP/1.0\r\n\r\n"), Some(200));
    assert_eq!(
        status("GET /status HTTP/1.0\r\nHost: evil.example\r\n\r\n"),
        Some(403)
    );
    assert_eq!(status("GET /status HTTP/1.1\r\n\r\n"), Some(400));
    let twice = "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert!([Some(400), Some(403)].contains(&status(twice)));
    let absolute = "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(status(absolute), Some(403));
    let absolute = "GET http://localhost/status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(status(absolute), Some(200));
}

#[test]
fn foreign_origins_are_refused_whatever_they_ask() {
    let alone = Alone::new(&["--allow-host", "orders.internal"]);
    let api = alone.node.api;
    for good in [
        "http://localhost:3000",
        "http://127.0.0.1",
        "https://[::1]:1",
        "https://orders.internal",
    ] {
        let reply = request(api, "GET", "/status", &[("Origin", good)], b"");
        assert_eq!(reply.status, 200, "{good}");
    }
    for foreign in [
        "http://evil.example",
        "https://localhost.evil.example",
        "null",
        "",
        "http://127.0.0.1.evil.example:80",
        "file://",
    ] {
        for (method, path) in [("GET", "/status"), ("POST", "/leadership/stepdown")] {
            let reply = request(api, method, path, &[("Origin", foreign)], b"");
            reply.problem(403, "forbidden-origin");
        }
    }
    assert_eq!(alone.node.status()["is_leader"], true);
}

#[test]
fn no_answer_opens_the_api_to_other_origins() {
    let alone = Alone::new(&[]);
    for method in ["GET", "OPTIONS"] {
        let headers = [("Origin", "http://localhost:3000")];
        let reply = request(alone.node.api, method, "/leader", &headers, b"");
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let alone = Alone::new(&[]);
    for (method, path, allowed) in [
        ("POST", "/status", &["GET", "HEAD"][..]),
        ("DELETE", "/leader", &["GET", "HEAD", "OPTIONS"]),
        ("POST", "/follower", &["GET", "HEAD", "OPTIONS"]),
        ("PUT", "/fence-token", &["GET", "HEAD"]),
        ("GET", "/fence-token/validate", &["POST"]),
        ("GET", "/leadership/stepdown", &["POST"]),
        ("DELETE", "/checkpoint", &["GET", "HEAD", "PUT"]),
        ("POST", "/history", &["GET", "HEAD"]),
        ("POST", "/livez", &["GET", "HEAD"]),
        ("POST", "/elections", &["GET", "HEAD"]),
        ("PATCH", "/elections/default/status", &["GET", "HEAD"]),
        ("BREW", "/status", &["GET", "HEAD"]),
    ] {
        let reply = request(alone.node.api, method, path, &[], b"");
        reply.problem(405, "method-not-allowed");
        let allow = reply.header("allow").unwrap_or_default();
        let told: Vec<&str> = allow.split(',').map(str::trim).collect();
        for method in allowed {
            assert!(told.contains(method), "{path}: {allow}");
        }
    }
    assert_eq!(alone.node.status()["is_leader"], true);
}

#[test]
fn unknown_paths_are_404() {
    let alone = Alone::new(&[]);
    for path in [
        "/nowhere",
        "/Status",
        "/status/",
        "/status/x",
        "/elections/",
        "/elections/default",
        "/elections/default/",
        "/elections/default/nowhere",
        "/..%2fstatus",
        "//status",
        "/leadership",
        "/%00",
    ] {
        for method in ["GET", "POST"] {
            let reply = request(alone.node.api, method, path, &[], b"");
            reply.problem(404, "not-found");
        }
    }
}
