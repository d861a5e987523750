//! What a member grants: the rules A1 to A5, and what A6 may rest on in `free`. A6 itself
//! is in `QuorumLease::new`, A7 in `join`.

use std::time::Duration;

use super::message::{Asked, Envelope, Message, View};
use super::record::{Grant, Stored};
use super::{Flaw, Output, QuorumLease, bully};
use crate::lease::{Epoch, Hint, NodeId, SessionId};
use crate::peers::MemberId;
use crate::time::Moment;

impl QuorumLease {
    pub(super) fn on_envelope(
        &mut self,
        now: Moment,
        from: MemberId,
        envelope: Envelope,
        out: &mut Vec<Output>,
    ) {
        if from == self.settings.own || !self.settings.members.contains(&from) {
            return;
        }
        let Some(counts_as_we_do) = self.admit_disk(from, &envelope, out) else {
            return;
        };
        let of_joiner = matches!(
            envelope.message,
            Message::Welcome { .. } | Message::Replaced
        );
        if self.retired() || (self.join.is_some() && !of_joiner) {
            return;
        }
        self.on_message(now, from, envelope.message, counts_as_we_do, out);
    }

    fn on_message(
        &mut self,
        now: Moment,
        from: MemberId,
        message: Message,
        counts_as_we_do: bool,
        out: &mut Vec<Output>,
    ) {
        match message {
            Message::Election { epoch, session } => {
                self.on_election(now, from, epoch, &session, out);
            }
            Message::Ok {
                epoch,
                willing,
                superior,
                view,
            } => {
                self.see(view.known);
                let reply = bully::Reply {
                    willing,
                    superior,
                    view,
                };
                self.on_probe_reply(from, epoch, reply);
            }
            Message::Coordinator { grant } if grant.member == from => {
                let ok = counts_as_we_do && self.grant(now, &grant, out);
                let checkpoint = self.record.checkpoint.clone().filter(|_| ok);
                self.ack(from, grant.epoch, Asked::Claim, ok, checkpoint, out);
            }
            Message::Heartbeat { grant, seq } if grant.member == from => {
                let ok = counts_as_we_do && self.extend(now, &grant, out);
                self.ack(from, grant.epoch, Asked::Heartbeat(seq), ok, None, out);
            }
            Message::Release {
                epoch,
                session,
                prefer,
            } => self.on_release(now, from, epoch, &session, prefer, out),
            Message::Write { grant, stored } if grant.member == from => {
                let of = Asked::Write(stored.revision);
                let ok = counts_as_we_do && self.store(now, &grant, stored, out);
                self.ack(from, grant.epoch, of, ok, None, out);
            }
            // A claim in another member's name.
            Message::Coordinator { .. } | Message::Heartbeat { .. } | Message::Write { .. } => {}
            Message::Ack {
                epoch,
                of,
                ok,
                known,
                checkpoint,
            } => {
                self.see(known);
                match of {
                    Asked::Claim => self.on_claim_ack(now, from, epoch, ok, checkpoint, out),
                    Asked::Heartbeat(seq) => {
                        self.on_beat_ack(now, from, epoch, seq, ok, known, out);
                    }
                    Asked::Release => self.on_release_ack(from, epoch, out),
                    Asked::Write(revision) => {
                        self.on_write_ack(now, from, epoch, revision, ok, out);
                    }
                }
            }
            Message::Read { ask, value } => {
                let state = self.state(now, ask, value);
                self.send(from, state, out);
            }
            Message::State {
                ask,
                leads,
                view,
                checkpoint,
            } => {
                self.see(view.known);
                self.on_state(from, ask, leads, view, checkpoint, out);
            }
            Message::Token(token) => self.on_token(now, from, token, out),
            Message::TokenAck { round, initiator } => self.on_token_ack(from, round, initiator),
            Message::Elected { .. } => self.on_elected(now, out),
            Message::Join => self.welcome(from, out),
            Message::Welcome {
                known,
                lease_ms,
                checkpoint,
            } => self.on_welcome(now, from, known, lease_ms, checkpoint, out),
            // The envelope told it.
            Message::Replaced => {}
        }
    }

    fn ack(
        &self,
        to: MemberId,
        epoch: Epoch,
        of: Asked,
        ok: bool,
        checkpoint: Option<Stored>,
        out: &mut Vec<Output>,
    ) {
        let known = self.record.known;
        let ack = Message::Ack {
            epoch,
            of,
            ok,
            known,
            checkpoint,
        };
        self.send(to, ack, out);
    }

    /// The grant that is live here, unless it is that holder's own.
    pub(super) fn live_foreign(
        &self,
        now: Moment,
        member: MemberId,
        session: &SessionId,
    ) -> Option<(Grant, Duration)> {
        self.live(now)
            .filter(|(grant, _)| !grant.held_by(member, session))
    }

    /// The grant that is live here.
    pub(super) fn live(&self, now: Moment) -> Option<(Grant, Duration)> {
        let grant = self.record.grant.clone()?;
        (now < self.live_until).then(|| (grant, self.live_until.since(now)))
    }

    pub(super) fn view(&self, now: Moment) -> View {
        View::of(self.record.known, self.live(now))
    }

    fn on_election(
        &mut self,
        now: Moment,
        from: MemberId,
        epoch: Epoch,
        session: &SessionId,
        out: &mut Vec<Output>,
    ) {
        self.see(Epoch::new(epoch.get() - 1).ok());
        self.reach.asked_by(from);
        let willing = self.live_foreign(now, from, session).is_none()
            || self.settings.has(Flaw::A2GrantsOverALiveLease);
        let superior = willing && self.settings.own > from && self.fit(now);
        let message = Message::Ok {
            epoch,
            willing,
            superior,
            view: self.view(now),
        };
        self.send(from, message, out);
        if superior {
            self.call_sidecar(now, out);
        }
    }

    /// A claim, or the first that is heard of one.
    fn grant(&mut self, now: Moment, grant: &Grant, out: &mut Vec<Output>) -> bool {
        // A1: an epoch is granted once here, and none below it ever after.
        if Some(grant.epoch) <= self.record.known && !self.settings.has(Flaw::A1GrantsOldEpochs) {
            return false;
        }
        // A2: the present lease may be counted upon.
        let foreign = self.live_foreign(now, grant.member, &grant.session);
        if foreign.is_some() && !self.settings.has(Flaw::A2GrantsOverALiveLease) {
            return false;
        }
        // A3: on disk before it is said.
        self.take(now, grant.clone());
        if !self.settings.has(Flaw::A3AnswersWithoutDisk) {
            self.persist(out);
        }
        self.step_down(grant, self.live_until.since(now), out);
        out.push(Output::Hint(Hint::Began(grant.epoch)));
        true
    }

    /// Binds this member to the grant, from now.
    pub(super) fn take(&mut self, now: Moment, grant: Grant) {
        self.live_until = now + self.settings.bound(grant.lease());
        self.record.ended &= self.settings.has(Flaw::A6EndOutlivesItsGrant);
        self.confirmed = true;
        self.record.known = Some(grant.epoch);
        self.see(Some(grant.epoch));
        self.record.grant = Some(grant);
    }

    /// A4: the recorded grant goes on, without the disk: its lease is what A6 assumes.
    fn extend(&mut self, now: Moment, grant: &Grant, out: &mut Vec<Output>) -> bool {
        if self.matches(grant) {
            if self.record.ended && !self.settings.has(Flaw::A6EndOutlivesItsGrant) {
                return false;
            }
            let until = now + self.settings.bound(grant.lease());
            self.live_until = self.live_until.max(until);
            self.confirmed = true;
            return true;
        }
        self.follow_holder(now, grant, out)
            || self.grant(now, grant, out)
            || self.settings.has(Flaw::A4RenewsAnybody)
    }

    /// Both sides of a split may claim the same epoch, and this member granted it to the one
    /// that failed. Only a quorum's grants make a renewal, so no claim of it but the holder's
    /// can have succeeded: to follow the holder grants the epoch to nobody anew.
    fn follow_holder(&mut self, now: Moment, grant: &Grant, out: &mut Vec<Output>) -> bool {
        let own = self.record.grant.as_ref();
        let recorded = own.is_some_and(|own| own.is(grant));
        let foreign = self.live_foreign(now, grant.member, &grant.session);
        if self.record.known != Some(grant.epoch) || recorded || foreign.is_some() {
            return false;
        }
        self.take(now, grant.clone());
        self.persist(out);
        self.step_down(grant, self.live_until.since(now), out);
        out.push(Output::Hint(Hint::Began(grant.epoch)));
        true
    }

    fn matches(&self, grant: &Grant) -> bool {
        let own = self.record.grant.as_ref();
        let same = |own: &Grant| own.is(grant) && grant.lease_ms <= own.lease_ms;
        self.record.known == Some(grant.epoch) && own.is_some_and(same)
    }

    /// A5: only the holder of the recorded grant frees it.
    fn on_release(
        &mut self,
        now: Moment,
        from: MemberId,
        epoch: Epoch,
        session: &SessionId,
        prefer: Option<NodeId>,
        out: &mut Vec<Output>,
    ) {
        let own = |grant: &Grant| grant.epoch == epoch && grant.held_by(from, session);
        let matches = self.record.grant.as_ref().is_some_and(own)
            || self.settings.has(Flaw::A5ReleasesAnybody);
        if matches && !self.record.ended {
            self.free(now);
            if prefer.is_some() {
                // Whoever is not preferred waits, and its rank waits with it.
                self.wanted_until = self.wanted_until.min(now);
            }
            out.push(Output::Hint(Hint::Ended { epoch, prefer }));
        }
        // What is not recorded here does not bind this member either.
        self.ack(from, epoch, Asked::Release, true, None, out);
    }

    /// The recorded grant has ended, by its own holder's word: for others' in `on_release`,
    /// where epoch, member and session must be the recorded ones, and for one's own in
    /// `give_back`.
    ///
    /// The disk may know it, so that no restart binds this vote again. No lease can be
    /// standing on the grant: its holder dropped the tenure, or the claim, before it said
    /// so, does not take it up again whatever answers come late, and claims no epoch
    /// twice; nobody else has ever counted on it. And the note goes with its grant: the
    /// next one, in `take`, is in the same record as its absence.
    ///
    /// Nobody waits for the disk here, for a handover is under way: the next grant's write
    /// has it in it or overtakes it, and without one it is written `patience` later, or
    /// before the own sidecar is told that the release is done. A crash before that costs
    /// what A6 costs, a lease.
    pub(super) fn free(&mut self, now: Moment) {
        self.live_until = self.live_until.min(now);
        if !self.record.ended {
            self.record.ended = true;
            self.note_end_at = Some(now + self.settings.patience);
        }
    }

    /// A checkpoint of the newest tenure, fsynced; a delayed older one never lands on a
    /// newer.
    fn store(&mut self, now: Moment, grant: &Grant, stored: Stored, out: &mut Vec<Output>) -> bool {
        let own = self.record.grant.as_ref();
        let of_newest = own.is_some_and(|own| own.is(grant)) || self.grant(now, grant, out);
        if !of_newest && !self.settings.has(Flaw::OlderEpochsWrite) {
            return false;
        }
        let newest = self.record.checkpoint.as_ref().map(Stored::key);
        if newest > Some(stored.key()) && !self.settings.has(Flaw::OlderEpochsWrite) {
            return false;
        }
        if newest != Some(stored.key()) {
            self.record.checkpoint = Some(stored);
            self.persist(out);
        }
        true
    }
}
