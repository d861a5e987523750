//! A7: which disks count, and how a blank one gets its vote.
//!
//! A lost disk may have granted anything that a majority with it granted. N−Q+1 intact
//! others meet every such majority, so they know the epoch and the checkpoint; and once
//! they are bound to the new disk they refuse whoever still counts the old one, so no
//! lease that rests on the old vote is claimed or renewed any more. What was claimed
//! before that is over a lease later. The wait therefore counts from the last of these
//! answers, not from the start.

use std::collections::BTreeSet;
use std::time::Duration;

use super::message::{Envelope, Message};
use super::record::Stored;
use super::{Flaw, Output, QuorumLease, Settings, Warning};
use crate::lease::Epoch;
use crate::peers::MemberId;
use crate::time::Moment;

/// A blank disk on its way in.
#[derive(Debug)]
pub(super) struct Join {
    welcomed: BTreeSet<MemberId>,
    /// When enough had answered.
    since: Option<Moment>,
    /// The longest lease that may be standing.
    lease: Duration,
    ask_at: Moment,
}

impl Join {
    pub fn new(now: Moment, settings: &Settings) -> Self {
        Self {
            welcomed: BTreeSet::new(),
            since: None,
            lease: settings.longest_lease,
            ask_at: now,
        }
    }

    pub fn wake_at(&self, settings: &Settings) -> Moment {
        match self.since {
            Some(since) => since + settings.bound(self.lease),
            None => self.ask_at,
        }
    }
}

impl QuorumLease {
    /// Another disk speaks for this member.
    pub(super) fn retired(&self) -> bool {
        if self.settings.has(Flaw::A7TwoDisksUnderOneId) {
            return false;
        }
        let (own, disk) = (self.settings.own, &self.settings.disk);
        let disks = &self.record.disks;
        let another = disks.current(own).is_some_and(|current| current != disk);
        disks.retired(own, disk) || (another && self.join.is_none())
    }

    /// Takes what the envelope knows of disks. `None` where it speaks for no member;
    /// else whether its sender counts no disk that this member knows to be replaced.
    pub(super) fn admit_disk(
        &mut self,
        from: MemberId,
        envelope: &Envelope,
        out: &mut Vec<Output>,
    ) -> Option<bool> {
        if self.settings.has(Flaw::A7TwoDisksUnderOneId) {
            return Some(true);
        }
        let told = envelope
            .disks
            .without_usurper(from, &envelope.disk, &self.record.disks);
        let (mut replaced, mut changed) = self.record.disks.merge(&told);
        let bound = self.record.disks.current(from).cloned();
        let joins = envelope.message == Message::Join && self.join.is_none();
        let speaks = match bound {
            Some(bound) if bound == envelope.disk => true,
            Some(_) if joins && !self.record.disks.retired(from, &envelope.disk) => {
                replaced.insert(from);
                true
            }
            Some(_) => false,
            None => true,
        };
        if speaks && self.record.disks.current(from) != Some(&envelope.disk) {
            self.record.disks.bind(from, envelope.disk.clone());
            changed = true;
        }
        if changed {
            self.persist(out);
        }
        for member in replaced {
            self.forget_votes(member);
            out.push(Output::Warn(Warning::DiskReplaced { member }));
        }
        if self.retired() && !self.warned_of_retirement {
            self.warned_of_retirement = true;
            out.push(Output::Warn(Warning::Retired));
        }
        if !speaks {
            // Never in answer to the same: two that replaced each other would not end.
            if envelope.message != Message::Replaced {
                self.send(from, Message::Replaced, out);
            }
            return None;
        }
        Some(!envelope.disks.behind(&self.record.disks))
    }

    /// Binds nothing by itself: `admit_disk` did, durably.
    pub(super) fn welcome(&self, to: MemberId, out: &mut Vec<Output>) {
        let lease_ms = self.record.grant.as_ref().map_or(0, |grant| grant.lease_ms);
        let welcome = Message::Welcome {
            known: self.record.known,
            lease_ms,
            checkpoint: self.record.checkpoint.clone(),
        };
        self.send(to, welcome, out);
    }

    pub(super) fn on_welcome(
        &mut self,
        now: Moment,
        from: MemberId,
        known: Option<Epoch>,
        lease_ms: u64,
        checkpoint: Option<Stored>,
        out: &mut Vec<Output>,
    ) {
        // From a member that counts another disk of ours it is an answer to another.
        let bound = self.record.disks.current(self.settings.own) == Some(&self.settings.disk)
            || self.settings.has(Flaw::A7TwoDisksUnderOneId);
        let Some(join) = self.join.as_mut().filter(|_| bound) else {
            return;
        };
        if self.settings.has(Flaw::A7BlankDiskVotes) {
            join.lease = Duration::ZERO;
            join.since.get_or_insert(now);
            return;
        }
        join.lease = join.lease.max(Duration::from_millis(lease_ms));
        join.welcomed.insert(from);
        if join.welcomed.len() >= self.settings.welcomes() {
            join.since.get_or_insert(now);
        }
        self.record.known = self.record.known.max(known);
        let both = [self.record.checkpoint.take(), checkpoint];
        self.record.checkpoint = Stored::greatest(both.into_iter().flatten());
        self.see(known);
        self.persist(out);
    }

    pub(super) fn join_on_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(join) = &mut self.join else { return };
        if let Some(since) = join.since {
            let after = self.settings.bound(join.lease);
            if now >= since + after {
                self.join = None;
                self.record.joining = false;
                self.persist(out);
                out.push(Output::Warn(Warning::Joined { after }));
            }
            return;
        }
        if now >= join.ask_at {
            join.ask_at = now + self.settings.patience;
            self.broadcast(&Message::Join, out);
        }
    }
}
