//! A lease without a store: the members themselves keep it, by majority.
//!
//! [`QuorumLease`] is one election on one member, as a pure state machine: it does no I/O
//! and reads no clock. A shell hands it [`Input`]s with the present moment, and carries out
//! its [`Output`]s strictly in order.
//!
//! # Why at most one holds the lease
//! Q = ⌊N/2⌋+1 members must have granted an epoch, each durably before it said so, and any
//! two sets of Q members share one. That one grants nothing to another holder while its
//! grant is live on its own clock, for T(1+ρ) from when it *received* the claim or renewal
//! (A2, A4), and never an epoch twice or a lower one (A1). The holder counts T(1−ρ) from
//! before it *sent* that (C3, C4), and its own vote is bound before the first message
//! leaves (C2). So it has stopped before any quorum is free again, as long as the rates of
//! the clocks are off by less than ρ. A restart takes every stored grant for live, unless
//! its holder gave it up and the disk knows that (A6). A disk that lost its promises votes
//! again only when they are surely over (A7).
//!
//! What this does not give: exclusion where clocks break the bound, or where a disk says
//! "fsynced" and forgets. The epoch, as a fence, still orders the writes then.
//!
//! # Who asks
//! Safety rests on the grants alone. [`bully`] and [`ring`] choose who asks for them, so
//! that candidates do not split the votes: [`Algorithm`].
//!
//! # Layout
//! ```text
//! quorum ── step, wake_at ─┬─ campaign ─ bully, reach who asks (C1)
//!                          │    ├─ lap ── ring
//!                          │    └─ claim              the claim (C2, C3, C5)
//!                          ├─ lead ───── writes       renewals, release, checkpoint (C4, C6)
//!                          ├─ acceptor ─ join         grants (A1–A5); blank disks (A7)
//!                          └─ look                    observe and read, of a majority
//!                               └─ io, message, record, settings
//! ```

mod acceptor;
pub mod bully;
mod campaign;
mod claim;
mod io;
mod join;
mod lap;
mod lead;
mod look;
mod message;
mod reach;
mod record;
pub mod ring;
mod settings;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::BTreeSet;

pub use io::{Answer, Input, Output, Request, Ticket, Warning};
pub use message::{Asked, Envelope, Message, View};
pub use record::{Grant, Record, Roster, Stored};
pub use settings::{Algorithm, Flaw, Settings};

use crate::lease::{Epoch, Observed, StoreError};
use crate::peers::MemberId;
use crate::time::Moment;

/// With what a member starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// A new cluster, or a new election on a disk that is whole: nothing was ever granted
    /// by this member. An operator's word, never a guess.
    Bootstrap,
    /// A blank disk in an existing cluster.
    Blank,
    /// What the disk holds.
    Record(Box<Record>),
}

/// One election on one member.
#[derive(Debug)]
pub struct QuorumLease {
    settings: Settings,
    record: Record,
    /// Until when the recorded grant binds this member, on its own clock.
    live_until: Moment,
    /// When the disk is to know that the recorded grant has ended; `None` where it does.
    note_end_at: Option<Moment>,
    /// The recorded grant was claimed or renewed since this start. Before that it binds the
    /// own vote (A6) and says little about who leads now.
    confirmed: bool,
    /// The highest epoch heard of, granted here or not.
    seen: Option<Epoch>,
    /// The own sidecar is a candidate, as far as is known.
    wanted_until: Moment,
    /// After a failed claim.
    back_off: campaign::BackOff,
    /// After a probe or a lap.
    reach: reach::Reach,
    campaign: Option<campaign::Campaign>,
    /// A ring chose this member while its sidecar was not asking.
    mandate: Option<campaign::Mandate>,
    hop: Option<ring::Hop>,
    lead: Option<lead::Lead>,
    releases: Vec<lead::Releasing>,
    looks: Vec<look::Look>,
    join: Option<join::Join>,
    suspects: BTreeSet<MemberId>,
    warned_of_quorum: bool,
    warned_of_retirement: bool,
    rng: fastrand::Rng,
    /// Nothing was put on disk or said yet.
    fresh: bool,
}

impl QuorumLease {
    /// A member that starts now. Its first `step` puts its record on disk.
    #[must_use]
    pub fn new(now: Moment, settings: Settings, start: Start) -> Self {
        let record = match start {
            Start::Bootstrap => {
                let mut record = Record::default();
                record.disks.bind(settings.own, settings.disk.clone());
                record
            }
            Start::Blank => Record {
                joining: true,
                ..Record::default()
            },
            Start::Record(record) => *record,
        };
        // A6: a stored grant counts as live for a whole lease, one's own too, unless its
        // holder gave it up.
        let live_until = match &record.grant {
            Some(grant) if !record.ended && !settings.has(Flaw::A6RestartFreesTheLease) => {
                now + settings.bound(grant.lease())
            }
            _ => now,
        };
        let join = record.joining.then(|| join::Join::new(now, &settings));
        Self {
            seen: record.known,
            live_until,
            note_end_at: None,
            confirmed: false,
            wanted_until: now,
            back_off: campaign::BackOff::new(now),
            reach: reach::Reach::default(),
            campaign: None,
            mandate: None,
            hop: None,
            lead: None,
            releases: Vec::new(),
            looks: Vec::new(),
            join,
            suspects: BTreeSet::new(),
            warned_of_quorum: false,
            warned_of_retirement: false,
            rng: fastrand::Rng::with_seed(settings.seed),
            fresh: true,
            record,
            settings,
        }
    }

    /// Who leads as far as this member can tell by itself: of use for a wake-up, and for
    /// nothing else.
    #[must_use]
    pub fn glimpse(&self, now: Moment) -> Option<Observed> {
        let (grant, left) = self.live(now).filter(|_| self.confirmed)?;
        Some(Observed {
            epoch: Some(grant.epoch),
            holder: Some((grant.holder(), left)),
        })
    }

    /// What is, or is about to be, on disk.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Takes one input at `now`; moments never go back from one call to the next.
    pub fn step(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        if self.fresh {
            self.begin(out);
        }
        // First of all: an answer that comes after the lease is over finds no tenure.
        self.lead_on_time(now, out);
        match input {
            Input::Message { from, envelope } => self.on_envelope(now, from, *envelope, out),
            Input::Ask { ticket, request } => self.on_ask(now, ticket, request, out),
            Input::Suspected(member) => {
                self.suspects.insert(member);
                self.count_heard(out);
                self.count_claim(now, out);
            }
            Input::Recovered(member) => {
                self.suspects.remove(&member);
                self.count_heard(out);
            }
            Input::Wake => {}
        }
        self.on_time(now, out);
    }

    /// When the next `Wake` is due; `None` where nothing is under way.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        let hop = self.hop.iter().map(|hop| hop.until);
        let lead = self.lead.iter().map(lead::Lead::wake_at);
        let releases = self.releases.iter().map(|release| release.until);
        let looks = self.looks.iter().map(|look| look.until);
        let join = self.join.iter().map(|join| join.wake_at(&self.settings));
        let campaign = self.campaign.iter().map(campaign::Campaign::wake_at);
        let note_end = self.note_end_at.into_iter();
        let all = hop
            .chain(lead)
            .chain(releases)
            .chain(looks)
            .chain(join)
            .chain(campaign)
            .chain(note_end);
        all.min()
    }

    fn begin(&mut self, out: &mut Vec<Output>) {
        self.fresh = false;
        self.persist(out);
        let members = self.settings.members.len();
        if members.is_multiple_of(2) {
            let quorum = self.settings.quorum();
            out.push(Output::Warn(Warning::EvenMembers { members, quorum }));
        }
    }

    fn on_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.join_on_time(now, out);
        self.hop_on_time(now, out);
        self.lead_on_time(now, out);
        self.releases_on_time(now, out);
        self.looks_on_time(now, out);
        self.campaign_on_time(now, out);
        if self.note_end_at.is_some_and(|at| now >= at) {
            self.persist(out);
        }
    }

    fn on_ask(&mut self, now: Moment, ticket: Ticket, request: Request, out: &mut Vec<Output>) {
        if self.retired() {
            let why = Warning::Retired.to_string();
            return reply(ticket, Err(StoreError::Rejected(why)), out);
        }
        match request {
            Request::Acquire { bid, wall } => self.acquire(now, ticket, bid, wall, out),
            Request::Renew(claim) => self.renew(now, ticket, &claim, out),
            Request::Release { claim, prefer } => self.release(now, ticket, &claim, prefer, out),
            Request::Observe => self.look(now, ticket, look::Kind::Observe, out),
            Request::Read => self.look(now, ticket, look::Kind::Read, out),
            Request::Write(write) => self.write(now, ticket, write, out),
        }
    }

    fn count_heard(&mut self, out: &mut Vec<Output>) {
        let members = self.settings.members.len();
        let silent = self
            .settings
            .others()
            .filter(|id| self.suspects.contains(id));
        let heard = members - silent.count();
        self.heard(heard, out);
    }

    /// Warns once when a quorum is lost.
    fn heard(&mut self, heard: usize, out: &mut Vec<Output>) {
        let (members, quorum) = (self.settings.members.len(), self.settings.quorum());
        let lost = heard < quorum;
        if lost && !self.warned_of_quorum {
            out.push(Output::Warn(Warning::NoQuorum {
                heard,
                members,
                quorum,
            }));
        }
        self.warned_of_quorum = lost;
    }

    fn persist(&mut self, out: &mut Vec<Output>) {
        self.note_end_at = None;
        out.push(Output::Persist(Box::new(self.record.clone())));
    }

    fn send(&self, to: MemberId, message: Message, out: &mut Vec<Output>) {
        let envelope = Box::new(Envelope {
            disk: self.settings.disk.clone(),
            disks: self.record.disks.clone(),
            message,
        });
        out.push(Output::Send { to, envelope });
    }

    fn broadcast(&self, message: &Message, out: &mut Vec<Output>) {
        for to in self.settings.others() {
            self.send(to, message.clone(), out);
        }
    }

    fn see(&mut self, epoch: Option<Epoch>) {
        self.seen = self.seen.max(epoch);
    }
}

fn reply(ticket: Ticket, answer: Result<Answer, StoreError>, out: &mut Vec<Output>) {
    out.push(Output::Answer { ticket, answer });
}
