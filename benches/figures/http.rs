//! As much of an HTTP/1.1 client as the figures need: one connection, kept alive,
//! and the moment at which the answer's last byte was here.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Longer than any answer takes; a long-poll asks for at most 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection to a sidecar.
pub struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub epoch: Option<u64>,
    pub body: Vec<u8>,
    pub received: Instant,
}

impl Answer {
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).context("the answer is no JSON")
    }
}

impl Connection {
    pub fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            line: String::new(),
        })
    }

    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, "", b"")?;
        self.receive()
    }

    /// Sends a request and returns at once. `headers` end in CR LF each.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let length = body.len();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        Ok(self.stream.get_mut().write_all(&request)?)
    }

    pub fn receive(&mut self) -> anyhow::Result<Answer> {
        self.next_line()?;
        let status = self.line.split(' ').nth(1).unwrap_or_default();
        let status = status
            .parse()
            .with_context(|| format!("no HTTP status in {:?}", self.line))?;
        let (mut length, mut epoch) = (0, None);
        loop {
            self.next_line()?;
            let Some((name, value)) = self.line.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "tenure-epoch" => epoch = value.trim().parse().ok(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer {
            status,
            epoch,
            body,
            received: Instant::now(),
        })
    }

    fn next_line(&mut self) -> anyhow::Result<()> {
        self.line.clear();
        let read = self.stream.read_line(&mut self.line)?;
        ensure!(read > 0, "the sidecar closed the connection");
        Ok(())
    }
}
