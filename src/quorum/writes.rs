//! The checkpoint, as its holder writes it: one value at a time, acknowledged when a
//! quorum has it on disk.

use std::collections::{BTreeSet, VecDeque};

use super::io::{Answer, Ticket};
use super::message::Message;
use super::record::Stored;
use super::{Flaw, Output, QuorumLease, reply};
use crate::lease::checkpoint::MAX_BYTES;
use crate::lease::{CheckpointWrite, CheckpointWritten, Epoch, Revision, StoreError};
use crate::peers::MemberId;
use crate::time::Moment;

/// The value that the holder is bringing to the others, and what waits behind it.
#[derive(Debug)]
pub(super) struct Writes {
    pub current: Stored,
    acks: BTreeSet<MemberId>,
    /// A quorum has it.
    settled: bool,
    ticket: Option<(Ticket, Moment)>,
    queue: VecDeque<(Ticket, CheckpointWrite, Moment)>,
}

impl Writes {
    pub fn new(current: Stored, own: MemberId) -> Self {
        Self {
            current,
            acks: [own].into(),
            settled: false,
            ticket: None,
            queue: VecDeque::new(),
        }
    }

    pub fn wake_at(&self) -> Option<Moment> {
        let waiting = self.queue.iter().map(|(_, _, until)| *until);
        self.ticket
            .iter()
            .map(|(_, until)| *until)
            .chain(waiting)
            .min()
    }

    pub fn forget(&mut self, member: MemberId) {
        self.acks.remove(&member);
    }

    /// The tenure is over: what a quorum may or may not have, and what never left.
    pub fn end(self, out: &mut Vec<Output>) {
        if let Some((ticket, _)) = self.ticket {
            let why = "the lease ended before a majority had the value on disk".to_owned();
            reply(ticket, Err(StoreError::Indeterminate(why)), out);
        }
        for (ticket, _, _) in self.queue {
            let why = "the lease ended before the value was sent".to_owned();
            reply(ticket, Err(StoreError::Unavailable(why)), out);
        }
    }
}

impl QuorumLease {
    pub(super) fn write(
        &mut self,
        now: Moment,
        ticket: Ticket,
        write: CheckpointWrite,
        out: &mut Vec<Output>,
    ) {
        if write.bytes.len() > MAX_BYTES {
            let why = format!("a checkpoint has at most {MAX_BYTES} bytes");
            return reply(ticket, Err(StoreError::Rejected(why)), out);
        }
        let until = now + self.settings.patience;
        let newest = self
            .record
            .checkpoint
            .as_ref()
            .and_then(|stored| stored.revision);
        let of_holder = self
            .lead
            .as_mut()
            .filter(|lead| lead.grant.epoch == write.epoch && lead.grant.session == write.session);
        let Some(lead) = of_holder else {
            let stale = CheckpointWritten::Stale {
                epoch: self.record.known,
                revision: newest,
            };
            return reply(ticket, Ok(Answer::Written(stale)), out);
        };
        lead.writes.queue.push_back((ticket, write, until));
        self.next_write(out);
    }

    /// Begins the next write when the one before it is settled, whoever asked for that.
    fn next_write(&mut self, out: &mut Vec<Output>) {
        while let Some(lead) = self.lead.as_mut().filter(|lead| lead.writes.settled) {
            let Some((ticket, write, until)) = lead.writes.queue.pop_front() else {
                return;
            };
            let revision = lead.writes.current.revision;
            if revision != write.expected {
                let mismatch = CheckpointWritten::Mismatch { revision };
                reply(ticket, Ok(Answer::Written(mismatch)), out);
                continue;
            }
            let epoch = lead.grant.epoch;
            let stored = Stored {
                under: epoch,
                revision: Some(Revision::next(revision, epoch)),
                bytes: write.bytes,
            };
            let mut writes = Writes::new(stored, self.settings.own);
            writes.ticket = Some((ticket, until));
            writes.queue = std::mem::take(&mut lead.writes.queue);
            lead.writes = writes;
            self.bring_value(out);
        }
    }

    /// Own disk first, then the others.
    pub(super) fn bring_value(&mut self, out: &mut Vec<Output>) {
        let Some(lead) = &self.lead else { return };
        self.record.checkpoint = Some(lead.writes.current.clone());
        self.persist(out);
        self.send_value(out);
        self.settle(out);
    }

    /// Also brings it to those who missed it, with each renewal.
    pub(super) fn send_value(&self, out: &mut Vec<Output>) {
        let Some(lead) = &self.lead else { return };
        for to in self.settings.others() {
            if !lead.writes.acks.contains(&to) {
                let message = Message::Write {
                    grant: lead.grant.clone(),
                    stored: lead.writes.current.clone(),
                };
                self.send(to, message, out);
            }
        }
    }

    pub(super) fn on_write_ack(
        &mut self,
        _now: Moment,
        from: MemberId,
        epoch: Epoch,
        revision: Option<Revision>,
        ok: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.grant.epoch == epoch) else {
            return;
        };
        if !ok || lead.writes.current.revision != revision {
            return;
        }
        lead.writes.acks.insert(from);
        self.settle(out);
        self.next_write(out);
    }

    fn settle(&mut self, out: &mut Vec<Output>) {
        let mut quorum = self.settings.quorum();
        if self.settings.has(Flaw::OneAckIsAWrite) {
            quorum = 1;
        }
        let Some(lead) = &mut self.lead else { return };
        let writes = &mut lead.writes;
        if writes.acks.len() < quorum {
            return;
        }
        writes.settled = true;
        if let (Some((ticket, _)), Some(revision)) = (writes.ticket.take(), writes.current.revision)
        {
            let written = CheckpointWritten::Written(revision);
            reply(ticket, Ok(Answer::Written(written)), out);
        }
    }

    pub(super) fn writes_on_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(lead) = &mut self.lead else { return };
        let writes = &mut lead.writes;
        if let Some((ticket, _)) = writes.ticket.take_if(|(_, until)| *until <= now) {
            let why = "too few members have said that the value is on their disk".to_owned();
            reply(ticket, Err(StoreError::Indeterminate(why)), out);
        }
        // All wait equally long, so the first is due first.
        while writes
            .queue
            .front()
            .is_some_and(|(_, _, until)| *until <= now)
        {
            let Some((ticket, _, _)) = writes.queue.pop_front() else {
                return;
            };
            let why = "an earlier value is not yet on a majority of the disks".to_owned();
            reply(ticket, Err(StoreError::Unavailable(why)), out);
        }
    }
}
