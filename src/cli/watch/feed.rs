//! The events of a sidecar, over as many connections as it takes.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use serde_json::Value;
use sse_stream::{Sse, SseByteStream};

use super::super::ask::{Refusal, refused};
use crate::client::{Answer, Client, ClientError};
use crate::time::pause;

/// The sidecar breaks each silence after 15 s; three of them missed, it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// Between two attempts to connect again, which cost a sidecar nothing.
const RETRY: Duration = Duration::from_millis(500);

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind.
    pub name: String,
    /// Where it stands in the order of events.
    pub id: String,
    /// The status at its moment.
    pub status: Value,
}

/// What a feed tells.
#[derive(Clone, Debug)]
pub enum News {
    /// Something happened.
    Event(Event),
    /// The connection was lost, for this reason; it is being made again.
    Cut(String),
}

type Events = Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

/// Why there is no stream.
enum Trouble {
    Client(ClientError),
    Refused(Answer),
}

impl Trouble {
    fn reason(&self) -> String {
        match self {
            Self::Client(error) => error.to_string(),
            Self::Refused(answer) => match detail(answer)["detail"].as_str() {
                Some(detail) => detail.to_owned(),
                None => format!("the sidecar answered {}", answer.status),
            },
        }
    }
}

fn detail(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// Follows `/events`, and goes on where it was after a cut.
pub struct Feed {
    client: Client,
    events: Option<Events>,
    last_id: Option<String>,
    /// Why there is no connection, as it was told last: attempts in vain are not news.
    cut: Option<String>,
}

impl Feed {
    /// Connects for the first time.
    ///
    /// # Errors
    /// Where nobody answers, or the answer is a refusal.
    pub async fn open(client: Client) -> Result<Self, Refusal> {
        let mut feed = Self {
            client,
            events: None,
            last_id: None,
            cut: None,
        };
        match feed.connect().await {
            Ok(events) => feed.events = Some(events),
            Err(Trouble::Client(error)) => return Err(Refusal::Client(error)),
            Err(Trouble::Refused(answer)) => {
                let body = detail(&answer);
                return Err(Refusal::Told(refused(&answer, &body)));
            }
        }
        Ok(feed)
    }

    async fn connect(&mut self) -> Result<Events, Trouble> {
        let mut headers = vec![("accept", "text/event-stream")];
        if let Some(id) = &self.last_id {
            headers.push(("last-event-id", id));
        }
        let answer = self.client.open("/events", &headers).await;
        let answer = answer.map_err(Trouble::Client)?;
        if answer.status.is_success() {
            return Ok(Box::pin(SseByteStream::new(answer.bytes(SILENCE))));
        }
        let whole = self.client.finish(answer).await;
        Err(whole.map_or_else(Trouble::Client, Trouble::Refused))
    }

    /// The next news.
    pub async fn next(&mut self) -> News {
        loop {
            let Some(events) = &mut self.events else {
                pause(RETRY).await;
                match self.connect().await {
                    Ok(events) => self.events = Some(events),
                    Err(trouble) => {
                        let reason = trouble.reason();
                        if self.cut.as_ref() != Some(&reason) {
                            return self.cut(reason);
                        }
                    }
                }
                continue;
            };
            match events.next().await {
                Some(Ok(event)) => {
                    if let Some(event) = self.take(event) {
                        return News::Event(event);
                    }
                }
                Some(Err(error)) => return self.cut(error.to_string()),
                None => return self.cut("the sidecar has ended the stream".to_owned()),
            }
        }
    }

    fn take(&mut self, event: Sse) -> Option<Event> {
        self.cut = None;
        let status = serde_json::from_str(&event.data?).ok()?;
        let id = event.id.unwrap_or_default();
        self.last_id = Some(id.clone());
        Some(Event {
            name: event.event.unwrap_or_else(|| "message".to_owned()),
            id,
            status,
        })
    }

    fn cut(&mut self, reason: String) -> News {
        self.events = None;
        self.cut = Some(reason.clone());
        News::Cut(reason)
    }
}
