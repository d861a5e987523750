//! Ring: a token goes round by rank and finds the highest live one.
//!
//! It asks one neighbour at a time, and so costs a message a member. A silent neighbour
//! is skipped, and the one after it, too. Of two tokens under way the higher initiator's
//! absorbs the other. The textbook's second lap (E. Chang, R. Roberts, 1979) announces
//! the winner; here that is the winner's claim to all, whose grants have to be counted
//! anyway, and a lap ends with it or with the initiator's patience.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::bully::{Verdict, held};
use super::message::View;
use crate::peers::MemberId;
use crate::time::Moment;

/// The token of one lap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Tells laps of one initiator apart.
    pub round: u64,
    /// Who began it, and who decides when it is back.
    pub initiator: MemberId,
    /// Whom it has met, the initiator first.
    pub path: Vec<Seat>,
}

/// A member that a token has met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Who.
    pub member: MemberId,
    /// Its sidecar wants the lease, and its last claim did not just fail.
    pub candidate: bool,
    /// What it knows of leases.
    pub view: View,
}

/// What came of a lap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The initiator goes on by itself.
    Decided(Verdict),
    /// Another member is to claim.
    Elected(MemberId),
}

impl Token {
    /// Decides when the token is back. Fewer than a quorum, or a live lease: nobody.
    #[must_use]
    pub fn outcome(&self, quorum: usize) -> Outcome {
        if self.path.len() < quorum {
            return Outcome::Decided(Verdict::NoQuorum(self.path.len()));
        }
        if self.path.iter().any(|seat| seat.view.live.is_some()) {
            return Outcome::Decided(held(self.path.iter().map(|seat| &seat.view)));
        }
        let fit = self.path.iter().filter(|seat| seat.candidate);
        match fit.map(|seat| seat.member).max() {
            Some(winner) if winner != self.initiator => Outcome::Elected(winner),
            _ => Outcome::Decided(Verdict::Claim),
        }
    }

    /// Whether it has met that member.
    #[must_use]
    pub fn met(&self, member: MemberId) -> bool {
        self.path.iter().any(|seat| seat.member == member)
    }
}

/// A token on its way to the next member that takes it.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The token.
    pub token: Token,
    /// Who should have it.
    pub to: MemberId,
    /// When it is taken for silent.
    pub until: Moment,
    /// Who did not take it.
    silent: BTreeSet<MemberId>,
}

impl Hop {
    /// Towards the next of `members` after `own`; `None` where nobody is left on the way
    /// to the initiator.
    #[must_use]
    pub fn new(
        token: Token,
        own: MemberId,
        members: &BTreeSet<MemberId>,
        suspects: &BTreeSet<MemberId>,
        until: Moment,
    ) -> Option<Self> {
        let silent = suspects.clone();
        let to = next(&token, own, members, &silent)?;
        Some(Self {
            token,
            to,
            until,
            silent,
        })
    }

    /// Its receiver is silent: the next one.
    #[must_use]
    pub fn skip(
        mut self,
        own: MemberId,
        members: &BTreeSet<MemberId>,
        until: Moment,
    ) -> Option<Self> {
        self.silent.insert(self.to);
        self.to = next(&self.token, own, members, &self.silent)?;
        self.until = until;
        Some(self)
    }
}

/// The first after `own` in the order of the ring that is neither silent nor met; the
/// initiator ends the lap.
fn next(
    token: &Token,
    own: MemberId,
    members: &BTreeSet<MemberId>,
    silent: &BTreeSet<MemberId>,
) -> Option<MemberId> {
    let after = members.iter().copied().filter(|id| *id > own);
    let round = after.chain(members.iter().copied().filter(|id| *id < own));
    for id in round {
        if id == token.initiator {
            return Some(id);
        }
        if !silent.contains(&id) && !token.met(id) {
            return Some(id);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(number: usize) -> MemberId {
        number.to_string().parse().unwrap()
    }

    fn token(path: &[usize]) -> Token {
        let seat = |number: &usize| Seat {
            member: id(*number),
            candidate: true,
            view: View::default(),
        };
        Token {
            round: 1,
            initiator: id(path[0]),
            path: path.iter().map(seat).collect(),
        }
    }

    #[test]
    fn two_silent_neighbours_are_skipped_and_the_lap_closes() {
        let members = (1..=5).map(id).collect();
        let hop = Hop::new(
            token(&[2]),
            id(2),
            &members,
            &BTreeSet::new(),
            Moment::default(),
        );
        let hop = hop.unwrap();
        assert_eq!(hop.to, id(3));
        let hop = hop.skip(id(2), &members, Moment::default()).unwrap();
        let hop = hop.skip(id(2), &members, Moment::default()).unwrap();
        assert_eq!(hop.to, id(5));
        let at_one = token(&[2, 5, 1]);
        let hop = Hop::new(
            at_one.clone(),
            id(1),
            &members,
            &BTreeSet::new(),
            Moment::default(),
        );
        assert_eq!(hop.unwrap().to, id(2));
        assert_eq!(at_one.outcome(3), Outcome::Elected(id(5)));
        assert_eq!(at_one.outcome(4), Outcome::Decided(Verdict::NoQuorum(3)));
    }
}
