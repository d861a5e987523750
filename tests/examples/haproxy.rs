//! A real HAProxy in front of three apps: its traffic follows the leader.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::app::App;
use super::process::{BOUND, Node, file_url};
use super::unconfigured;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// An app that says who it is; it serves until the test process ends.
fn serve(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let length = name.len();
            // Whole: who closes before it has read all resets the connection.
            let request = BufReader::new(&stream).lines().map_while(Result::ok);
            let _ = request.take_while(|line| !line.is_empty()).count();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n");
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{name}").as_bytes());
        }
    });
    address
}

struct Proxy {
    app: App,
    socket: PathBuf,
}

impl Proxy {
    fn start(dir: &Path, nodes: &[(&str, &Node)]) -> Self {
        let socket = dir.join("app.sock");
        // Debian keeps it where an ordinary user's PATH does not look.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/haproxy/haproxy.cfg");
        let mut command = unconfigured(Command::new("haproxy"));
        command.args(["-db", "-f", config]).env("PATH", path);
        command.env("BIND", format!("unix@{}", socket.display()));
        for (at, (address, node)) in nodes.iter().enumerate() {
            command.env(format!("APP_{at}"), address);
            command.env(format!("PROBE_PORT_{at}"), node.probes().port().to_string());
        }
        let app = App::start(&mut command);
        Self { app, socket }
    }

    /// Who answers a request; the status where nobody does.
    fn ask(&self) -> String {
        let Ok(mut stream) = UnixStream::connect(&self.socket) else {
            return "not yet".to_owned();
        };
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        if asked
            .and_then(|()| stream.read_to_string(&mut answer))
            .is_err()
        {
            return CUT.to_owned();
        }
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        match head.split(' ').nth(1) {
            Some("200") if body.is_empty() => CUT.to_owned(),
            Some("200") => body.to_owned(),
            other => other.unwrap_or(CUT).to_owned(),
        }
    }

    /// Asks until this one answers; who answered before.
    fn until(&self, name: &str) -> Vec<String> {
        let end = Instant::now() + BOUND;
        let mut before: Vec<String> = Vec::new();
        loop {
            let answer = self.ask();
            if answer == name {
                return before;
            }
            if before.last() != Some(&answer) {
                before.push(answer);
            }
            let told = self.app.err.all();
            assert!(
                Instant::now() < end,
                "{name} never answers: {before:?}, {told:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// As the configuration says that the sidecars are started.
fn flags(id: &str) -> [&str; 6] {
    ["--ttl", "5s", "--id", id, "--probe-listen", "127.0.0.1:0"]
}

/// Who leads, and under which epoch, as this node knows it.
fn leader(node: &Node) -> (String, u64) {
    let status = node.until("a leader is known", |status| status["leader"].is_object());
    let id = status["leader"]["id"].as_str().unwrap().to_owned();
    (id, status["term"].as_u64().unwrap())
}

/// The connection ended without an answer.
const CUT: &str = "no answer";
/// What a client gets from nobody: 503 while nobody leads, and 502 or nothing where its
/// request was under way to a leader that was found down, whose connections are cut.
const NOBODY: [&str; 3] = ["502", "503", CUT];

/// Of all apps nobody but the leader's is asked. On a busy machine a check may come too
/// late, and nobody is asked for a while; or leadership moves once more, and this begins anew.
fn only_the_leader_is_asked(proxy: &Proxy, node: &Node) -> String {
    loop {
        let (id, term) = leader(node);
        proxy.until(&id);
        let asked: BTreeSet<String> = (0..50).map(|_| proxy.ask()).collect();
        proxy.until(&id);
        if leader(node) == (id.clone(), term) {
            let others = asked
                .iter()
                .filter(|name| **name != id && !NOBODY.contains(&name.as_str()));
            let told = proxy.app.err.all();
            assert_eq!(others.count(), 0, "{asked:?} instead of {id}: {told:#?}");
            return id;
        }
    }
}

#[test]
fn traffic_follows_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let mut nodes: Vec<(&str, Node)> = NAMES
        .iter()
        .map(|id| (*id, Node::start(&url, &flags(id))))
        .collect();
    let apps = NAMES.map(serve);
    let nodes_of = nodes.iter().map(|(_, node)| node);
    let shown: Vec<_> = apps.iter().map(String::as_str).zip(nodes_of).collect();
    let proxy = Proxy::start(dir.path(), &shown);
    // Until its first check each server counts as up.
    let down = |at: usize| {
        let line = format!("orders-{at} is DOWN");
        proxy.app.err.all().iter().any(|told| told.contains(&line))
    };
    let end = Instant::now() + BOUND;
    loop {
        let (id, _) = leader(&nodes[0].1);
        if (0..3).all(|at| down(at) || NAMES[at] == id) {
            break;
        }
        assert!(Instant::now() < end, "{:#?}", proxy.app.err.all());
        std::thread::sleep(Duration::from_millis(5));
    }
    for fault in [Signal::TERM, Signal::KILL] {
        let old = only_the_leader_is_asked(&proxy, &nodes[0].1);
        let at = nodes.iter().position(|(id, _)| *id == old).unwrap();
        let (_, fallen) = nodes.remove(at);
        fallen.signal(fault);
        let next = nodes[0].1.until("another leads", |status| {
            status["leader"]["id"].is_string() && status["leader"]["id"] != *old
        });
        let next = next["leader"]["id"].as_str().unwrap();
        // Nobody but the old one, for half a second, and then nobody, and then the next.
        for before in proxy.until(next) {
            let fits = before == old || NOBODY.contains(&before.as_str());
            assert!(fits, "{before}");
        }
        only_the_leader_is_asked(&proxy, &nodes[0].1);
    }
}
