//! The last transitions of this node, for `/history`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::lease::{Epoch, NodeId};
use crate::machine::{EventKind, Reason, State, Transition};
use crate::time::UnixMs;

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
}

fn as_text<S: serde::Serializer>(at: &UnixMs, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

fn as_event<S: serde::Serializer>(kind: &EventKind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.as_str())
}

/// The last transitions, newest last.
#[derive(Debug, Default)]
pub struct History {
    entries: Mutex<VecDeque<Entry>>,
    last_win: Mutex<Option<(Epoch, UnixMs)>>,
}

impl History {
    pub(super) fn add(&self, transition: &Transition, at: UnixMs, node: &NodeId) {
        let own = transition.kind == EventKind::Acquired;
        let leader = if own {
            Some(node)
        } else {
            transition.leader.as_ref()
        };
        if let (true, Some(epoch)) = (own, transition.epoch) {
            let mut last = self.last_win.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((epoch, at));
        }
        let entry = Entry {
            at,
            from: transition.from,
            to: transition.to,
            reason: transition.reason,
            event: transition.kind,
            epoch: transition.epoch,
            leader: leader.cloned(),
            revision: transition.revision,
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// When this node won that epoch, where it is its newest.
    pub(super) fn won_at(&self, epoch: Epoch) -> Option<UnixMs> {
        let last = *self.last_win.lock().unwrap_or_else(PoisonError::into_inner);
        last.and_then(|(won, at)| (won == epoch).then_some(at))
    }

    /// The transitions, newest first.
    #[must_use]
    pub fn newest_first(&self) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().rev().cloned().collect()
    }
}
