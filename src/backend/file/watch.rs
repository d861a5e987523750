//! Wake-ups by inotify: one watch per store, on its directory, where each change
//! of an election ends with a rename to `E.json`.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::sync::broadcast;

use super::directory::shown_name;
use super::election::FileElection;
use super::record::Record;
use crate::backend::Hints;
use crate::lease::{Epoch, Hint};
use crate::time::{pause, within};

/// Signals that a reader may lag behind before it is told of a gap.
const BACKLOG: usize = 1024;
/// Room for about a hundred events of the longest name in one read.
const BUFFER_BYTES: usize = 32 * 1024;
/// Between attempts to watch a directory that is missing, or to read a record that
/// cannot be read.
const RETRY: Duration = Duration::from_millis(250);

/// What the watch tells all elections.
#[derive(Clone, Debug)]
enum Signal {
    /// Something of this name came, went or was replaced.
    Changed(OsString),
    /// The kernel dropped events.
    Overflow,
}

/// The store's one watch, while anybody listens.
#[derive(Debug)]
pub(super) struct Watchers {
    directory: PathBuf,
    // Weak: the watching task owns the sender, and when it ends all readers see it.
    current: Mutex<Option<broadcast::WeakSender<Signal>>>,
}

impl Watchers {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            current: Mutex::new(None),
        }
    }

    /// Listens; the watch stands when this returns. Call it inside a runtime.
    fn subscribe(&self) -> io::Result<broadcast::Receiver<Signal>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = current.as_ref().and_then(broadcast::WeakSender::upgrade) {
            return Ok(sender.subscribe());
        }
        let events = watch(&self.directory)?;
        let (sender, receiver) = broadcast::channel(BACKLOG);
        *current = Some(sender.downgrade());
        tokio::spawn(pump(events, sender));
        Ok(receiver)
    }
}

fn watch(directory: &Path) -> io::Result<EventStream<Vec<u8>>> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    inotify.watches().add(directory, mask)?;
    inotify.into_event_stream(vec![0; BUFFER_BYTES])
}

/// Passes events on until the directory is gone or nobody listens.
async fn pump(mut events: EventStream<Vec<u8>>, sender: broadcast::Sender<Signal>) {
    let gone =
        EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT | EventMask::IGNORED;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = sender.closed() => return,
        };
        let Some(Ok(event)) = event else {
            return;
        };
        if event.mask.intersects(gone) {
            return;
        }
        let signal = match event.name {
            Some(name) => Signal::Changed(name),
            None if event.mask.contains(EventMask::Q_OVERFLOW) => Signal::Overflow,
            None => continue,
        };
        // An error means that nobody listens any more.
        if sender.send(signal).is_err() {
            return;
        }
    }
}

/// What followers want to know of a record. A renewal changes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sight {
    epoch: Option<Epoch>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody was granted this epoch here: no record, or a hold.
    Vacant,
    /// Granted and not given back.
    Granted,
    /// Given back.
    Ended,
}

impl Sight {
    fn of(record: &Record) -> Self {
        let phase = match &record.register.state {
            Some(state) if state.ended => Phase::Ended,
            Some(state) if state.session.is_some() => Phase::Granted,
            _ => Phase::Vacant,
        };
        let epoch = record.register.epoch();
        Self { epoch, phase }
    }

    /// The hint that leads from `before` to this; `Gap` where the record went back.
    fn after(self, before: Self, record: &Record) -> Option<Hint> {
        if self == before {
            return None;
        }
        if self.epoch < before.epoch {
            return Some(Hint::Gap);
        }
        match (self.phase, self.epoch) {
            (Phase::Granted, Some(epoch)) => Some(Hint::Began(epoch)),
            (Phase::Ended, Some(epoch)) => {
                let prefer = record.prefer.clone();
                Some(Hint::Ended { epoch, prefer })
            }
            // Others hold now too, and learn it with their next bid.
            _ => None,
        }
    }
}

/// One election's stream of hints.
struct Listener {
    election: FileElection,
    names: [OsString; 2],
    signals: Option<broadcast::Receiver<Signal>>,
    /// What was told last; `None` before the first `Present` and after a gap.
    told: Option<Sight>,
    ready: VecDeque<Hint>,
}

/// The wake-ups of one election.
pub(super) fn hints(election: FileElection) -> Hints {
    let folder = election.folder.path().file_name().map(OsStr::to_owned);
    let listener = Listener {
        names: [
            shown_name(&election.name).into(),
            folder.unwrap_or_default(),
        ],
        election,
        signals: None,
        told: None,
        ready: VecDeque::new(),
    };
    stream::unfold(listener, |mut listener| async move {
        let hint = listener.next().await;
        Some((hint, listener))
    })
    .boxed()
}

impl Listener {
    async fn next(&mut self) -> Hint {
        loop {
            if let Some(hint) = self.ready.pop_front() {
                return hint;
            }
            match self.signals.take() {
                None => self.listen().await,
                Some(signals) => self.wait(signals).await,
            }
        }
    }

    /// Subscribes before it reads, so that no change falls in between.
    async fn listen(&mut self) {
        match self.election.shared.watchers.subscribe() {
            Ok(signals) => {
                self.signals = Some(signals);
                self.tell().await;
            }
            Err(error) => {
                let directory = &self.election.shared.watchers.directory;
                tracing::debug!(directory = %directory.display(), %error, "cannot watch");
                self.cut();
                pause(RETRY).await;
            }
        }
    }

    async fn wait(&mut self, mut signals: broadcast::Receiver<Signal>) {
        // A record that could not be read is tried again without a signal.
        let signal = if self.told.is_some() {
            signals.recv().await
        } else {
            match within(RETRY, signals.recv()).await {
                Some(signal) => signal,
                None => Ok(Signal::Changed(self.names[0].clone())),
            }
        };
        match signal {
            Ok(Signal::Changed(name)) if !self.names.contains(&name) => {}
            Ok(Signal::Changed(_)) => self.tell().await,
            Ok(Signal::Overflow) | Err(broadcast::error::RecvError::Lagged(_)) => {
                self.cut();
                self.tell().await;
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.cut();
                return;
            }
        }
        self.signals = Some(signals);
    }

    /// Notes a gap, once; before the first `Present` there is none to note.
    fn cut(&mut self) {
        if self.told.take().is_some() {
            self.ready.push_back(Hint::Gap);
        }
    }

    /// Reads the record and says what is new about it.
    async fn tell(&mut self) {
        let Ok((record, observed)) = self.election.blocking(FileElection::look).await else {
            self.cut();
            return;
        };
        let sight = Sight::of(&record);
        match self.told.map(|before| sight.after(before, &record)) {
            None => self.ready.push_back(Hint::Present(observed)),
            Some(Some(Hint::Gap)) => self.ready.extend([Hint::Gap, Hint::Present(observed)]),
            Some(hint) => self.ready.extend(hint),
        }
        self.told = Some(sight);
    }
}
