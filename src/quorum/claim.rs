//! The claim (C2, C3), and its failure (C5).

use std::collections::{BTreeMap, BTreeSet};

use super::campaign::{BackOff, Phase};
use super::io::Answer;
use super::lead::Lead;
use super::message::{Message, lease_ms};
use super::record::{Grant, Stored};
use super::writes::Writes;
use super::{Flaw, Output, QuorumLease, reply};
use crate::lease::{Acquired, Epoch, StoreError};
use crate::peers::MemberId;
use crate::time::Moment;

#[derive(Debug)]
pub(super) struct ClaimUnderWay {
    grant: Grant,
    /// Noted before the own grant, which is made before the first message leaves (C2).
    t0: Moment,
    acks: BTreeMap<MemberId, Option<Stored>>,
    nays: BTreeSet<MemberId>,
}

impl QuorumLease {
    /// C2: note t0, make the own durable grant, and only then ask the others.
    pub(super) fn claim(&mut self, now: Moment, out: &mut Vec<Output>) {
        let epoch = self.next_epoch();
        let Some(campaign) = &mut self.campaign else {
            return;
        };
        let epoch = match epoch {
            Ok(epoch) => epoch,
            Err(error) => return self.refuse(StoreError::Rejected(error.to_string()), out),
        };
        let grant = Grant {
            epoch,
            member: self.settings.own,
            session: campaign.bid.session.clone(),
            lease_ms: lease_ms(campaign.bid.ttl),
            profile: campaign.bid.profile.clone(),
            since: campaign.wall,
        };
        let own = (self.settings.own, self.record.checkpoint.clone());
        campaign.phase = Phase::Claim(Box::new(ClaimUnderWay {
            grant: grant.clone(),
            t0: now,
            acks: [own].into(),
            nays: BTreeSet::new(),
        }));
        self.take(now, grant.clone());
        if self.settings.has(Flaw::C2OwnGrantLast) {
            self.live_until = now;
        }
        self.persist(out);
        self.broadcast(&Message::Coordinator { grant }, out);
        self.count_claim(now, out);
    }

    fn claiming(&mut self) -> Option<&mut ClaimUnderWay> {
        match &mut self.campaign.as_mut()?.phase {
            Phase::Claim(claim) => Some(claim),
            _ => None,
        }
    }

    pub(super) fn forget_claim_vote(&mut self, member: MemberId) {
        if let Some(claim) = self.claiming() {
            claim.acks.remove(&member);
        }
    }

    pub(super) fn on_claim_ack(
        &mut self,
        now: Moment,
        from: MemberId,
        epoch: Epoch,
        ok: bool,
        checkpoint: Option<Stored>,
        out: &mut Vec<Output>,
    ) {
        let Some(claim) = self.claiming().filter(|claim| claim.grant.epoch == epoch) else {
            return;
        };
        if ok {
            claim.acks.insert(from, checkpoint);
            claim.nays.remove(&from);
        } else if !claim.acks.contains_key(&from) {
            claim.nays.insert(from);
        }
        self.count_claim(now, out);
    }

    /// Won, or in vain: where two claim at once and each has one vote, nobody waits for that
    /// of a member that is gone. To give a claim up too early costs a pause, and nothing else.
    pub(super) fn count_claim(&mut self, now: Moment, out: &mut Vec<Output>) {
        let quorum = self.settings.quorum();
        let suspects = self.suspects.clone();
        let Some(claim) = self.claiming() else { return };
        let acks = claim.acks.len();
        let voted = |id: &MemberId| claim.acks.contains_key(id) || claim.nays.contains(id);
        let gone = suspects.iter().filter(|id| !voted(id)).count();
        let lost = claim.nays.len() + gone;
        if acks >= quorum {
            self.claim_won(now, out);
        } else if self.settings.members.len().saturating_sub(lost) < quorum {
            self.claim_failed(now, out);
        }
    }

    /// C3: leads, unless the votes came too late to be of use.
    fn claim_won(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(claim) = self.claiming() else { return };
        let (t0, lease) = (claim.t0, claim.grant.lease());
        let ends_at = t0 + self.settings.usable(lease);
        if now >= ends_at {
            return self.claim_failed(now, out);
        }
        let Some(campaign) = self.campaign.take() else {
            return;
        };
        let Phase::Claim(claim) = campaign.phase else {
            return;
        };
        let epoch = claim.grant.epoch;
        // A question that joined a claim under way counts from later than t0.
        let mut left = lease.saturating_sub(campaign.asked_at.since(t0));
        if self.settings.has(Flaw::C4CountsFromTheAnswer) {
            left += now.since(campaign.asked_at);
        }
        self.back_off = BackOff::new(now);
        self.begin_lead(*claim, ends_at, out);
        let won = Acquired::Won { epoch, left };
        reply(campaign.ticket, Ok(Answer::Acquired(won)), out);
    }

    fn begin_lead(&mut self, mut claim: ClaimUnderWay, ends_at: Moment, out: &mut Vec<Output>) {
        let own = self.settings.own;
        if self.settings.has(Flaw::NewHolderTrustsItself) {
            claim.acks.retain(|member, _| *member == own);
        }
        let found = Stored::greatest(claim.acks.into_values().flatten());
        let mut value = Stored {
            under: claim.grant.epoch,
            revision: found.as_ref().and_then(|found| found.revision),
            bytes: found
                .as_ref()
                .map(|found| found.bytes.clone())
                .unwrap_or_default(),
        };
        if self.settings.has(Flaw::NoWriteBack)
            && let Some(found) = found
        {
            value.under = found.under;
        }
        let writes = Writes::new(value, own);
        self.lead = Some(Lead::new(claim.grant, ends_at, writes));
        self.bring_value(out);
    }

    /// C5: there is no role to drop yet; the votes are given back, and this member is
    /// quiet for a while.
    pub(super) fn claim_failed(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(claim) = self.claiming() else { return };
        let (epoch, session) = (claim.grant.epoch, claim.grant.session.clone());
        self.give_back(now, epoch, &session, None, out);
        self.back_off.failures = (self.back_off.failures + 1).min(5);
        let longest = self
            .settings
            .patience
            .mul_f64(f64::from(1 << self.back_off.failures) / 4.0);
        let mut pause = self.settings.patience / 8 + longest.mul_f64(self.rng.f64());
        if self.settings.has(Flaw::BackOffNeverEnds) {
            pause *= 10_000;
        }
        self.back_off.until = now + pause;
        self.refuse_for(pause, out);
    }
}
