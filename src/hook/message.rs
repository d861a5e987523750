//! What the app is to be told: the state of this moment, under the name of the event that
//! the app has not heard of yet.

use serde::Serialize;

use crate::api::{Shared, Status};
use crate::lease::Epoch;
use crate::machine::{EventKind, Role, Snapshot};
use crate::sidecar::{Election, Entry};

/// What matters most to an app of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It leads.
    Leads(Epoch),
    /// It is to drain: the lease is renewed meanwhile.
    Releases(Epoch),
    /// It does not lead.
    Idle,
}

impl Standing {
    /// Of a snapshot in which nothing has run out.
    pub fn of(snapshot: &Snapshot) -> Self {
        match (snapshot.role, snapshot.tenure) {
            (Role::Leading, Some(tenure)) => Self::Leads(tenure.epoch),
            (Role::Draining, Some(tenure)) => Self::Releases(tenure.epoch),
            _ => Self::Idle,
        }
    }

    fn event(self) -> EventKind {
        match self {
            Self::Leads(_) => EventKind::Acquired,
            Self::Releases(_) => EventKind::Releasing,
            Self::Idle => EventKind::Lost,
        }
    }
}

/// What the app knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// What it acknowledged last; `None` where it may have heard of something else since.
    pub standing: Option<Standing>,
    /// Up to which revision.
    pub revision: u64,
}

impl Told {
    /// An app that has not been called is not leader.
    pub const NOTHING: Self = Self {
        standing: Some(Standing::Idle),
        revision: 0,
    };
}

/// One call's content.
#[derive(Debug)]
pub(super) struct Message {
    pub kind: EventKind,
    pub standing: Standing,
    pub revision: u64,
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: &'a Status,
}

impl Message {
    /// What there is to tell now; `None` where the app knows it all.
    pub fn due(shared: &Shared, election: &Election, told: Told) -> Option<Self> {
        let (snapshot, status) = consistent(shared, election);
        let standing = Standing::of(&snapshot);
        let news = told.standing != Some(standing);
        if !news && snapshot.revision <= told.revision {
            return None;
        }
        let history = election.history();
        let kind = match news {
            // Whatever else has happened: leading or not is what the app must hear.
            true => standing.event(),
            false => newest(&history, snapshot.revision),
        };
        let noted = history.iter().find(|entry| entry.event == kind);
        let at = noted.map_or_else(|| election.clock().wall(), |entry| entry.at);
        let body = Body {
            kind: kind.as_str(),
            timestamp: at.to_string(),
            data: &status,
        };
        Some(Self {
            kind,
            standing,
            revision: snapshot.revision,
            body: serde_json::to_vec(&body).unwrap_or_default(),
        })
    }
}

/// A snapshot, and the status body of the same revision.
fn consistent(shared: &Shared, election: &Election) -> (Snapshot, Status) {
    loop {
        let status = shared.status(election);
        let snapshot = election.snapshot();
        if snapshot.revision == status.revision {
            return (snapshot, status);
        }
    }
}

/// The event that led to that revision. What is not noted yet is a deadline that passed:
/// that of this node's lease would be news, so it is another leader's.
fn newest(history: &[Entry], revision: u64) -> EventKind {
    let mut known = history.iter().filter(|entry| entry.revision <= revision);
    match known.next() {
        Some(entry) if entry.revision == revision => entry.event,
        _ => EventKind::LeaderChanged,
    }
}
