//! What goes into the core, and what it wants done.

use std::time::Duration;

use super::message::Envelope;
use super::record::Record;
use crate::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Hint, NodeId,
    Observed, Released, Renewed, StoreError,
};
use crate::peers::MemberId;
use crate::time::UnixMs;

/// Names a question of the own sidecar; chosen by the shell, answered once.
pub type Ticket = u64;

/// What a member learns.
#[derive(Clone, Debug)]
pub enum Input {
    /// Another member said something.
    Message {
        /// Who, as the transport knows it.
        from: MemberId,
        /// What.
        envelope: Box<Envelope>,
    },
    /// The own sidecar asks.
    Ask {
        /// Which answer this is for.
        ticket: Ticket,
        /// What for.
        request: Request,
    },
    /// A member has been silent for long. Never a proof, only a reason not to wait.
    Suspected(MemberId),
    /// It has been heard again.
    Recovered(MemberId),
    /// `wake_at` has come.
    Wake,
}

/// What the own sidecar asks; the calls of [`crate::backend::Backend`].
#[derive(Clone, Debug)]
pub enum Request {
    /// Asks for the lease.
    Acquire {
        /// The bid.
        bid: Bid,
        /// The wall clock, for people.
        wall: UnixMs,
    },
    /// Prolongs it.
    Renew(Claim),
    /// Gives it back.
    Release {
        /// The lease.
        claim: Claim,
        /// Who may try first.
        prefer: Option<NodeId>,
    },
    /// Looks.
    Observe,
    /// Reads the checkpoint.
    Read,
    /// Writes the checkpoint.
    Write(CheckpointWrite),
}

/// The answer to a [`Request`] that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Acquire`.
    Acquired(Acquired),
    /// To `Renew`.
    Renewed(Renewed),
    /// To `Release`.
    Released(Released),
    /// To `Observe`.
    Observed(Observed),
    /// To `Read`.
    Read(CheckpointRead),
    /// To `Write`.
    Written(CheckpointWritten),
}

/// What the shell does, strictly in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Put the record on disk; it is fsynced before any later output is looked at. Where
    /// the disk refuses, the later outputs are thrown away and the member stops.
    Persist(Box<Record>),
    /// Say this to a member. It may get lost.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        envelope: Box<Envelope>,
    },
    /// Answer the own sidecar.
    Answer {
        /// Which question.
        ticket: Ticket,
        /// The answer.
        answer: Result<Answer, StoreError>,
    },
    /// Wake the own sidecar.
    Hint(Hint),
    /// Tell the operator.
    Warn(Warning),
}

/// What an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// An even number of members.
    #[error(
        "{members} members survive no more failures than {} would: a majority is {quorum}; use an odd number",
        members - 1
    )]
    EvenMembers {
        /// How many.
        members: usize,
        /// How many must agree.
        quorum: usize,
    },
    /// Too few members answer.
    #[error("no quorum: {heard} of {members} members answer, {quorum} must")]
    NoQuorum {
        /// How many, this one among them.
        heard: usize,
        /// Of how many.
        members: usize,
        /// How many must.
        quorum: usize,
    },
    /// Another disk speaks for this member now.
    #[error("the disk of this member was replaced by another: it has no vote any more")]
    Retired,
    /// A blank disk was let in.
    #[error("member {member} is back with a blank disk; its old disk has no vote any more")]
    DiskReplaced {
        /// Whose.
        member: MemberId,
    },
    /// This blank disk has its vote.
    #[error("the blank disk has learned what the lost one may have granted, after {}: it votes again", humantime::format_duration(*.after))]
    Joined {
        /// How long it waited since the last it needed had answered.
        after: Duration,
    },
}
