//! The last transitions of this node, for `/history` and `/events`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::lease::{Epoch, NodeId};
use crate::machine::{EventKind, Reason, Snapshot, State, Transition};
use crate::time::{Moment, UnixMs};

/// How many transitions are kept.
const KEPT: usize = 100;

/// One transition, as `/history` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When, by this node's wall clock.
    #[serde(serialize_with = "as_text")]
    pub at: UnixMs,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// The event that told of it.
    #[serde(serialize_with = "as_event")]
    pub event: EventKind,
    /// The epoch it is about.
    pub epoch: Option<Epoch>,
    /// Who leads afterwards.
    pub leader: Option<NodeId>,
    /// The revision afterwards.
    pub revision: u64,
    /// When, by the clock that deadlines are read from.
    #[serde(skip)]
    pub moment: Moment,
    /// What the node knew right afterwards; as of `moment`, nothing in it has run out.
    #[serde(skip)]
    pub after: Arc<Snapshot>,
}

fn as_text<S: serde::Serializer>(at: &UnixMs, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

fn as_event<S: serde::Serializer>(kind: &EventKind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.as_str())
}

/// The last transitions, newest last, each revision once and none left out.
#[derive(Debug)]
pub struct History {
    node: NodeId,
    entries: Mutex<VecDeque<Entry>>,
    last_win: Mutex<Option<(Epoch, UnixMs)>>,
}

/// What the history has after a revision.
pub(super) enum Next {
    /// The event that followed it.
    Event(Box<Entry>),
    /// None yet.
    Nothing,
    /// It is so long ago that what followed is forgotten.
    Forgotten,
}

impl History {
    /// The history of the node of that name.
    pub(super) fn of(node: NodeId) -> Self {
        Self {
            node,
            entries: Mutex::default(),
            last_win: Mutex::default(),
        }
    }

    /// Notes a transition, told at `now` and `wall`; one that is noted already, by
    /// whoever was first to see it, stays as it is.
    pub(super) fn add(&self, transition: &Transition, now: Moment, wall: UnixMs) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = entries.back().map_or(0, |entry| entry.revision);
        if transition.revision <= newest {
            return;
        }
        let at = wall.before(now.since(transition.at));
        let own = transition.kind == EventKind::Acquired;
        if let (true, Some(epoch)) = (own, transition.epoch) {
            let mut last = self.last_win.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((epoch, at));
        }
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(Entry {
            at,
            from: transition.from,
            to: transition.to,
            reason: transition.reason,
            event: transition.kind,
            epoch: transition.epoch,
            leader: match own {
                true => Some(self.node.clone()),
                false => transition.leader.clone(),
            },
            revision: transition.revision,
            moment: transition.at,
            after: Arc::from(transition.after.clone()),
        });
    }

    /// When this node won that epoch, where it is its newest.
    pub(super) fn won_at(&self, epoch: Epoch) -> Option<UnixMs> {
        let last = *self.last_win.lock().unwrap_or_else(PoisonError::into_inner);
        last.and_then(|(won, at)| (won == epoch).then_some(at))
    }

    /// What followed a revision.
    pub(super) fn next(&self, revision: u64) -> Next {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(oldest), Some(newest)) = (entries.front(), entries.back()) else {
            return Next::Nothing;
        };
        if revision >= newest.revision {
            return Next::Nothing;
        }
        // Revisions rise by one, so the place of one is known.
        let place = (revision + 1).checked_sub(oldest.revision);
        let entry = place.and_then(|place| entries.get(usize::try_from(place).ok()?));
        entry.map_or(Next::Forgotten, |entry| {
            Next::Event(Box::new(entry.clone()))
        })
    }

    /// The transitions, newest first.
    #[must_use]
    pub fn newest_first(&self) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().rev().cloned().collect()
    }
}
