//! GET `/events`: what happens to an election, as server-sent events.
//!
//! A reader is handed an event when its connection takes one, and only then: what it
//! has not read yet waits in the shared history, not in a buffer of its own. One that
//! stands still is cut off by the listener; one that crawls is, here, when the history
//! has gone on without it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::extract::Of;
use super::openapi::ProblemBody;
use super::problem::Problem;
use super::status::Status;
use super::wait::no_timer;
use crate::sidecar::{Election, Events, EventsEnd};

/// A comment after this much silence shows both sides that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a browser is to connect again; each would choose its own time otherwise.
const RETRY: Duration = Duration::from_secs(1);

/// The places that readers of events take, over all elections.
pub(super) struct Seats {
    free: Arc<Semaphore>,
    all: usize,
}

impl Seats {
    pub fn new(all: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let all = self.all;
            let detail = format!(
                "{all} readers follow events already, which is the most (--max-event-readers); \
                 ask /status?after_revision= instead"
            );
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Problem::new(status, "too-many-event-readers", detail).with("max_event_readers", all)
        })
    }
}

/// GET `/events`
#[utoipa::path(
    get,
    path = "/events",
    description = "Server-sent events: a status event first, then each change, with the body of \
                   /status as data. Last-Event-ID resumes.",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that was read"),
    ),
    responses(
        (status = 200, description = "a stream that does not end", body = String, content_type = "text/event-stream",
            headers(("X-Accel-Buffering" = String, description = "no: a proxy passes events on at once"))),
        (status = 503, description = "too-many-event-readers; out-of-resources", body = ProblemBody),
    )
)]
pub async fn events(
    State(shared): State<Shared>,
    Of(election): Of,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seat = shared.seats.take()?;
    let resumed = resumed(&shared, &election, &headers);
    let events = match resumed {
        Some(revision) => election.events(revision),
        None => election.events(0),
    };
    let events = events.map_err(|error| no_timer(&error))?;
    let reader = Reader {
        shared,
        election,
        events,
        greeted: resumed.is_some(),
        _seat: seat,
    };
    let stream = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    // A proxy that gathers an answer before it passes it on would hold events back.
    let unbuffered = (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(([unbuffered], Sse::new(stream).keep_alive(alive)).into_response())
}

struct Reader {
    shared: Shared,
    election: Election,
    events: Events,
    /// It knows the state that the next event changes.
    greeted: bool,
    _seat: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        if !self.greeted {
            self.greeted = true;
            let status = Status::now(&self.shared, &self.election);
            self.events.skip_to(status.revision);
            return event("status", &status).map(|event| event.retry(RETRY));
        }
        match self.events.next().await {
            Ok(entry) => {
                let status = Status::of_event(&self.shared, &self.election, &entry);
                event(entry.event.as_str(), &status)
            }
            Err(EventsEnd::Behind) => {
                let election = self.election.name();
                tracing::debug!(%election, "an event reader was too slow and is dropped");
                None
            }
            Err(EventsEnd::Ended) => None,
        }
    }
}

fn event(name: &str, status: &Status) -> Option<Event> {
    let event = Event::default().event(name).id(status.event_id());
    event.json_data(status).ok()
}

/// The revision that the reader has seen last, where what followed it is still known:
/// an id of this start of the process, neither too old nor from the future.
fn resumed(shared: &Shared, election: &Election, headers: &HeaderMap) -> Option<u64> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    let (boot_id, revision) = id.split_once(':')?;
    let revision = revision.parse().ok()?;
    let known = boot_id == shared.boot_id.as_str() && election.remembers_since(revision);
    known.then_some(revision)
}
