//! The API on a thread and an event loop of its own.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::{Door, Listener, serve};
use crate::bearer::TokenFile;
use crate::config::Config;

/// File descriptors to ask for; the usual soft limit of 1024 is meant for programs
/// that call select(2).
const FILES: u64 = 4096;

/// What is to be served.
pub struct Serving {
    doors: Vec<(Listener, Door)>,
    tokens: Option<Arc<TokenFile>>,
}

impl Serving {
    /// Nothing yet; `tokens` are followed while it lasts.
    pub fn new(tokens: Option<Arc<TokenFile>>) -> Self {
        Self {
            doors: Vec::new(),
            tokens,
        }
    }

    pub fn add(&mut self, listener: Listener, door: Door) {
        self.doors.push((listener, door));
    }

    /// Serves until `stop` turns true.
    pub fn start_apart(self, stop: watch::Receiver<bool>) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("tenure-api".to_owned())
            .spawn(move || {
                runtime.block_on(self.run(stop));
                // A look at the tokens that hangs is not waited for.
                runtime.shutdown_background();
            })
    }

    async fn run(self, stop: watch::Receiver<bool>) {
        let places = max_connections(self.doors.len());
        if let Some(tokens) = self.tokens {
            tokio::spawn(tokens.follow());
        }
        let mut serving = JoinSet::new();
        // Each has places of its own: no crowd at the one shuts the other's door.
        for (listener, door) in self.doors {
            serving.spawn(serve(listener, door, places, stop.clone()));
        }
        while let Some(ended) = serving.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::error!(%error, "the API cannot listen");
            }
        }
    }
}

/// As many readers of events as are asked for, and never so many that nobody else gets
/// a connection.
pub fn event_readers(config: &Config) -> usize {
    let wanted = config.max_event_readers;
    let listeners = 1 + usize::from(config.listeners.probes.is_some());
    let most = usize::try_from(max_connections(listeners) / 2).unwrap_or(usize::MAX);
    if wanted > most {
        tracing::warn!(
            "only {most} of --max-event-readers {wanted} are served: the limit of file \
             descriptors allows no more"
        );
    }
    wanted.min(most)
}

/// Asks for as many file descriptors as a sidecar makes use of. Returns the limit that stood
/// before where that was lower: the app is to have it, for it may call select(2).
pub fn raise_limit_of_files() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |most| most.min(FILES));
    let before = limit.current.filter(|current| *current < wanted)?;
    limit.current = Some(wanted);
    // Refused: what there is has to do.
    setrlimit(Resource::Nofile, limit).ok().map(|()| before)
}

/// As many connections to each of so many listeners as leave file descriptors for the
/// election: a long-poll takes two, and a store that was lost needs one to be reached
/// again.
fn max_connections(listeners: usize) -> u32 {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES);
    let files = usize::try_from(files.min(FILES)).unwrap_or(0);
    u32::try_from(files / (2 + 2 * listeners))
        .unwrap_or(1)
        .max(1)
}
