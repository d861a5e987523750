//! The live view: redrawn at each event, and often enough for the lease to be seen
//! draining.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::super::ask::complain;
use super::Signals;
use super::feed::{Feed, News};
use super::view::View;
use crate::client::Client;
use crate::exit::Exit;
use crate::time::{BootClock, Clock as _, Moment, pause};

/// A tenth of a second is what the lease is shown to.
const FRAME: Duration = Duration::from_millis(100);
/// Renewals are no events, so the lease is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows an election until somebody ends it.
pub async fn show(feed: Feed, client: Client, mut signals: Signals) -> Exit {
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => return complain(Exit::Failure, &format!("no view here: {error}")),
    };
    let mut keys = keys();
    let mut news = follow(feed);
    let asking = Asking::start(client);
    let mut view = View {
        colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        ..View::default()
    };
    let mut told = asking.told.clone();
    let exit = loop {
        if let Err(error) = terminal.draw(|frame| view.draw(frame, BootClock.now())) {
            break complain(Exit::Failure, &format!("the terminal is gone: {error}"));
        }
        tokio::select! {
            Some(news) = news.recv() => match news {
                News::Event(event) => {
                    view.cut = None;
                    // After a cut the others tell of the past first: they say only
                    // that it is time to ask.
                    if event.name == "status" {
                        view.learn(event.status, BootClock.now());
                    }
                    asking.now.notify_one();
                }
                News::Cut(reason) => view.cut = Some(reason),
            },
            Ok(()) = told.changed() => {
                if let Some(answer) = told.borrow_and_update().clone() {
                    view.learn(answer.status, answer.asked_at);
                    view.history = answer.history;
                }
            }
            Some(()) = keys.recv() => break Exit::Ok,
            () = signals.next() => break Exit::Ok,
            () = pause(FRAME) => {}
        }
    };
    ratatui::restore();
    exit
}

/// Follows the feed apart from the view: drawing must not interrupt what it waits for.
fn follow(mut feed: Feed) -> mpsc::Receiver<News> {
    let (send, news) = mpsc::channel(1);
    tokio::spawn(async move { while send.send(feed.next().await).await.is_ok() {} });
    news
}

/// Tells of the key that ends the watch. A raw terminal sends Ctrl-C as a key.
fn keys() -> mpsc::Receiver<()> {
    let (send, keys) = mpsc::channel(1);
    // Ends with the process: nothing wakes a thread that waits for a key.
    std::thread::spawn(move || {
        while let Ok(input) = event::read() {
            let Input::Key(key) = input else { continue };
            let interrupt = key.modifiers.contains(KeyModifiers::CONTROL);
            let ends = match key.code {
                KeyCode::Char('c') => interrupt,
                KeyCode::Char('q') | KeyCode::Esc => true,
                _ => false,
            };
            if ends && key.kind == KeyEventKind::Press && send.blocking_send(()).is_err() {
                return;
            }
        }
    });
    keys
}

/// An answer to what no event tells.
#[derive(Clone, Debug)]
struct Answer {
    status: Value,
    asked_at: Moment,
    history: Vec<Value>,
}

/// Asks beside the view, so that a sidecar that stands still does not freeze it.
struct Asking {
    told: watch::Receiver<Option<Answer>>,
    now: std::sync::Arc<tokio::sync::Notify>,
    task: AbortHandle,
}

impl Asking {
    fn start(client: Client) -> Self {
        let client = client.patient_for(PATIENCE);
        let (tell, told) = watch::channel(None);
        let now = std::sync::Arc::new(tokio::sync::Notify::new());
        let asked = std::sync::Arc::clone(&now);
        let task = tokio::spawn(async move {
            loop {
                if let Some(answer) = ask(&client).await {
                    tell.send_replace(Some(answer));
                }
                tokio::select! {
                    () = asked.notified() => {}
                    () = pause(ASK_EVERY) => {}
                }
            }
        });
        Self {
            told,
            now,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The status and the history; `None` where there is no answer, which the feed tells
/// of as well.
async fn ask(client: &Client) -> Option<Answer> {
    let asked_at = BootClock.now();
    let status = client.send("GET", "/status", &[], Vec::new()).await.ok()?;
    let history = client.send("GET", "/history", &[], Vec::new()).await.ok()?;
    Some(Answer {
        status: serde_json::from_slice(&status.body).ok()?,
        asked_at,
        history: serde_json::from_slice(&history.body).ok()?,
    })
}
