//! The logs and the status lines: written by threads of their own, so that a reader
//! who stands still cannot hold up a renewal.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, Logging};

/// Lines that may wait for their reader; later ones are dropped and counted.
const BACKLOG_LINES: usize = 1024;
/// How long the end of the process waits for a reader.
const LAST_WORDS_TIME: Duration = Duration::from_millis(500);

/// What a running sidecar says.
pub struct Output {
    /// Data.
    pub out: Outlet,
    /// Logs.
    pub err: Outlet,
}

impl Output {
    /// Starts the writing threads, and the logs.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(logging: Logging) -> io::Result<Self> {
        let output = Self {
            out: Outlet::to(io::stdout(), logging.format)?,
            err: Outlet::to(io::stderr(), logging.format)?,
        };
        start_logging(logging, output.err.clone());
        Ok(output)
    }

    /// Waits until what was said is written, or for as long as is decent.
    pub fn flush(&self) {
        for outlet in [&self.out, &self.err] {
            outlet.flush(LAST_WORDS_TIME);
        }
    }
}

enum Message {
    Line(Vec<u8>),
    /// Everything before it has been written when this is dropped.
    Mark(SyncSender<()>),
}

/// One of the process's streams.
#[derive(Clone)]
pub struct Outlet {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Outlet {
    fn to(stream: impl Write + Send + 'static, format: LogFormat) -> io::Result<Self> {
        let (lines, queue) = sync_channel(BACKLOG_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            stream,
            queue,
            dropped: Arc::clone(&dropped),
            format,
        };
        std::thread::Builder::new()
            .name("tenure-output".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self { lines, dropped })
    }

    /// Hands over whole lines; returns at once, whatever the reader does.
    pub fn say(&self, lines: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Message::Line(lines)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, limit: Duration) {
        let (mark, written) = sync_channel(1);
        // A full queue means a reader who stands still: he is not waited for.
        if self.lines.try_send(Message::Mark(mark)).is_ok() {
            let _ = written.recv_timeout(limit);
        }
    }
}

struct Writer<W> {
    stream: W,
    queue: Receiver<Message>,
    dropped: Arc<AtomicU64>,
    format: LogFormat,
}

impl<W: Write> Writer<W> {
    /// A reader who has gone away is no error: the sidecar goes on without one.
    fn run(mut self) {
        while let Ok(message) = self.queue.recv() {
            match message {
                Message::Line(line) => {
                    self.tell_dropped();
                    let _ = self.stream.write_all(&line);
                    let _ = self.stream.flush();
                }
                Message::Mark(mark) => drop(mark),
            }
        }
    }

    fn tell_dropped(&mut self) {
        let count = self.dropped.swap(0, Ordering::Relaxed);
        if count == 0 {
            return;
        }
        let text = format!("{count} lines were dropped: nobody read them in time");
        let _ = match self.format {
            LogFormat::Text => writeln!(self.stream, "tenure: {text}"),
            LogFormat::Json => {
                let line = serde_json::json!({"level": "WARN", "message": text});
                writeln!(self.stream, "{line}")
            }
        };
    }
}

/// The subscriber writes one event at a time, whole.
impl Write for &Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.say(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = &'a Self;
    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

fn start_logging(logging: Logging, to: Outlet) {
    let Some(level) = logging.level else {
        return;
    };
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(to)
        .with_ansi(colour)
        .with_target(false);
    // What Raft's library says of each message is for whoever debugs it.
    let level = LevelFilter::from(level);
    let library = match level {
        LevelFilter::DEBUG | LevelFilter::TRACE => level,
        _ => LevelFilter::OFF,
    };
    let told = Targets::new()
        .with_default(level)
        .with_target("openraft", library);
    // Only an embedding test could have set one before.
    let _ = match logging.format {
        LogFormat::Text => logs.finish().with(told).try_init(),
        LogFormat::Json => logs
            .json()
            .flatten_event(true)
            .finish()
            .with(told)
            .try_init(),
    };
}
