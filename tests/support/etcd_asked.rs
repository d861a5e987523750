//! What servers are asked raw: by their JSON gateway, and by what they tell of themselves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Etcd;

impl Etcd {
    /// One request to the JSON gateway of the first member that runs.
    pub fn ask(&self, path: &str, body: &Value) -> Value {
        let running = self.members.iter().find(|member| member.child.is_some());
        let port = running.expect("none runs").client;
        let text = http(port, "POST", path, &body.to_string()).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    pub fn get(&self, key: &str) -> Option<String> {
        let answer = self.ask("/v3/kv/range", &json!({ "key": STANDARD.encode(key) }));
        let value = answer["kvs"][0]["value"].as_str()?;
        Some(String::from_utf8(STANDARD.decode(value).unwrap()).unwrap())
    }

    pub fn put(&self, key: &str, value: &str) {
        let body = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
        self.ask("/v3/kv/put", &body);
    }

    /// Puts one key by way of one member; whatever it answers, within 10 s.
    pub fn put_at(port: u16, key: &str, value: &str) -> std::io::Result<String> {
        let body = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
        http(port, "POST", "/v3/kv/put", &body.to_string())
    }

    pub fn delete(&self, key: &str) {
        self.ask(
            "/v3/kv/deleterange",
            &json!({ "key": STANDARD.encode(key) }),
        );
    }

    pub fn delete_prefix(&self, prefix: &str) {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().unwrap() += 1;
        let body = json!({ "key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end) });
        self.ask("/v3/kv/deleterange", &body);
    }

    /// Whether a member says that it leads the others; not where it does not answer.
    pub fn is_raft_leader(&self, at: usize) -> bool {
        let metrics = http(self.port(at), "GET", "/metrics", "").unwrap_or_default();
        metrics
            .lines()
            .any(|line| line == "etcd_server_is_leader 1")
    }

    /// How many requests of that method a member has answered, or streams it has ended.
    pub fn handled(&self, at: usize, method: &str) -> u64 {
        self.counted(at, "grpc_server_handled_total", method)
    }

    /// How many messages of that method a member has received.
    pub fn received(&self, at: usize, method: &str) -> u64 {
        self.counted(at, "grpc_server_msg_received_total", method)
    }

    fn counted(&self, at: usize, metric: &str, method: &str) -> u64 {
        let text = http(self.port(at), "GET", "/metrics", "").unwrap();
        let named = format!("grpc_method=\"{method}\"");
        let of = |line: &&str| line.starts_with(metric) && line.contains(&named);
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        let sum: f64 = text.lines().filter(of).map(value).sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let sum = sum as u64;
        sum
    }

    /// This process's established connections to the members' client ports. (A member has
    /// some to itself.)
    pub fn connections(&self) -> usize {
        let own = own_sockets();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ports = self.ports();
        let to_us = |line: &&str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let port = |place: &str| u16::from_str_radix(place.rsplit(':').next().unwrap(), 16);
            // 01 is ESTABLISHED; the remote side is what was connected to.
            words.len() > 9
                && words[3] == "01"
                && port(words[2]).is_ok_and(|port| ports.contains(&port))
                && own.contains(&format!("socket:[{}]", words[9]))
        };
        table.lines().skip(1).filter(to_us).count()
    }
}

fn own_sockets() -> Vec<String> {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let target = |file: std::io::Result<std::fs::DirEntry>| {
        let target = std::fs::read_link(file.ok()?.path()).ok()?;
        Some(target.to_str()?.to_owned())
    };
    files.filter_map(target).collect()
}

/// One HTTP/1.0 request; the body of its answer.
pub(super) fn http(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
