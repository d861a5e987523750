//! A raw HTTP/1.1 client: sends any bytes, reads what comes back. A library would
//! refuse to send what these tests must send.
#![allow(dead_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Longer than anything here waits on purpose.
const PATIENCE: Duration = Duration::from_secs(20);

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of a good answer.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an error, checked against RFC 9457 and the rules of all errors.
    #[track_caller]
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let body: Value = serde_json::from_slice(&self.body).expect("a JSON problem");
        assert_eq!(body["type"], format!("urn:tenure:problem:{slug}"), "{body}");
        assert_eq!(body["status"], status, "{body}");
        for member in ["title", "detail"] {
            let text = body[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{member} in {body}");
        }
        body
    }
}

/// A connection that bytes are sent on as they are.
pub struct Wire {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Wire {
    pub fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("the API accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: Box::new(stream),
            read: Vec::new(),
        }
    }

    /// The same over a Unix socket.
    pub fn unix(path: &Path) -> Self {
        Self::to_unix(path).expect("the API accepts connections")
    }

    /// The same where nobody may listen.
    pub fn to_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: Box::new(stream),
            read: Vec::new(),
        })
    }

    /// Sends one well-formed GET and returns the answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        self.reply(false)
            .unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    /// A server may answer and close before it has read everything.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next answer; `None` where the server closed without one.
    pub fn reply(&mut self, to_head: bool) -> Option<Reply> {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at;
            }
            if !self.more() {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        self.read.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        assert!(first.starts_with("HTTP/1."), "{first}");
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply {
            status: status.unwrap_or_else(|| panic!("no status in {first}")),
            headers,
            body: Vec::new(),
        };
        if to_head || reply.status == 204 || reply.status == 304 {
            return Some(reply);
        }
        let length = reply.header("content-length");
        let length: usize = length.map_or(0, |text| text.parse().unwrap());
        while self.read.len() < length && self.more() {}
        assert!(self.read.len() >= length, "the body broke off: {reply:?}");
        reply.body = self.read.drain(..length).collect();
        Some(reply)
    }

    /// Whether the server has closed, or closes within the client's patience.
    pub fn closes(&mut self) -> bool {
        while self.more() {}
        true
    }

    fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer within {PATIENCE:?}: {error}"),
        }
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|part| part == needle)
}

/// Sends one well-formed request with these further headers.
#[track_caller]
pub fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    request_on(Wire::open(to), &to.to_string(), method, path, headers, body)
}

/// The same on a connection that stands.
#[track_caller]
pub fn request_on(
    mut wire: Wire,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    let mut lines: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let given = |lines: &[(String, String)], name: &str| {
        lines.iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    if !given(&lines, "host") {
        lines.push(("Host".to_owned(), host.to_owned()));
    }
    if !body.is_empty() && !given(&lines, "content-length") {
        lines.push(("Content-Length".to_owned(), body.len().to_string()));
    }
    for (name, value) in lines {
        head += &format!("{name}: {value}\r\n");
    }
    wire.send(&[head.as_bytes(), b"\r\n", body].concat());
    let reply = wire.reply(method == "HEAD");
    reply.unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

/// Sends these bytes and returns the first answer, if any.
pub fn raw(to: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let mut wire = Wire::open(to);
    wire.send(bytes);
    wire.reply(false)
}
