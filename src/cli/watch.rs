//! `tenure watch`: an election, live. A view on a terminal, else a line an event.

mod feed;
mod line;
mod screen;
mod view;

use std::io::{IsTerminal as _, Write as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ask::{Refusal, complain};
use crate::client::Client;
use crate::exit::Exit;
use feed::{Feed, News};

/// Follows an election until somebody ends it.
///
/// # Errors
/// Where the sidecar cannot be reached, or refuses, at the start. Later it is waited
/// for.
pub async fn watch(client: Client, json: bool) -> Result<Exit, Refusal> {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return Ok(complain(Exit::Failure, &format!("no signals: {error}"))),
    };
    let feed = tokio::select! {
        feed = Feed::open(client.clone()) => feed?,
        () = signals.next() => return Ok(Exit::Ok),
    };
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if json || dumb || !std::io::stdout().is_terminal() {
        Ok(lines(feed, json, signals).await)
    } else {
        Ok(screen::show(feed, client, signals).await)
    }
}

async fn lines(mut feed: Feed, json: bool, mut signals: Signals) -> Exit {
    loop {
        let news = tokio::select! {
            news = feed.next() => news,
            () = signals.next() => return Exit::Ok,
        };
        let text = match news {
            News::Event(event) if json => line::json(&event),
            News::Event(event) => line::text(&event),
            News::Cut(reason) => {
                complain(Exit::Ok, &format!("{reason}; trying again"));
                continue;
            }
        };
        // Each line by itself: whoever reads them wants them now.
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Exit::Ok,
            Err(error) => {
                let text = format!("cannot write to stdout: {error}");
                return complain(Exit::Failure, &text);
            }
        }
    }
}

/// SIGINT and SIGTERM end a watch; that is how it is meant to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
