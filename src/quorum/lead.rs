//! Holding the lease: renewals (C4), the end of it, and its release (C6).

use std::collections::BTreeSet;

use super::io::{Answer, Ticket};
use super::message::Message;
use super::record::Grant;
use super::writes::Writes;
use super::{Flaw, Output, QuorumLease, reply};
use crate::lease::{
    Acquired, Claim, Epoch, HoldReason, Holder, NodeId, Released, Renewed, SessionId, StoreError,
};
use crate::peers::MemberId;
use crate::time::Moment;

/// What a renewal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Renew,
    /// The answer to the claim was lost, and the session asks again.
    Acquire,
}

/// One renewal under way.
#[derive(Debug)]
struct Beat {
    seq: u64,
    sent_at: Moment,
    until: Moment,
    acks: BTreeSet<MemberId>,
    ticket: Ticket,
    purpose: Purpose,
}

/// A tenure of this member.
#[derive(Debug)]
pub(super) struct Lead {
    pub grant: Grant,
    /// When the lease is over for its holder.
    pub ends_at: Moment,
    pub writes: Writes,
    seq: u64,
    beats: Vec<Beat>,
    /// Who has granted a later epoch: their votes never come back to this one.
    gone: BTreeSet<MemberId>,
}

/// A release that the others have yet to acknowledge.
#[derive(Debug)]
pub(super) struct Releasing {
    epoch: Epoch,
    ticket: Ticket,
    pub until: Moment,
    acks: BTreeSet<MemberId>,
}

impl Lead {
    pub fn new(grant: Grant, ends_at: Moment, writes: Writes) -> Self {
        Self {
            grant,
            ends_at,
            writes,
            seq: 0,
            beats: Vec::new(),
            gone: BTreeSet::new(),
        }
    }

    pub fn wake_at(&self) -> Moment {
        let beats = self.beats.iter().map(|beat| beat.until);
        let due = beats.chain(self.writes.wake_at()).min();
        due.map_or(self.ends_at, |due| due.min(self.ends_at))
    }
}

impl QuorumLease {
    pub(super) fn renew(
        &mut self,
        now: Moment,
        ticket: Ticket,
        claim: &Claim,
        out: &mut Vec<Output>,
    ) {
        if let Err(error) = claim.check() {
            return reply(ticket, Err(error), out);
        }
        let own = |grant: &Grant| grant.epoch == claim.epoch && grant.session == claim.session;
        if self.lead.as_ref().is_none_or(|lead| !own(&lead.grant)) {
            let foreign = self.live_foreign(now, self.settings.own, &claim.session);
            // The session's own later tenure, too, has put an end to that epoch.
            let later = self.lead.as_ref().map(|lead| lead.grant.holder());
            let holder = foreign.map(|(grant, _)| grant.holder()).or(later);
            return reply(ticket, Ok(Answer::Renewed(Renewed::Lost(holder))), out);
        }
        self.beat(now, ticket, Purpose::Renew, out);
    }

    /// Sends a renewal. It counts in the own record from its send: whoever it makes wait,
    /// this member waits at least as long.
    pub(super) fn beat(
        &mut self,
        now: Moment,
        ticket: Ticket,
        purpose: Purpose,
        out: &mut Vec<Output>,
    ) {
        let Some(lead) = &mut self.lead else { return };
        lead.seq += 1;
        let seq = lead.seq;
        lead.beats.push(Beat {
            seq,
            sent_at: now,
            until: now + self.settings.patience,
            acks: [self.settings.own].into(),
            ticket,
            purpose,
        });
        let grant = lead.grant.clone();
        if !self.settings.has(Flaw::C2OwnGrantLast) {
            let until = now + self.settings.bound(grant.lease());
            self.live_until = self.live_until.max(until);
        }
        self.broadcast(&Message::Heartbeat { grant, seq }, out);
        self.send_value(out);
        self.count_beat(now, seq, out);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn on_beat_ack(
        &mut self,
        now: Moment,
        from: MemberId,
        epoch: Epoch,
        seq: u64,
        ok: bool,
        known: Option<Epoch>,
        out: &mut Vec<Output>,
    ) {
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.grant.epoch == epoch) else {
            return;
        };
        if !ok {
            if known > Some(epoch) {
                lead.gone.insert(from);
            }
            // Too few are left that could ever agree again.
            let members = self.settings.members.len();
            if members - lead.gone.len() < self.settings.quorum() {
                self.end_lead(None, out);
            }
            return;
        }
        if let Some(beat) = lead.beats.iter_mut().find(|beat| beat.seq == seq) {
            beat.acks.insert(from);
            self.count_beat(now, seq, out);
        }
    }

    fn count_beat(&mut self, now: Moment, seq: u64, out: &mut Vec<Output>) {
        let quorum = self.settings.quorum();
        let Some(lead) = &mut self.lead else { return };
        let at = lead.beats.iter().position(|beat| beat.seq == seq);
        let Some(at) = at.filter(|at| lead.beats[*at].acks.len() >= quorum) else {
            return;
        };
        let beat = lead.beats.remove(at);
        let lease = lead.grant.lease();
        // C4: from the send of this renewal, whenever its answers came.
        let ends_at = beat.sent_at + self.settings.usable(lease);
        lead.ends_at = lead.ends_at.max(ends_at);
        let mut left = lease;
        if self.settings.has(Flaw::C4CountsFromTheAnswer) {
            left += now.since(beat.sent_at);
        }
        let epoch = lead.grant.epoch;
        let answer = match beat.purpose {
            Purpose::Renew => Answer::Renewed(Renewed::Kept { left }),
            Purpose::Acquire => Answer::Acquired(Acquired::Won { epoch, left }),
        };
        reply(beat.ticket, Ok(answer), out);
    }

    pub(super) fn lead_on_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(lead) = &mut self.lead else { return };
        if now >= lead.ends_at {
            return self.end_lead(None, out);
        }
        for beat in lead.beats.extract_if(.., |beat| beat.until <= now) {
            let why = "too few members have answered the renewal".to_owned();
            reply(beat.ticket, Err(StoreError::Indeterminate(why)), out);
        }
        self.writes_on_time(now, out);
    }

    /// The tenure is over here. The own vote stays bound until its own moment.
    pub(super) fn end_lead(&mut self, holder: Option<Holder>, out: &mut Vec<Output>) {
        let Some(lead) = self.lead.take() else { return };
        for beat in lead.beats {
            let answer = match beat.purpose {
                Purpose::Renew => Answer::Renewed(Renewed::Lost(holder.clone())),
                Purpose::Acquire => Answer::Acquired(Acquired::Hold {
                    retry_in: self.settings.patience,
                    why: HoldReason::ElectionUnderWay,
                }),
            };
            reply(beat.ticket, Ok(answer), out);
        }
        lead.writes.end(out);
    }

    pub(super) fn release(
        &mut self,
        now: Moment,
        ticket: Ticket,
        claim: &Claim,
        prefer: Option<NodeId>,
        out: &mut Vec<Output>,
    ) {
        let (own, session) = (self.settings.own, &claim.session);
        let recorded = self.record.grant.as_ref();
        let ours = |grant: &Grant| grant.epoch == claim.epoch && grant.held_by(own, session);
        if !recorded.is_some_and(ours) {
            return reply(ticket, Ok(Answer::Released(Released::NotHeld)), out);
        }
        self.end_lead(None, out);
        // It asks again when it wants the lease again; until then nobody waits for it.
        self.wanted_until = now;
        self.give_back(now, claim.epoch, session, prefer, out);
        self.releases.push(Releasing {
            epoch: claim.epoch,
            ticket,
            until: now + self.settings.patience,
            acks: [own].into(),
        });
        self.releases_done(out);
    }

    /// Frees the own vote and asks the others to.
    pub(super) fn give_back(
        &mut self,
        now: Moment,
        epoch: Epoch,
        session: &SessionId,
        prefer: Option<NodeId>,
        out: &mut Vec<Output>,
    ) {
        self.free(now);
        let session = session.clone();
        let release = Message::Release {
            epoch,
            session,
            prefer,
        };
        self.broadcast(&release, out);
    }

    pub(super) fn on_release_ack(&mut self, from: MemberId, epoch: Epoch, out: &mut Vec<Output>) {
        for release in self.releases.iter_mut().filter(|it| it.epoch == epoch) {
            release.acks.insert(from);
        }
        self.releases_done(out);
    }

    fn releases_done(&mut self, out: &mut Vec<Output>) {
        let quorum = self.settings.quorum();
        let done = |it: &mut Releasing| it.acks.len() >= quorum;
        let done: Vec<Releasing> = self.releases.extract_if(.., done).collect();
        self.note_end_before(&done, out);
        for release in done {
            reply(
                release.ticket,
                Ok(Answer::Released(Released::Released)),
                out,
            );
        }
    }

    pub(super) fn releases_on_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        let late = |it: &mut Releasing| it.until <= now;
        let late: Vec<Releasing> = self.releases.extract_if(.., late).collect();
        self.note_end_before(&late, out);
        for release in late {
            let why = "too few members have answered the release".to_owned();
            reply(release.ticket, Err(StoreError::Indeterminate(why)), out);
        }
    }

    /// A process whose sidecar is answered may end at once.
    fn note_end_before(&mut self, answered: &[Releasing], out: &mut Vec<Output>) {
        if !answered.is_empty() && self.note_end_at.is_some() {
            self.persist(out);
        }
    }

    /// A replaced disk's votes are nobody's.
    pub(super) fn forget_votes(&mut self, member: MemberId) {
        if let Some(lead) = &mut self.lead {
            for beat in &mut lead.beats {
                beat.acks.remove(&member);
            }
            lead.writes.forget(member);
        }
        for release in &mut self.releases {
            release.acks.remove(&member);
        }
        self.forget_claim_vote(member);
    }
}
