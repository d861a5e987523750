//! Looking: who leads, and what the checkpoint is, as a majority knows it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::io::{Answer, Ticket};
use super::message::{Message, View};
use super::record::Stored;
use super::{Output, QuorumLease, reply};
use crate::lease::{Acquired, CheckpointRead, HoldReason, Observed, StoreError};
use crate::peers::MemberId;
use crate::time::Moment;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Observe,
    Read,
    /// A bid that the own vote cannot follow: who is it that leads?
    Bid,
}

#[derive(Clone, Debug)]
struct Seen {
    leads: bool,
    view: View,
    checkpoint: Option<Stored>,
}

/// One question to all.
#[derive(Debug)]
pub(super) struct Look {
    ask: u64,
    ticket: Ticket,
    kind: Kind,
    pub until: Moment,
    seen: BTreeMap<MemberId, Seen>,
}

impl QuorumLease {
    pub(super) fn look(&mut self, now: Moment, ticket: Ticket, kind: Kind, out: &mut Vec<Output>) {
        if self.join.is_some() {
            let why = "this member's disk is blank, and the others have not let it in yet";
            return reply(ticket, Err(StoreError::Unavailable(why.into())), out);
        }
        // Not a count from 1: an answer to an earlier life must match nothing.
        let ask = self.rng.u64(1..1 << 53);
        let value = kind == Kind::Read;
        let until = now + self.settings.patience;
        let own = Seen {
            leads: self.leads(now),
            view: self.view(now),
            checkpoint: self.record.checkpoint.clone().filter(|_| value),
        };
        let seen = [(self.settings.own, own)].into();
        self.looks.push(Look {
            ask,
            ticket,
            kind,
            until,
            seen,
        });
        self.broadcast(&Message::Read { ask, value }, out);
        self.conclude(ask, false, out);
    }

    fn leads(&self, now: Moment) -> bool {
        self.lead.as_ref().is_some_and(|lead| now < lead.ends_at)
    }

    pub(super) fn state(&self, now: Moment, ask: u64, value: bool) -> Message {
        Message::State {
            ask,
            leads: self.leads(now),
            view: self.view(now),
            checkpoint: self.record.checkpoint.clone().filter(|_| value),
        }
    }

    pub(super) fn on_state(
        &mut self,
        from: MemberId,
        ask: u64,
        leads: bool,
        view: View,
        checkpoint: Option<Stored>,
        out: &mut Vec<Output>,
    ) {
        let seen = Seen {
            leads,
            view,
            checkpoint,
        };
        if let Some(look) = self.looks.iter_mut().find(|look| look.ask == ask) {
            look.seen.insert(from, seen);
            self.conclude(ask, false, out);
        }
    }

    pub(super) fn looks_on_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        let due = self.looks.iter().filter(|look| look.until <= now);
        for ask in due.map(|look| look.ask).collect::<Vec<_>>() {
            self.conclude(ask, true, out);
        }
    }

    /// Answers where enough is known, or where nobody waits any more.
    fn conclude(&mut self, ask: u64, time_is_up: bool, out: &mut Vec<Output>) {
        let Some(at) = self.looks.iter().position(|look| look.ask == ask) else {
            return;
        };
        let quorum = self.settings.quorum();
        let look = &self.looks[at];
        let all = look.seen.len() == self.settings.members.len();
        let answer = if look.seen.len() < quorum {
            let heard = look.seen.len();
            let why = format!("{heard} of the {quorum} members that must answer did");
            time_is_up.then_some(Err(StoreError::Unavailable(why)))
        } else if look.kind == Kind::Observe {
            look.observed(quorum, all || time_is_up)
                .map(|seen| Ok(Answer::Observed(seen)))
        } else if look.kind == Kind::Bid {
            look.observed(quorum, all || time_is_up)
                .map(|seen| Ok(Answer::Acquired(look.held_off(self.settings.own, seen))))
        } else {
            let why = "members hold different checkpoints: a write is under way".to_owned();
            match look.read(quorum) {
                Some(read) => Some(Ok(Answer::Read(read))),
                None => (all || time_is_up).then_some(Err(StoreError::Indeterminate(why))),
            }
        };
        if let Some(answer) = answer {
            let look = self.looks.remove(at);
            reply(look.ticket, answer, out);
        }
    }
}

impl Look {
    /// A lease counts where its holder says so, or a quorum has it live. A failed claim's
    /// epoch is no newer tenure than the lease that outlived it.
    fn observed(&self, quorum: usize, no_more: bool) -> Option<Observed> {
        let live = |seen: &Seen| {
            seen.view
                .live
                .clone()
                .map(|grant| (grant, seen.view.left()))
        };
        for seen in self.seen.values() {
            let Some((grant, left)) = live(seen) else {
                continue;
            };
            let same = |other: &&Seen| other.view.live.as_ref().is_some_and(|it| it.is(&grant));
            if seen.leads || self.seen.values().filter(same).count() >= quorum {
                return Some(Observed {
                    epoch: Some(grant.epoch),
                    holder: Some((grant.holder(), left)),
                });
            }
        }
        let epoch = self.seen.values().filter_map(|seen| seen.view.known).max();
        no_more.then_some(Observed {
            epoch,
            holder: None,
        })
    }

    /// Where nobody leads, the own vote is bound all the same.
    fn held_off(&self, own: MemberId, observed: Observed) -> Acquired {
        let live = self.seen.get(&own).and_then(|seen| {
            let grant = seen.view.live.as_ref()?;
            Some((grant.holder(), seen.view.left()))
        });
        match observed.holder.or(live) {
            Some((holder, left)) => Acquired::Held { holder, left },
            None => Acquired::Hold {
                retry_in: Duration::ZERO,
                why: HoldReason::ElectionUnderWay,
            },
        }
    }

    /// Only what a quorum holds under the same tenure: any other value may still be
    /// replaced by an older one.
    fn read(&self, quorum: usize) -> Option<CheckpointRead> {
        let values = || self.seen.values().map(|seen| seen.checkpoint.as_ref());
        let greatest = values().flatten().max_by_key(|stored| stored.key());
        let key = greatest.map(Stored::key);
        let holding = values().filter(|stored| stored.map(Stored::key) == key);
        if holding.count() < quorum {
            return None;
        }
        let value = greatest.and_then(Stored::value);
        Some(value.map_or(CheckpointRead::Absent, CheckpointRead::Present))
    }
}
