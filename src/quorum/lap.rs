//! The ring's token in this member's hands.

use std::collections::BTreeSet;

use super::bully::Verdict;
use super::campaign::{Mandate, Phase};
use super::message::Message;
use super::ring::{Hop, Outcome, Seat, Token};
use super::{Output, QuorumLease};
use crate::peers::MemberId;
use crate::time::Moment;

impl QuorumLease {
    fn seat(&self, now: Moment) -> Seat {
        Seat {
            member: self.settings.own,
            candidate: self.fit(now),
            view: self.view(now),
            silent: BTreeSet::new(),
        }
    }

    pub(super) fn lap(&mut self, now: Moment, out: &mut Vec<Output>) {
        let round = self.rng.u64(1..1 << 53);
        let mut seat = self.seat(now);
        seat.candidate = true;
        // The own session's votes, left over from a lost answer, bind nobody but itself.
        seat.view.live = None;
        let token = Token {
            round,
            initiator: self.settings.own,
            path: vec![seat],
        };
        let Some(campaign) = &mut self.campaign else {
            return;
        };
        let until = now + self.settings.patience * 2 / 3;
        campaign.phase = Phase::Lap { round, until };
        self.pass(now, token, out);
    }

    fn hop_limit(&self, now: Moment) -> Moment {
        now + self.settings.patience / 8
    }

    fn pass(&mut self, now: Moment, token: Token, out: &mut Vec<Output>) {
        let until = self.hop_limit(now);
        let (own, members) = (self.settings.own, &self.settings.members);
        match Hop::new(token.clone(), own, members, &self.suspects, until) {
            Some(hop) => self.go(hop, out),
            None => self.stuck(now, token, out),
        }
    }

    fn go(&mut self, hop: Hop, out: &mut Vec<Output>) {
        self.send(hop.to, Message::Token(hop.token.clone()), out);
        self.hop = Some(hop);
    }

    /// Nobody takes the token. Where it began, the lap is over.
    fn stuck(&mut self, now: Moment, token: Token, out: &mut Vec<Output>) {
        if token.initiator == self.settings.own {
            self.lap_over(now, &token, out);
        }
    }

    pub(super) fn hop_on_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(hop) = self.hop.take_if(|hop| hop.until <= now) else {
            return;
        };
        let token = hop.token.clone();
        let until = self.hop_limit(now);
        let (own, members) = (self.settings.own, &self.settings.members);
        match hop.skip(own, members, &self.suspects, until) {
            Some(hop) => self.go(hop, out),
            None => self.stuck(now, token, out),
        }
    }

    pub(super) fn on_token_ack(&mut self, from: MemberId, round: u64, initiator: MemberId) {
        let taken = |hop: &mut Hop| {
            hop.to == from && hop.token.round == round && hop.token.initiator == initiator
        };
        self.hop.take_if(taken);
    }

    pub(super) fn on_token(
        &mut self,
        now: Moment,
        from: MemberId,
        mut token: Token,
        out: &mut Vec<Output>,
    ) {
        let (round, initiator) = (token.round, token.initiator);
        self.send(from, Message::TokenAck { round, initiator }, out);
        for seat in &token.path {
            self.seen = self.seen.max(seat.view.known);
        }
        let own = self.settings.own;
        if initiator == own {
            return self.home(now, token, out);
        }
        self.reach.asked_by(from);
        if let Some(campaign) = &mut self.campaign
            && matches!(campaign.phase, Phase::Lap { .. })
        {
            // The stronger token absorbs the weaker, unless its last lap came to nothing.
            if own < initiator {
                campaign.phase = Phase::StandBy;
            } else if self.reach.enough() {
                return;
            }
        }
        // One that it has met comes back from where no way led on.
        if !token.met(own) {
            token.path.push(self.seat(now));
        }
        self.pass(now, token, out);
    }

    /// Home, and perhaps from a neighbour that reaches few: with less than a quorum met, it
    /// goes out once more to whom this member has not yet offered it.
    fn home(&mut self, now: Moment, token: Token, out: &mut Vec<Output>) {
        if self.on_lap(token.round) && token.path.len() < self.settings.quorum() {
            return self.pass(now, token, out);
        }
        self.lap_over(now, &token, out);
    }

    fn on_lap(&self, of: u64) -> bool {
        self.campaign.as_ref().is_some_and(
            |campaign| matches!(campaign.phase, Phase::Lap { round, .. } if round == of),
        )
    }

    fn lap_over(&mut self, now: Moment, token: &Token, out: &mut Vec<Output>) {
        if !self.on_lap(token.round) {
            return;
        }
        let verdict = match token.outcome(self.settings.quorum()) {
            Outcome::Decided(verdict) => verdict,
            Outcome::Elected(winner) => {
                let round = token.round;
                self.send(winner, Message::Elected { round }, out);
                Verdict::StandDown
            }
        };
        self.lap_told(token, &verdict);
        self.follow(now, verdict, out);
    }

    /// The initiator waits no longer. Where it still has the token itself, all that it could
    /// meet in time are too few.
    pub(super) fn lap_late(&mut self, round: u64) -> Verdict {
        let own = self.settings.own;
        let in_hand = |hop: &mut Hop| hop.token.initiator == own && hop.token.round == round;
        let Some(hop) = self.hop.take_if(in_hand) else {
            return Verdict::StandDown;
        };
        let verdict = Verdict::NoQuorum(hop.token.path.len());
        self.lap_told(&hop.token, &verdict);
        verdict
    }

    fn lap_told(&mut self, token: &Token, verdict: &Verdict) {
        let others = self.settings.others();
        let met = others.filter(|id| token.met(*id)).collect();
        self.reach.probed(met, self.settings.quorum(), verdict);
    }

    pub(super) fn on_elected(&mut self, now: Moment, out: &mut Vec<Output>) {
        if !self.fit(now) || self.live(now).is_some() {
            return;
        }
        match &self.campaign {
            Some(campaign) if matches!(campaign.phase, Phase::Claim(_)) => {}
            Some(_) => self.claim(now, out),
            None => {
                self.mandate = Some(Mandate {
                    known: self.record.known,
                    until: now + self.settings.patience * 2,
                });
                self.call_sidecar(now, out);
            }
        }
    }
}
