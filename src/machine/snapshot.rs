//! What a node knows of its election, and what that means at a given moment.
//!
//! A snapshot holds moments, never a verdict: whether this node leads, its state
//! and even its revision are functions of the snapshot *and the present moment*
//! ([`Snapshot::at`]). A reader that was stopped for an hour between taking a
//! snapshot and reading it still gets the truth.

use std::time::Duration;

use super::standing::AppHealth;
use super::state::State;
use super::transition::{EventKind, Reason, Transition};
use crate::lease::{Epoch, HoldReason, Holder};
use crate::time::Moment;

/// What the machine is doing; [`State`] is derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing heard from the store yet.
    Starting,
    /// Waiting for the lease, or asking for it.
    Waiting,
    /// Holding the lease, and leading until its `leads_until`.
    Leading,
    /// Holding the lease while the app stops; not leading.
    Draining,
    /// Done.
    Stopped,
}

/// This node's own lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Its number.
    pub epoch: Epoch,
    /// When this node learnt that it was granted.
    pub acquired_at: Moment,
    /// The send of the request that last prolonged it.
    pub renewed_at: Moment,
    /// Leadership ends here unless renewed.
    pub leads_until: Moment,
    /// Nobody else can be granted the lease before this moment.
    pub ends_at: Moment,
}

/// Another node, as the store last told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Who.
    pub holder: Holder,
    /// When its lease ends unless it renews, by the store's last answer.
    pub free_at: Moment,
    /// Until when it is still named while the store is asked again.
    pub named_until: Moment,
}

/// How the store has been answering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// The last call was answered.
    pub connected: bool,
    /// When the store last answered.
    pub last_success: Option<Moment>,
    /// What was wrong with the last call.
    pub trouble: Option<String>,
}

/// What a node knows of its election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What the machine was doing when it last turned.
    pub role: Role,
    /// The process has been asked to end.
    pub stopping: bool,
    /// Rises by one with every [`Transition`].
    pub revision: u64,
    /// The highest epoch seen.
    pub term: Option<Epoch>,
    /// This node's lease, while leading or draining.
    pub tenure: Option<Tenure>,
    /// The other node that leads.
    pub leader: Option<Leader>,
    /// Why the store grants nothing at present.
    pub hold: Option<HoldReason>,
    /// How the store has been answering.
    pub store: StoreHealth,
    /// How the app is; `None` where nobody looks.
    pub health: Option<AppHealth>,
}

impl Snapshot {
    /// A node that has heard of nothing but, perhaps, an epoch of an earlier life.
    #[must_use]
    pub fn new(term: Option<Epoch>) -> Self {
        Self {
            role: Role::Starting,
            stopping: false,
            revision: 0,
            term,
            tenure: None,
            leader: None,
            hold: None,
            store: StoreHealth::default(),
            health: None,
        }
    }

    /// The same knowledge, with everything that has run out by `now` gone.
    #[must_use]
    pub fn at(&self, now: Moment) -> Self {
        let mut settled = self.clone();
        settled.settle(now);
        settled
    }

    /// Whether this node leads at `now`. The one question that everything rests on.
    #[must_use]
    pub fn is_leader(&self, now: Moment) -> bool {
        self.fence_token(now).is_some()
    }

    /// The epoch under which this node leads at `now`.
    #[must_use]
    pub fn fence_token(&self, now: Moment) -> Option<Epoch> {
        let tenure = self.tenure.as_ref()?;
        (self.role == Role::Leading && now < tenure.leads_until).then_some(tenure.epoch)
    }

    /// How long this node still leads at `now`, unless it renews.
    #[must_use]
    pub fn leads_for(&self, now: Moment) -> Duration {
        match &self.tenure {
            Some(tenure) if self.role == Role::Leading => tenure.leads_until.since(now),
            _ => Duration::ZERO,
        }
    }

    /// The state as of the last turn; use it on what [`Self::at`] returns.
    #[must_use]
    pub fn state(&self) -> State {
        match self.role {
            Role::Leading => State::Leader,
            _ if self.stopping => State::Stopping,
            Role::Starting => State::Starting,
            Role::Draining => State::SteppingDown,
            Role::Waiting if self.leader.is_some() => State::Follower,
            Role::Waiting => State::Candidate,
            Role::Stopped => State::Stopping,
        }
    }

    /// When the mere passing of time next changes what this snapshot means.
    #[must_use]
    pub fn changes_at(&self) -> Option<Moment> {
        match (&self.tenure, &self.leader) {
            (Some(tenure), _) if self.role == Role::Leading => Some(tenure.leads_until),
            (Some(tenure), _) if self.role == Role::Draining => Some(tenure.ends_at),
            (_, Some(leader)) => Some(leader.named_until),
            _ => None,
        }
    }

    /// Lets everything run out that has by `now`, and returns the event that this is.
    /// The machine and every reader go through this one function, so that they cannot
    /// disagree.
    pub fn settle(&mut self, now: Moment) -> Option<Transition> {
        let due = self.changes_at()?;
        if now < due {
            return None;
        }
        if self.tenure.is_some() {
            Some(self.lose(due, Reason::Expired))
        } else {
            Some(self.set_leader(due, None))
        }
    }

    /// Leadership, or the rest of a lease, ends.
    pub(super) fn lose(&mut self, at: Moment, reason: Reason) -> Transition {
        let from = self.state();
        let epoch = self.tenure.take().map(|tenure| tenure.epoch);
        self.role = Role::Waiting;
        let mut transition = self.transition(at, from, EventKind::Lost, reason);
        transition.epoch = epoch;
        transition
    }

    /// Another node leads, or nobody is known to.
    pub(super) fn set_leader(&mut self, at: Moment, leader: Option<Leader>) -> Transition {
        let from = self.state();
        let reason = match leader {
            Some(_) => Reason::LeaderSeen,
            None => Reason::LeaderGone,
        };
        self.leader = leader;
        self.transition(at, from, EventKind::LeaderChanged, reason)
    }

    pub(super) fn transition(
        &mut self,
        at: Moment,
        from: State,
        kind: EventKind,
        reason: Reason,
    ) -> Transition {
        self.revision += 1;
        let own = self.tenure.as_ref().map(|tenure| tenure.epoch);
        let other = self.leader.as_ref().map(|leader| &leader.holder);
        Transition {
            at,
            kind,
            from,
            to: self.state(),
            reason,
            epoch: own.or(other.map(|holder| holder.epoch)),
            leader: other.map(|holder| holder.profile.node.clone()),
            revision: self.revision,
            after: Box::new(self.clone()),
        }
    }
}
