//! Ring: a token goes round by rank and finds the highest live one.
//!
//! It asks one neighbour at a time, and so costs a message a member. A silent neighbour
//! is skipped, and the one after it, too. From where no way leads on, not even to the
//! initiator, the token goes back, and on from there: so it meets whoever can be met, as
//! long as there is a way home. Of two tokens under way the higher initiator's absorbs the
//! other. The textbook's second lap (E. Chang, R. Roberts, 1979) announces the winner; here
//! that is the winner's claim to all, whose grants have to be counted anyway, and a lap ends
//! with it or with the initiator's patience.

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
    /// Its sidecar wants the lease, its last claim did not just fail, and its last lap met
    /// a quorum.
    pub candidate: bool,
    /// What it knows of leases.
    pub view: View,
    /// Who did not take the token from it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub silent: BTreeSet<MemberId>,
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
        // Who found no way to bring it home would find none to a majority for its claim.
        let fit = self
            .path
            .iter()
            .filter(|seat| seat.candidate && !self.stuck(seat));
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

    /// Whether that seat's member gave it back, or is about to: not even the initiator took
    /// it from there.
    fn stuck(&self, seat: &Seat) -> bool {
        seat.silent.contains(&self.initiator)
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
}

impl Hop {
    /// From `own`, where it is now, towards the next of `members`; `None` where nobody is
    /// left to take it.
    #[must_use]
    pub fn new(
        token: Token,
        own: MemberId,
        members: &BTreeSet<MemberId>,
        suspects: &BTreeSet<MemberId>,
        until: Moment,
    ) -> Option<Self> {
        let seat = token.path.iter().find(|seat| seat.member == own)?;
        let ahead = ahead(&token, seat, members, suspects);
        let to = ahead.or_else(|| back(&token, seat, members))?;
        Some(Self { token, to, until })
    }

    /// Its receiver is silent: the next one.
    #[must_use]
    pub fn skip(
        mut self,
        own: MemberId,
        members: &BTreeSet<MemberId>,
        suspects: &BTreeSet<MemberId>,
        until: Moment,
    ) -> Option<Self> {
        let mut seats = self.token.path.iter_mut();
        let seat = seats.find(|seat| seat.member == own)?;
        seat.silent.insert(self.to);
        Self::new(self.token, own, members, suspects, until)
    }
}

/// The first after `seat` in the order of the ring that the token has not met; the initiator
/// ends the lap. Nobody is offered it twice from one seat.
fn ahead(
    token: &Token,
    seat: &Seat,
    members: &BTreeSet<MemberId>,
    suspects: &BTreeSet<MemberId>,
) -> Option<MemberId> {
    let after = members.iter().filter(|id| **id > seat.member);
    let round = after.chain(members.iter().filter(|id| **id < seat.member));
    let takes = |id: &MemberId| {
        let next = *id == token.initiator || !(suspects.contains(id) || token.met(*id));
        next && !seat.silent.contains(id)
    };
    round.copied().find(takes)
}

/// The latest on the path that may know another way. A token comes to an end: only a stuck
/// seat gives it back, once, for nobody hands it to a stuck one; all other hops meet
/// somebody new, or lead home.
fn back(token: &Token, seat: &Seat, members: &BTreeSet<MemberId>) -> Option<MemberId> {
    let mut way = token.path.iter().rev();
    let open = |other: &&Seat| {
        let tried = seat.silent.contains(&other.member);
        members.contains(&other.member) && !tried && !token.stuck(other)
    };
    // The initiator has nobody behind it.
    let earlier = token.stuck(seat).then(|| way.find(open)).flatten()?;
    Some(earlier.member)
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
            silent: BTreeSet::new(),
        };
        Token {
            round: 1,
            initiator: id(path[0]),
            path: path.iter().map(seat).collect(),
        }
    }

    fn five() -> BTreeSet<MemberId> {
        (1..=5).map(id).collect()
    }

    fn hop(token: Token, own: usize) -> Option<Hop> {
        let now = Moment::default();
        Hop::new(token, id(own), &five(), &BTreeSet::new(), now)
    }

    fn skip(hop: Hop, own: usize) -> Option<Hop> {
        let now = Moment::default();
        hop.skip(id(own), &five(), &BTreeSet::new(), now)
    }

    #[test]
    fn two_silent_neighbours_are_skipped_and_the_lap_closes() {
        let from_two = hop(token(&[2]), 2).unwrap();
        assert_eq!(from_two.to, id(3));
        let from_two = skip(skip(from_two, 2).unwrap(), 2).unwrap();
        assert_eq!(from_two.to, id(5));
        let at_one = token(&[2, 5, 1]);
        assert_eq!(hop(at_one.clone(), 1).unwrap().to, id(2));
        assert_eq!(at_one.outcome(3), Outcome::Elected(id(5)));
        assert_eq!(at_one.outcome(4), Outcome::Decided(Verdict::NoQuorum(3)));
    }

    #[test]
    fn where_no_way_leads_on_the_token_goes_back_once() {
        let from_five = hop(token(&[1, 2, 3, 4, 5]), 5).unwrap();
        assert_eq!(from_five.to, id(1));
        let from_five = skip(from_five, 5).unwrap();
        assert_eq!(from_five.to, id(4));
        // Four offers it to the initiator, who is the next, and who ends the lap.
        let from_four = hop(from_five.token, 4).unwrap();
        assert_eq!(from_four.to, id(1));
        assert_eq!(from_four.token.outcome(3), Outcome::Elected(id(4)));
        // It does not reach it either: not to five again.
        let from_four = skip(from_four, 4).unwrap();
        assert_eq!(from_four.to, id(3));
        let from_four = skip(from_four, 4).unwrap();
        assert_eq!(from_four.to, id(2));
        assert!(skip(from_four, 4).is_none());
    }

    #[test]
    fn a_token_comes_to_an_end_whoever_is_silent() {
        // Every set of one-way links between four members, in which the token is tried.
        let members: BTreeSet<_> = (1..=4).map(id).collect();
        for links in 0u32..1 << 12 {
            let mut open = BTreeSet::new();
            let pairs = (1..=4).flat_map(|a| (1..=4).map(move |b| (a, b)));
            for (bit, (a, b)) in pairs.filter(|(a, b)| a != b).enumerate() {
                if links >> bit & 1 == 1 {
                    open.insert((id(a), id(b)));
                }
            }
            let (mut at, now) = (id(2), Moment::default());
            let mut next = Hop::new(token(&[2]), at, &members, &BTreeSet::new(), now);
            let mut hops = 0;
            while let Some(hop) = next {
                hops += 1;
                assert!(hops < 40, "links {links:b}");
                if !open.contains(&(at, hop.to)) {
                    next = hop.skip(at, &members, &BTreeSet::new(), now);
                    continue;
                }
                at = hop.to;
                let mut token = hop.token;
                if !token.met(at) {
                    let mut seat = token.path[0].clone();
                    (seat.member, seat.silent) = (at, BTreeSet::new());
                    token.path.push(seat);
                }
                next = Hop::new(token, at, &members, &BTreeSet::new(), now);
            }
        }
    }
}
