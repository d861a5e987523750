//! Asking for the lease: who asks (C1), by one algorithm or the other.

use std::time::Duration;

use super::bully::{Probe, Reply, Verdict};
use super::claim::ClaimUnderWay;
use super::io::{Answer, Ticket};
use super::lead::Purpose;
use super::look::Kind;
use super::message::Message;
use super::record::Grant;
use super::settings::Algorithm;
use super::{Output, QuorumLease, reply};
use crate::lease::{Acquired, Bid, Epoch, EpochError, Hint, HoldReason, Observed, StoreError};
use crate::peers::MemberId;
use crate::time::{Moment, UnixMs};

/// How long a member keeps quiet after its claim failed: random, and longer each time, so
/// that two who split the votes do not do it again.
#[derive(Debug)]
pub(super) struct BackOff {
    pub(super) until: Moment,
    pub(super) failures: u32,
}

impl BackOff {
    pub fn new(now: Moment) -> Self {
        Self {
            until: now,
            failures: 0,
        }
    }
}

/// A ring chose this member.
#[derive(Debug)]
pub(super) struct Mandate {
    /// Nothing was granted since.
    pub(super) known: Option<Epoch>,
    pub(super) until: Moment,
}

/// The own sidecar's bid for the lease.
#[derive(Debug)]
pub(super) struct Campaign {
    pub(super) ticket: Ticket,
    pub(super) bid: Bid,
    pub(super) wall: UnixMs,
    pub(super) asked_at: Moment,
    /// When the sidecar is answered at the latest.
    pub(super) give_up: Moment,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Everybody is asked.
    Probe {
        probe: Probe,
        epoch: Epoch,
        until: Moment,
    },
    /// The token goes round.
    Lap { round: u64, until: Moment },
    /// Somebody else claims, or nobody can: the answer is a grant that is heard of.
    StandBy,
    /// The votes come in.
    Claim(Box<ClaimUnderWay>),
}

impl Campaign {
    pub fn wake_at(&self) -> Moment {
        match &self.phase {
            Phase::Probe { until, .. } | Phase::Lap { until, .. } => self.give_up.min(*until),
            Phase::StandBy | Phase::Claim(_) => self.give_up,
        }
    }
}

impl QuorumLease {
    pub(super) fn acquire(
        &mut self,
        now: Moment,
        ticket: Ticket,
        bid: Bid,
        wall: UnixMs,
        out: &mut Vec<Output>,
    ) {
        if let Err(error) = bid.check() {
            return reply(ticket, Err(error), out);
        }
        self.see(bid.floor);
        self.wanted_until = now + self.settings.longest_lease * 2;
        if let Some(join) = &self.join {
            let retry_in = join
                .wake_at(&self.settings)
                .since(now)
                .max(self.settings.patience);
            return hold(ticket, retry_in, HoldReason::MemberJoining, out);
        }
        if let Some(lead) = self
            .lead
            .as_ref()
            .filter(|lead| lead.grant.session == bid.session)
        {
            if Some(lead.grant.epoch) > bid.floor {
                return self.beat(now, ticket, Purpose::Acquire, out);
            }
            // The epoch is dead to its node. Its own votes do not stand in its way.
            self.end_lead(None, out);
            self.begin_campaign(now, ticket, bid, wall);
            return self.claim(now, out);
        }
        if let Some((grant, left)) = self.live_foreign(now, self.settings.own, &bid.session) {
            if !self.confirmed {
                return self.look(now, ticket, Kind::Bid, out);
            }
            return held(ticket, &grant, left, out);
        }
        let again = "the same session asked again meanwhile";
        match &mut self.campaign {
            Some(campaign) if campaign.bid.session != bid.session => {
                // One claim at a time is what this member's vote is worth.
                let retry_in = self.settings.patience / 4;
                return hold(ticket, retry_in, HoldReason::ElectionUnderWay, out);
            }
            // Nothing is under way that the new question could join.
            Some(campaign) if matches!(campaign.phase, Phase::StandBy) => {
                self.refuse(StoreError::Unavailable(again.to_owned()), out);
            }
            Some(campaign) => {
                let why = StoreError::Indeterminate(again.to_owned());
                reply(campaign.ticket, Err(why), out);
                campaign.ticket = ticket;
                campaign.asked_at = now;
                campaign.give_up = now + self.settings.patience;
                return;
            }
            None => {}
        }
        if now < self.back_off.until {
            let retry_in = self.back_off.until.since(now);
            return hold(ticket, retry_in, HoldReason::ElectionUnderWay, out);
        }
        self.begin_campaign(now, ticket, bid, wall);
        let known = self.record.known;
        let chosen = |mandate: Mandate| mandate.known == known && now < mandate.until;
        if self.mandate.take().is_some_and(chosen) {
            return self.claim(now, out);
        }
        match self.settings.algorithm {
            Algorithm::Bully => self.probe(now, out),
            Algorithm::Ring => self.lap(now, out),
        }
    }

    fn begin_campaign(&mut self, now: Moment, ticket: Ticket, bid: Bid, wall: UnixMs) {
        self.campaign = Some(Campaign {
            ticket,
            bid,
            wall,
            asked_at: now,
            give_up: now + self.settings.patience,
            phase: Phase::StandBy,
        });
    }

    pub(super) fn next_epoch(&self) -> Result<Epoch, EpochError> {
        let highest = self.record.known.max(self.seen);
        Epoch::next(highest, None, UnixMs(0))
    }

    /// The own sidecar wants the lease, this member's last claim did not just fail, and
    /// its last question reached a quorum.
    pub(super) fn fit(&self, now: Moment) -> bool {
        let quiet = now < self.back_off.until || !self.reach.enough();
        self.lead.is_none() && now < self.wanted_until && !quiet
    }

    /// The own sidecar should ask, for this member's rank wins. Where it does not come, it
    /// has reasons of its own, and the others must not wait for it again.
    pub(super) fn call_sidecar(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.campaign.is_none() && self.live(now).is_none() {
            self.wanted_until = self.wanted_until.min(now + self.settings.patience / 2);
            out.push(Output::Hint(Hint::Present(Observed {
                epoch: self.record.known,
                holder: None,
            })));
        }
    }

    fn probe(&mut self, now: Moment, out: &mut Vec<Output>) {
        let epoch = match self.next_epoch() {
            Ok(epoch) => epoch,
            Err(error) => return self.refuse(StoreError::Rejected(error.to_string()), out),
        };
        let Some(campaign) = &mut self.campaign else {
            return;
        };
        let until = now + self.settings.patience / 3;
        let probe = Probe::default();
        campaign.phase = Phase::Probe {
            probe,
            epoch,
            until,
        };
        let session = campaign.bid.session.clone();
        self.broadcast(&Message::Election { epoch, session }, out);
    }

    pub(super) fn on_probe_reply(&mut self, from: MemberId, of: Epoch, reply: Reply) {
        if let Some(Campaign {
            phase: Phase::Probe { probe, epoch, .. },
            ..
        }) = &mut self.campaign
            && *epoch == of
        {
            probe.heard(from, reply);
        }
    }

    pub(super) fn campaign_on_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(campaign) = &self.campaign else {
            return;
        };
        let verdict = match &campaign.phase {
            Phase::Probe { probe, until, .. } => {
                let expected = self
                    .settings
                    .others()
                    .filter(|id| !self.suspects.contains(id));
                let quorum = self.settings.quorum();
                let verdict = probe.verdict(quorum, expected, now >= *until);
                if verdict != Verdict::Wait {
                    self.reach.probed(probe.answered(), quorum, &verdict);
                }
                verdict
            }
            Phase::Lap { round, until } if now >= *until => {
                let round = *round;
                self.lap_late(round)
            }
            _ => Verdict::Wait,
        };
        self.follow(now, verdict, out);
        let Some(campaign) = self.campaign.as_ref().filter(|it| now >= it.give_up) else {
            return;
        };
        if matches!(campaign.phase, Phase::Claim(_)) {
            return self.claim_failed(now, out);
        }
        let spread = self.settings.patience;
        let retry_in = spread / 4 + spread.mul_f64(self.rng.f64());
        self.refuse_for(retry_in, out);
    }

    pub(super) fn follow(&mut self, now: Moment, verdict: Verdict, out: &mut Vec<Output>) {
        match verdict {
            Verdict::Wait => {}
            Verdict::Claim => self.claim(now, out),
            Verdict::StandDown => {
                if let Some(campaign) = &mut self.campaign {
                    campaign.phase = Phase::StandBy;
                }
            }
            Verdict::Held(grant, left) => {
                if let Some(campaign) = self.campaign.take() {
                    held(campaign.ticket, &grant, left, out);
                }
            }
            Verdict::NoQuorum(heard) => {
                self.heard(heard, out);
                let quorum = self.settings.quorum();
                let why = format!("{heard} of the {quorum} members that must agree answer");
                self.refuse(StoreError::Unavailable(why), out);
            }
        }
    }

    /// Answers where nothing was claimed.
    pub(super) fn refuse(&mut self, error: StoreError, out: &mut Vec<Output>) {
        if let Some(campaign) = self.campaign.take() {
            reply(campaign.ticket, Err(error), out);
        }
    }

    pub(super) fn refuse_for(&mut self, retry_in: Duration, out: &mut Vec<Output>) {
        if let Some(campaign) = self.campaign.take() {
            hold(campaign.ticket, retry_in, HoldReason::ElectionUnderWay, out);
        }
    }

    /// Another holder was granted the lease here.
    pub(super) fn step_down(&mut self, to: &Grant, left: Duration, out: &mut Vec<Output>) {
        self.end_lead(Some(to.holder()), out);
        if let Some(campaign) = self.campaign.take() {
            held(campaign.ticket, to, left, out);
        }
        self.mandate = None;
    }
}

fn held(ticket: Ticket, grant: &Grant, left: Duration, out: &mut Vec<Output>) {
    let holder = grant.holder();
    reply(
        ticket,
        Ok(Answer::Acquired(Acquired::Held { holder, left })),
        out,
    );
}

fn hold(ticket: Ticket, retry_in: Duration, why: HoldReason, out: &mut Vec<Output>) {
    reply(
        ticket,
        Ok(Answer::Acquired(Acquired::Hold { retry_in, why })),
        out,
    );
}
