//! Bully: who asks for a free lease is the highest live rank.
//!
//! It departs from the textbook (H. Garcia-Molina, *Elections in a distributed computing
//! system*, 1982) on purpose: a live leader is not pre-empted by a higher rank, and a
//! claim counts by its epoch, not by its id. What is left is a probe that grants nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::message::View;
use super::record::Grant;
use crate::peers::MemberId;

/// What a candidate does next, as the algorithm has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough is known yet.
    Wait,
    /// Claim the lease.
    Claim,
    /// A higher rank campaigns.
    StandDown,
    /// Somebody's lease is live, and too few would grant another.
    Held(Box<Grant>, Duration),
    /// Too few answer: so many, this member among them.
    NoQuorum(usize),
}

/// What one member answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// It would grant a claim now.
    pub willing: bool,
    /// It ranks higher and campaigns itself.
    pub superior: bool,
    /// What it knows of leases.
    pub view: View,
}

/// One question to everybody.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    replies: BTreeMap<MemberId, Reply>,
}

impl Probe {
    /// Notes an answer; a later one replaces an earlier.
    pub fn heard(&mut self, from: MemberId, reply: Reply) {
        self.replies.insert(from, reply);
    }

    /// Who has answered.
    pub fn answered(&self) -> BTreeSet<MemberId> {
        self.replies.keys().copied().collect()
    }

    /// Decides, where `expected` are the other members that may still answer and
    /// `time_is_up` that nobody waits for them any more.
    pub fn verdict(
        &self,
        quorum: usize,
        mut expected: impl Iterator<Item = MemberId>,
        time_is_up: bool,
    ) -> Verdict {
        if self.replies.values().any(|reply| reply.superior) {
            return Verdict::StandDown;
        }
        let missing = expected.any(|id| !self.replies.contains_key(&id));
        if missing && !time_is_up {
            return Verdict::Wait;
        }
        let heard = self.replies.len() + 1;
        if heard < quorum {
            return Verdict::NoQuorum(heard);
        }
        let willing = self.replies.values().filter(|reply| reply.willing).count() + 1;
        if willing >= quorum {
            return Verdict::Claim;
        }
        held(self.replies.values().map(|reply| &reply.view))
    }
}

/// The newest lease that is live in somebody's eyes. Without one there is nothing to wait
/// for but the next try.
pub(super) fn held<'a>(views: impl Iterator<Item = &'a View>) -> Verdict {
    let live = views.filter_map(|view| Some((view.live.as_ref()?, view.left())));
    match live.max_by_key(|(grant, left)| (grant.epoch, *left)) {
        Some((grant, left)) => Verdict::Held(Box::new(grant.clone()), left),
        None => Verdict::StandDown,
    }
}
