//! A reader of `/events`: raw, so that it can be slow, stand still, or break off.
#![allow(dead_code)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Reply;

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
    pub retry: Option<u64>,
}

impl Event {
    /// The boot id and the revision that the event's id is made of.
    #[track_caller]
    pub fn parts(&self) -> (&str, u64) {
        let (boot, revision) = self.id.split_once(':').expect("boot:revision");
        (boot, revision.parse().expect("a revision"))
    }

    #[track_caller]
    pub fn revision(&self) -> u64 {
        self.parts().1
    }
}

/// An open stream of events.
pub struct EventReader {
    stream: TcpStream,
    raw: Vec<u8>,
    text: Vec<u8>,
    ended: bool,
    /// Lines that keep the stream alive.
    pub comments: usize,
    pub headers: Vec<(String, String)>,
}

impl EventReader {
    /// Follows `/events`.
    #[track_caller]
    pub fn open(to: SocketAddr) -> Self {
        Self::resume(to, "/events", None).unwrap_or_else(|reply| panic!("refused: {reply:?}"))
    }

    /// Follows what the path names; what is no stream is returned as it is.
    pub fn resume(to: SocketAddr, path: &str, last: Option<&str>) -> Result<Self, Reply> {
        let stream = TcpStream::connect(to).expect("the API accepts connections");
        Self::over(stream, to, path, last)
    }

    /// The same over a connection that stands already.
    pub fn over(
        mut stream: TcpStream,
        to: SocketAddr,
        path: &str,
        last: Option<&str>,
    ) -> Result<Self, Reply> {
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let head = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = Self {
            stream,
            raw: Vec::new(),
            text: Vec::new(),
            ended: false,
            comments: 0,
            headers: Vec::new(),
        };
        let end = Instant::now() + super::process::BOUND;
        let status = loop {
            if let Some(status) = reader.take_head() {
                break status;
            }
            assert!(reader.more(end), "no answer to {path}");
        };
        if status == 200 {
            return Ok(reader);
        }
        let length = reader.header("content-length").unwrap_or_default();
        let length: usize = length.parse().unwrap();
        while reader.raw.len() < length && reader.more(end) {}
        Err(Reply {
            status,
            headers: reader.headers,
            body: reader.raw,
        })
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.clone())
    }

    /// The next event; `None` at the end of the stream.
    #[track_caller]
    pub fn next(&mut self) -> Option<Event> {
        self.next_within(super::process::BOUND)
    }

    #[track_caller]
    pub fn next_within(&mut self, bound: Duration) -> Option<Event> {
        let end = Instant::now() + bound;
        loop {
            while let Some(block) = self.block() {
                if let Some(event) = self.event(&block) {
                    return Some(event);
                }
            }
            if self.ended {
                return None;
            }
            if !self.more(end) {
                assert!(self.ended, "no event within {bound:?}");
            }
        }
    }

    /// The next event, which must be there.
    #[track_caller]
    pub fn must(&mut self) -> Event {
        self.next().expect("the stream goes on")
    }

    /// The first event of that name.
    #[track_caller]
    pub fn until(&mut self, name: &str) -> Event {
        loop {
            let event = self.must();
            if event.name == name {
                return event;
            }
        }
    }

    /// Waits for a comment.
    #[track_caller]
    pub fn comment(&mut self, bound: Duration) {
        let end = Instant::now() + bound;
        let before = self.comments;
        while self.comments == before {
            while let Some(block) = self.block() {
                assert!(self.event(&block).is_none(), "an event: {block}");
            }
            assert!(self.comments > before || self.more(end), "no comment");
        }
    }

    /// Waits until the server has ended or broken the stream off.
    #[track_caller]
    pub fn ends(&mut self, bound: Duration) {
        let end = Instant::now() + bound;
        while !self.ended {
            assert!(self.more(end) || self.ended, "it goes on after {bound:?}");
            while self.block().is_some() {}
        }
    }

    fn take_head(&mut self) -> Option<u16> {
        let at = self.raw.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.raw[..at]).into_owned();
        self.raw.drain(..at + 4);
        let mut lines = head.split("\r\n");
        let first = lines.next()?;
        self.headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        first.split(' ').nth(1)?.parse().ok()
    }

    /// A whole block of lines, out of the chunks that have come.
    fn block(&mut self) -> Option<String> {
        while let Some(chunk) = self.chunk() {
            self.ended |= chunk.is_empty();
            self.text.extend(chunk);
        }
        let at = self.text.windows(2).position(|part| part == b"\n\n")?;
        let block = self.text.drain(..at + 2).collect();
        Some(String::from_utf8(block).expect("events are UTF-8"))
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let at = self.raw.windows(2).position(|part| part == b"\r\n")?;
        let size = std::str::from_utf8(&self.raw[..at]).unwrap();
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        let whole = at + 2 + size + 2;
        if self.raw.len() < whole {
            return None;
        }
        let chunk = self.raw[at + 2..at + 2 + size].to_vec();
        self.raw.drain(..whole);
        Some(chunk)
    }

    fn event(&mut self, block: &str) -> Option<Event> {
        let mut event = Event {
            name: String::new(),
            id: String::new(),
            data: Value::Null,
            retry: None,
        };
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "event" => event.name = value.to_owned(),
                "id" => event.id = value.to_owned(),
                "data" => event.data = serde_json::from_str(value).unwrap(),
                "retry" => event.retry = Some(value.parse().unwrap()),
                other => panic!("an unknown field {other}"),
            }
        }
        (!event.name.is_empty()).then_some(event)
    }

    /// Whether there was more to read before `end`.
    fn more(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => {
                self.raw.extend_from_slice(&chunk[..count]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the stream cannot be read: {error}"),
        }
        false
    }
}
