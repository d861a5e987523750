//! An app beside a sidecar: an HTTP server that keeps what it is asked and answers as it
//! is told. It ends with the test.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

const BOUND: Duration = Duration::from_secs(20);

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When it was answered; not yet where it is not.
    pub answered: Option<(Instant, u16)>,
    /// The sidecar closed the connection before there was an answer.
    pub given_up: bool,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The event of a hook.
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    /// With 200 and this body.
    Body(String),
    /// Later, with 200.
    After(Duration),
    Redirect(String),
    /// Never.
    Never,
}

type Manner = Box<dyn Fn(&Asked) -> Answer + Send>;

struct Shared {
    asked: Mutex<Vec<Asked>>,
    news: Condvar,
    manner: Mutex<Manner>,
    over: AtomicBool,
}

/// The app.
pub struct App {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, which closes the port.
        let _ = TcpStream::connect(self.address);
    }
}

impl App {
    /// An app that takes everything.
    pub fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let shared = Arc::new(Shared {
            asked: Mutex::default(),
            news: Condvar::new(),
            manner: Mutex::new(Box::new(|_| Answer::Status(200))),
            over: AtomicBool::new(false),
        });
        let app = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        app
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it answers so.
    pub fn answers(&self, manner: impl Fn(&Asked) -> Answer + Send + 'static) {
        *lock(&self.shared.manner) = Box::new(manner);
    }

    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// The kinds of the hooks that were acknowledged, in their order.
    pub fn delivered(&self) -> Vec<String> {
        let asked = self.asked();
        let good = |asked: &&Asked| asked.answered.is_some_and(|(_, status)| status == 200);
        asked.iter().filter(good).map(Asked::kind).collect()
    }

    /// The first request, of those there are and those to come, that fits.
    #[track_caller]
    pub fn until(&self, what: &str, fits: impl Fn(&Asked) -> bool) -> Asked {
        self.until_all(what, |asked| {
            asked.iter().find(|asked| fits(asked)).cloned()
        })
    }

    #[track_caller]
    pub fn until_kind(&self, kind: &str) -> Asked {
        self.until(kind, |asked| asked.kind() == kind)
    }

    /// The first that fits and was acknowledged.
    #[track_caller]
    pub fn until_delivered(&self, kind: &str) -> Asked {
        self.until(kind, |asked| {
            asked.kind() == kind && asked.answered.is_some_and(|(_, status)| status == 200)
        })
    }

    #[track_caller]
    pub fn until_all<T>(&self, what: &str, find: impl Fn(&[Asked]) -> Option<T>) -> T {
        let end = Instant::now() + BOUND;
        let mut asked = lock(&self.shared.asked);
        loop {
            if let Some(found) = find(&asked) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            let kinds: Vec<String> = asked.iter().map(|one| format!("{one:?}\n")).collect();
            assert!(!left.is_zero(), "no {what} among {}", kinds.concat());
            asked = self
                .shared
                .news
                .wait_timeout(asked, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(shared: &Shared, mut stream: TcpStream) {
    let Some(asked) = read(&stream) else { return };
    let answer = lock(&shared.manner)(&asked);
    let place = {
        let mut all = lock(&shared.asked);
        all.push(asked);
        shared.news.notify_all();
        all.len() - 1
    };
    let note = |change: &dyn Fn(&mut Asked)| {
        change(&mut lock(&shared.asked)[place]);
        shared.news.notify_all();
    };
    let (status, extra, body) = match answer {
        Answer::Status(status) => (status, String::new(), String::new()),
        Answer::Body(body) => (200, String::new(), body),
        Answer::Redirect(to) => (307, format!("Location: {to}\r\n"), String::new()),
        Answer::After(span) => {
            if closes_within(&stream, Some(span), &shared.over) {
                return note(&|asked| asked.given_up = true);
            }
            (200, String::new(), String::new())
        }
        Answer::Never => {
            closes_within(&stream, None, &shared.over);
            return note(&|asked| asked.given_up = true);
        }
    };
    // Noted first: what the sidecar does next may be looked at at once.
    note(&|asked| asked.answered = Some((Instant::now(), status)));
    let head = format!(
        "HTTP/1.1 {status} X\r\n{extra}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body.as_bytes());
}

/// Whether the client closes in that time.
fn closes_within(mut stream: &TcpStream, span: Option<Duration>, over: &AtomicBool) -> bool {
    let end = span.map(|span| Instant::now() + span);
    let look = Duration::from_millis(20);
    loop {
        let left = end.map_or(look, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() || over.load(Ordering::Relaxed) {
            return false;
        }
        stream.set_read_timeout(Some(left.min(look))).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return true,
        }
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let headers: Vec<(String, String)> = lines
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, text)| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        at: Instant::now(),
        line: lines.first()?.clone(),
        headers,
        body,
        answered: None,
        given_up: false,
    })
}
