//! `--listen`, `--probe-listen`, `--probe-status`: where the API is served, and what
//! of it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::process::Signal;

use super::LONG;
use super::http::{Wire, request};
use super::process::{Ended, Node, file_url, finish, tenure};

const PROBES: [&str; 8] = [
    "/leader",
    "/follower",
    "/livez",
    "/healthz",
    "/readyz",
    "/metrics",
    "/elections/default/leader",
    "/elections/default/follower",
];
const SHOWN: [&str; 5] = [
    "/",
    "/status",
    "/history",
    "/elections/default/status",
    "/elections/default/history",
];
const REST: [(&str, &str); 9] = [
    ("GET", "/elections"),
    ("GET", "/fence-token"),
    ("POST", "/fence-token/validate"),
    ("POST", "/leadership/stepdown"),
    ("POST", "/elections/default/leadership/stepdown"),
    ("GET", "/checkpoint"),
    ("PUT", "/checkpoint"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
];

fn leading(flags: &[&str]) -> (Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let flags = [LONG, &["--probe-listen", "127.0.0.1:0"], flags].concat();
    (Node::leading(&file_url(dir.path()), &flags), dir)
}

#[test]
fn the_probes_are_for_anybody_and_nothing_else_is_there() {
    let (node, _dir) = leading(&[]);
    let probes = node.probes();
    assert_ne!(probes, node.api);
    let foreign = [
        ("Host", "node-7.example:9"),
        ("Origin", "http://evil.example"),
    ];
    for path in PROBES {
        let expected = if path.ends_with("/follower") {
            503
        } else {
            200
        };
        for method in ["GET", "HEAD", "OPTIONS"] {
            let reply = request(probes, method, path, &foreign, b"");
            assert_eq!(reply.status, expected, "{method} {path}");
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let reply = request(probes, method, path, &foreign, b"");
            reply.problem(405, "method-not-allowed");
            assert_eq!(reply.header("allow"), Some("GET,HEAD,OPTIONS"));
        }
    }
    for (method, path) in REST.into_iter().chain(SHOWN.map(|path| ("GET", path))) {
        let reply = request(probes, method, path, &[], b"");
        reply.problem(404, "not-found");
    }
    assert_eq!(node.status()["is_leader"], true);
    let headers = request(probes, "GET", "/leader", &[], b"");
    let left: u64 = headers
        .header("tenure-lease-remaining-ms")
        .unwrap()
        .parse()
        .unwrap();
    assert!(left > 0);
}

#[test]
fn the_status_is_shown_there_when_asked_for_and_only_shown() {
    let (node, _dir) = leading(&["--probe-status"]);
    let probes = node.probes();
    for path in PROBES.into_iter().chain(SHOWN) {
        let status = request(probes, "GET", path, &[("Host", "lb.example")], b"").status;
        assert!([200, 503].contains(&status), "{path}: {status}");
    }
    for path in SHOWN {
        request(probes, "POST", path, &[], b"").problem(405, "method-not-allowed");
    }
    for (method, path) in REST {
        request(probes, method, path, &[], b"").problem(404, "not-found");
    }
    let page = request(probes, "GET", "/", &[], b"").text();
    let own = node.get("/").text();
    // The button is the API's alone.
    assert!(own.contains("content=\"stepdown\"") && !page.contains("content=\"stepdown\""));
    let events = request(probes, "GET", "/events", &[], b"");
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    let status = request(probes, "GET", "/status", &[], b"").json();
    assert_eq!(status["is_leader"], true);
    let poll = format!("/status?after_revision={}&wait=10ms", status["revision"]);
    assert_eq!(request(probes, "GET", &poll, &[], b"").status, 200);
}

#[test]
fn a_token_guards_the_api_and_not_the_probes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, "s3cret\n").unwrap();
    let flags = [
        "--api-token-file",
        file.to_str().unwrap(),
        "--probe-listen",
        "127.0.0.1:0",
        "--probe-status",
    ];
    // Off the loopback, too.
    let flags = [LONG, &["--listen", "0.0.0.0:0"], &flags].concat();
    let node = Node::start(&file_url(&dir.path().join("store")), &flags);
    let api = ([127, 0, 0, 1], node.api.port()).into();
    request(api, "GET", "/status", &[], b"").problem(401, "unauthorized");
    let token = [("Authorization", "Bearer s3cret")];
    assert_eq!(request(api, "GET", "/status", &token, b"").status, 200);
    let foreign = [("Authorization", "Bearer s3cret"), ("Host", "10.0.0.1")];
    request(api, "GET", "/status", &foreign, b"").problem(403, "forbidden-host");
    for path in ["/livez", "/status", "/"] {
        assert_eq!(request(node.probes(), "GET", path, &[], b"").status, 200);
    }
}

fn refused(flags: &[&str]) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let mut command = tenure();
    command.args(["run", "--backend", &file_url(dir.path())]);
    let ended = finish(command.args(flags), b"");
    assert_eq!(ended.code, Some(78), "{flags:?}: {}", ended.err);
    ended
}

#[test]
fn addresses_that_cannot_be_or_must_not_be_are_refused_by_name() {
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4040"] {
        let ended = refused(&["--listen", open]);
        for word in ["--listen", open, "--api-token-file", "--probe-listen"] {
            assert!(ended.err.contains(word), "{word}: {}", ended.err);
        }
    }
    let long = format!("unix:/tmp/{}", "x".repeat(120));
    for wrong in [
        "localhost",
        "4040",
        "unix:",
        "unix:relative.sock",
        "unix:/tmp/",
        &long,
        "unix:/nonexistent/tenure.sock",
    ] {
        let listen = format!("--listen={wrong}");
        let probes = format!("--probe-listen={wrong}");
        for (flag, other) in [
            (&listen, "--probe-listen=127.0.0.1:0"),
            (&probes, "--listen=127.0.0.1:0"),
        ] {
            let ended = refused(&[flag, other]);
            let named = format!("{} {wrong}", flag.split('=').next().unwrap());
            assert!(ended.err.contains(&named), "{named}: {}", ended.err);
        }
    }
    let ended = refused(&["--listen", "127.0.0.1:0", "--probe-status"]);
    assert!(ended.err.contains("--probe-listen"), "{}", ended.err);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = refused(&["--listen", "127.0.0.1:0", "--probe-listen", &address]);
    assert!(ended.err.contains("--probe-listen") && ended.err.contains("taken"));
    let ended = refused(&["--listen", &address, "--probe-listen", "unix:/proc/x"]);
    assert!(ended.err.contains("2 problems"), "{}", ended.err);
}

/// A sidecar on a Unix socket; it leads when its probes say so.
fn on_socket(store: &Path, socket: &Path) -> Node {
    let listen = format!("unix:{}", socket.display());
    let flags = [
        "--listen",
        &listen,
        "--probe-listen",
        "127.0.0.1:0",
        "--probe-status",
    ];
    let node = Node::leading(&file_url(store), &[LONG, &flags].concat());
    let told = node.out.all();
    assert!(
        told.iter()
            .any(|line| line.starts_with("API") && line.contains(&listen))
    );
    node
}

fn ask(socket: &Path, arguments: &[&str]) -> Ended {
    let mut command = tenure();
    let api = format!("unix:{}", socket.display());
    finish(command.args(arguments).args(["--api", &api]), b"")
}

#[test]
fn a_unix_socket_serves_everything_to_its_group_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tenure.sock");
    let mut node = on_socket(&dir.path().join("store"), &socket);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut wire = Wire::unix(&socket);
    let status = wire.get("/status").json();
    assert_eq!(status["is_leader"], true);
    let id = status["id"].as_str().unwrap();
    assert!(id.ends_with(socket.to_str().unwrap()), "{id}");
    assert_eq!(wire.get("/openapi.json").status, 200);
    let token = ask(&socket, &["token"]).ok().text();
    assert_eq!(token.trim(), status["fence_token"].to_string());
    ask(&socket, &["healthcheck"]).ok();
    let json = ask(&socket, &["status", "--json"]).ok().json();
    assert_eq!(json["boot_id"], status["boot_id"]);
    ask(&socket, &["stepdown", "--cooldown", "0s"]).ok();
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    assert!(!socket.exists());
    let gone = ask(&socket, &["healthcheck"]);
    assert_eq!(gone.code, Some(69), "{}", gone.err);
    assert!(gone.err.contains("tenure.sock"), "{}", gone.err);
    assert_eq!(ask(Path::new("relative"), &["status"]).code, Some(78));
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tenure.sock");
    let store = dir.path().join("store");
    let mut killed = on_socket(&store, &socket);
    let listen = format!("unix:{}", socket.display());
    let ended = refused(&["--listen", &listen]);
    assert!(
        ended.err.contains("somebody listens there"),
        "{}",
        ended.err
    );
    killed.signal(Signal::STOP);
    // One that is stopped is not dead.
    assert!(refused(&["--listen", &listen]).err.contains("listens"));
    killed.signal(Signal::KILL);
    assert_eq!(killed.exit(), None);
    assert!(socket.exists());
    let second = on_socket(&dir.path().join("other"), &socket);
    assert_eq!(Wire::unix(&socket).get("/livez").status, 200);
    drop(second);
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "precious").unwrap();
    assert!(refused(&["--listen", &listen]).err.contains("no socket"));
    assert_eq!(std::fs::read(&socket).unwrap(), b"precious");
    std::fs::remove_file(&socket).unwrap();
    // Another process's socket, in its place meanwhile, outlives this one.
    let mut node = on_socket(&dir.path().join("third"), &socket);
    std::fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    assert!(socket.exists());
}

#[test]
fn a_healthcheck_is_content_with_the_probes() {
    let (node, _dir) = leading(&[]);
    let check = |api: &str| {
        let mut command = tenure();
        finish(command.args(["healthcheck", "--api", api]), b"")
    };
    check(&format!("http://{}", node.probes())).ok();
    node.signal(Signal::STOP);
    let hung = check(&format!("http://{}", node.probes()));
    assert_eq!(hung.code, Some(69), "{}", hung.err);
    node.signal(Signal::CONT);
    assert_eq!(check("tcp://127.0.0.1:1").code, Some(78));
    let help = finish(tenure().args(["healthcheck", "--help"]), b"")
        .ok()
        .text();
    for code in ["0 live", "69", "78"] {
        assert!(help.contains(code), "{help}");
    }
}
