//! A sidecar of cardboard: one leader, one checkpoint, and answers to writes that are
//! planned. What a real one answers once in a thousand runs, this one answers in turn.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Applied, 204.
    Acknowledged,
    /// Not applied, 409.
    Stale,
    /// Not applied: somebody else has written meanwhile, 412.
    Overtaken,
    /// Applied, and the answer is 503 with an unknown outcome.
    Unknown,
    /// Not applied, and the answer is 503 with an unknown outcome.
    NeverArrived,
    /// Applied, and the connection breaks instead of an answer.
    Broken,
}

/// A write, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub token: String,
    /// `If-Match` or `If-None-Match`, whichever came.
    pub over: String,
    pub value: u64,
    /// What it should have been: the tag and the value that are stored.
    pub stored: (String, u64),
}

pub const TOKEN: &str = "1795000000007";

/// Starts one; it serves until the test process ends.
pub fn serve(fates: Vec<Fate>) -> (String, Receiver<Write>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, writes) = channel();
    let stub = Stub {
        fates: fates.into(),
        value: 0,
        seq: 0,
        writes: sender,
    };
    std::thread::spawn(move || stub.accept(&listener));
    (url, writes)
}

struct Stub {
    fates: std::collections::VecDeque<Fate>,
    value: u64,
    seq: u64,
    writes: Sender<Write>,
}

impl Stub {
    fn accept(mut self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            // A client that gave up is no matter.
            let _ = self.answer(stream);
        }
    }

    fn tag(&self) -> String {
        match self.seq {
            0 => "*".to_owned(),
            seq => format!("\"{TOKEN}.{seq}\""),
        }
    }

    fn answer(&mut self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let header = |name: &str| {
            let mut pairs = head.iter().filter_map(|line| line.split_once(": "));
            let found = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, text)| text.to_owned())
        };
        let length = header("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let asked = head.first().cloned().unwrap_or_default();
        let (status, headers, body) = match asked.rsplit_once(' ').map_or("", |(asked, _)| asked) {
            "GET /leader" => {
                let lease = "Tenure-Lease-Remaining-Ms: 900\r\n";
                let headers = format!("Tenure-Leader: stub\r\nTenure-Epoch: {TOKEN}\r\n{lease}");
                (200, headers, r#"{"is_leader":true}"#.to_owned())
            }
            "GET /checkpoint" if self.seq == 0 => (404, String::new(), String::new()),
            "GET /checkpoint" => (200, self.etag(), self.value.to_string()),
            "PUT /checkpoint" => {
                let over = header("if-match").or(header("if-none-match"));
                let write = Write {
                    token: header("fence-token").unwrap_or_default(),
                    over: over.unwrap_or_default(),
                    value: String::from_utf8_lossy(&body).parse().unwrap_or_default(),
                    stored: (self.tag(), self.value),
                };
                let fate = self.fates.pop_front().unwrap_or(Fate::Acknowledged);
                if fate != Fate::Stale && fate != Fate::NeverArrived {
                    (self.value, self.seq) = (write.value, self.seq + 1);
                }
                // The test is over where nobody listens.
                let _ = self.writes.send(write);
                match fate {
                    Fate::Acknowledged => (204, self.etag(), String::new()),
                    Fate::Stale => (409, String::new(), "{}".to_owned()),
                    Fate::Overtaken => (412, String::new(), "{}".to_owned()),
                    Fate::Unknown | Fate::NeverArrived => {
                        (503, String::new(), r#"{"outcome":"unknown"}"#.to_owned())
                    }
                    Fate::Broken => return Ok(()),
                }
            }
            other => panic!("no example asks {other}"),
        };
        let length = match status {
            204 => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let head =
            format!("HTTP/1.1 {status} Planned\r\nConnection: close\r\n{headers}{length}\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())
    }

    fn etag(&self) -> String {
        format!("ETag: {}\r\n", self.tag())
    }
}
