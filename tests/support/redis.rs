//! A real Redis server of the test's own, and a way to talk to it raw.
//!
//! Needs `mod ports` at the root of the test.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::ports::free_port;

const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A `redis-server` on a free port of 127.0.0.1, with a directory of its own. Killed
/// on drop.
pub struct RedisServer {
    child: Option<Child>,
    port: u16,
    dir: tempfile::TempDir,
    /// Before the others: the configuration file of a sentinel, which it rewrites.
    first: Option<String>,
    arguments: Vec<String>,
    program: PathBuf,
}

impl RedisServer {
    /// One that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// One that has every write on disk before it answers.
    pub fn start_durable() -> Self {
        Self::start_with(&[
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ])
    }

    /// One with these arguments, after port and directory.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_as(None, || owned(arguments))
    }

    /// The same, of the oldest version that is taken: 6.2.
    pub fn start_oldest(arguments: &[&str]) -> Self {
        let beside = "target/redis-6.2/redis-server";
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(beside);
        assert!(
            program.exists(),
            "{beside} is missing: .ci/redis-6.2 brings it"
        );
        Self::start_program(program, None, || owned(arguments))
    }

    /// One that listens on a second port, too: with the arguments for that one.
    pub fn start_on_two(arguments: impl Fn(u16) -> Vec<String>) -> (Self, u16) {
        let second = Cell::new(0);
        let server = Self::start_as(None, || {
            second.set(free_port());
            arguments(second.get())
        });
        (server, second.get())
    }

    /// A sentinel with these lines of configuration.
    pub fn start_sentinel(lines: &str) -> Self {
        Self::start_as(Some(lines), || owned(&["--sentinel"]))
    }

    fn start_as(file: Option<&str>, arguments: impl Fn() -> Vec<String>) -> Self {
        Self::start_program("redis-server".into(), file, arguments)
    }

    fn start_program(
        program: PathBuf,
        file: Option<&str>,
        arguments: impl Fn() -> Vec<String>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let first = file.map(|lines| {
            let path = dir.path().join("conf");
            std::fs::write(&path, lines).unwrap();
            path.display().to_string()
        });
        let mut server = Self {
            child: None,
            port: 0,
            dir,
            first,
            arguments: Vec::new(),
            program,
        };
        // Another process may take a port in between: try other ones then.
        for _ in 0..10 {
            server.port = free_port();
            server.arguments = arguments();
            if server.try_launch() {
                return server;
            }
        }
        panic!("redis-server did not start; see {:?}", server.log());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn try_launch(&mut self) -> bool {
        let child = Command::new(&self.program)
            .args(&self.first)
            .args(["--port", &self.port.to_string()])
            .args(["--bind", "127.0.0.1", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(["--logfile", "log"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server must be installed");
        let ours = format!("process_id:{}\r\n", child.id());
        self.child = Some(child);
        let until = Instant::now() + STARTS_WITHIN;
        while Instant::now() < until {
            if let Ok(mut raw) = Raw::connect(self.port)
                && let Ok(Reply::Text(info)) = raw.try_command(&["INFO", "server"])
            {
                return info.contains(&ours);
            }
            if let Some(child) = &mut self.child
                && child.try_wait().unwrap().is_some()
            {
                self.child = None;
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Other arguments from the next start on.
    pub fn rearm(&mut self, arguments: &[&str]) {
        self.arguments = owned(arguments);
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it again on the same port, with whatever its directory holds.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        assert!(self.try_launch(), "it does not start again: {}", self.log());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// SIGSTOP: it accepts connections in the kernel and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Removes what it has on disk; while it does not run.
    pub fn lose_data(&self) {
        assert!(self.child.is_none(), "it still runs");
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// Sends one command over a connection of its own.
    pub fn command(&self, words: &[&str]) -> Reply {
        self.raw().command(words)
    }

    pub fn raw(&self) -> Raw {
        Raw::connect(self.port).unwrap()
    }
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(ToString::to_string).collect()
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a server answers, in RESP2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Number(i64),
    Text(String),
    /// Text that is no UTF-8.
    Bytes(Vec<u8>),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("a text was expected, not {other:?}"),
        }
    }

    pub fn number(&self) -> u64 {
        match self {
            Self::Number(number) => u64::try_from(*number).unwrap(),
            other => panic!("a number was expected, not {other:?}"),
        }
    }

    pub fn error(&self) -> &str {
        match self {
            Self::Error(text) => text,
            other => panic!("an error was expected, not {other:?}"),
        }
    }

    pub fn list(&self) -> &[Reply] {
        match self {
            Self::List(list) => list,
            other => panic!("a list was expected, not {other:?}"),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
            other => panic!("bytes were expected, not {other:?}"),
        }
    }
}

/// A plain connection that blocks.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    pub fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STARTS_WITHIN))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub fn command<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Reply {
        self.try_command(words).unwrap()
    }

    pub fn try_command<W: AsRef<[u8]>>(&mut self, words: &[W]) -> std::io::Result<Reply> {
        let mut head = String::new();
        let _ = write!(head, "*{}\r\n", words.len());
        let mut request = head.into_bytes();
        for word in words {
            let word = word.as_ref();
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        self.read()
    }

    /// Reads one reply, or one message of a subscription.
    pub fn read(&mut self) -> std::io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let length = || rest.parse::<i64>().unwrap();
        Ok(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(length()),
            "$" if length() < 0 => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; usize::try_from(length()).unwrap() + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                match String::from_utf8(bytes) {
                    Ok(text) => Reply::Text(text),
                    Err(error) => Reply::Bytes(error.into_bytes()),
                }
            }
            "*" if length() < 0 => Reply::Nil,
            "*" => {
                let replies = (0..length()).map(|_| self.read());
                Reply::List(replies.collect::<std::io::Result<_>>()?)
            }
            // Somebody else's server may have the port.
            _ => return Err(std::io::ErrorKind::InvalidData.into()),
        })
    }
}
