//! Whether a member's own questions reach a quorum: one whose do not must not stand in the
//! way of lower ranks, whose may.

use std::collections::BTreeSet;

use super::bully::Verdict;
use crate::peers::MemberId;

/// What this member's last finished probe, or lap, told of its links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Reach {
    /// A quorum answered, or none was asked yet.
    #[default]
    Quorum,
    /// Too few answered: these.
    Few(BTreeSet<MemberId>),
    /// Too few answered, and then others asked, who may have been down before: all these.
    Hoped(BTreeSet<MemberId>),
    /// Not all of these answered the next one. Until they do, that they are heard proves
    /// nothing: the words may go one way only.
    Vain(BTreeSet<MemberId>),
}

impl Reach {
    /// Its claim could win, for all that is known.
    pub fn enough(&self) -> bool {
        matches!(self, Self::Quorum | Self::Hoped(_))
    }

    /// So many had answered when a probe or a lap came to its verdict. One that a higher
    /// rank cut short tells nothing.
    pub fn probed(&mut self, answered: BTreeSet<MemberId>, quorum: usize, verdict: &Verdict) {
        if answered.len() + 1 >= quorum {
            *self = Self::Quorum;
        } else if matches!(verdict, Verdict::NoQuorum(_)) {
            *self = match std::mem::take(self) {
                Self::Hoped(met) | Self::Vain(met) if !met.is_subset(&answered) => Self::Vain(met),
                _ => Self::Few(answered),
            };
        }
    }

    /// Another member asks: with one that was not met before there may be a quorum.
    pub fn asked_by(&mut self, member: MemberId) {
        if let Self::Few(met) | Self::Hoped(met) = self
            && met.insert(member)
        {
            *self = Self::Hoped(std::mem::take(met));
        }
    }
}
