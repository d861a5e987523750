//! What members say to each other about one election.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Grant, Roster, Stored};
use super::ring::Token;
use crate::lease::{Epoch, NodeId, Revision, SessionId};
use crate::peers::{DiskId, MemberId};
use crate::time::{millis, millis_up};

/// A message with what every one of them carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The disk of the member that says it. Another disk's word is not the member's.
    pub disk: DiskId,
    /// Which disks the sender counts votes of. Who counts a replaced one is refused.
    pub disks: Roster,
    /// What it says.
    #[serde(flatten)]
    pub message: Message,
}

/// What one member says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Bully: may I? Grants nothing. The sender's rank is its id.
    Election {
        /// The epoch it would claim, which also tells its probes apart.
        epoch: Epoch,
        /// The session it would claim for.
        session: SessionId,
    },
    /// The answer to a probe.
    Ok {
        /// The probe's.
        epoch: Epoch,
        /// A claim would be granted now, as far as leases go.
        willing: bool,
        /// The answerer ranks higher and campaigns itself.
        superior: bool,
        /// What it knows of leases.
        view: View,
    },
    /// A claim: grant me this.
    Coordinator {
        /// The lease claimed.
        grant: Grant,
    },
    /// A renewal.
    Heartbeat {
        /// The lease renewed; who missed the claim may grant it now.
        grant: Grant,
        /// Counts the renewals of this tenure.
        seq: u64,
    },
    /// The sender's lease of that epoch is over, or its claim failed.
    Release {
        /// Which.
        epoch: Epoch,
        /// Whose.
        session: SessionId,
        /// The candidate that the others wait for, briefly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefer: Option<NodeId>,
    },
    /// Keep this checkpoint.
    Write {
        /// The lease it is written under.
        grant: Grant,
        /// The value.
        stored: Stored,
    },
    /// The answer to a claim, a renewal, a release or a write.
    Ack {
        /// The epoch asked for.
        epoch: Epoch,
        /// What was asked.
        of: Asked,
        /// Done, and durable where it must be.
        ok: bool,
        /// The highest epoch that the answerer has granted.
        known: Option<Epoch>,
        /// The answerer's checkpoint, with a granted claim.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checkpoint: Option<Stored>,
    },
    /// What do you know?
    Read {
        /// Tells questions apart.
        ask: u64,
        /// The checkpoint's bytes are wanted, too.
        value: bool,
    },
    /// The answer to a `Read`.
    State {
        /// The question's.
        ask: u64,
        /// The answerer holds the lease itself and is inside it.
        leads: bool,
        /// What it knows of leases.
        view: View,
        /// Its checkpoint, where it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checkpoint: Option<Stored>,
    },
    /// Ring: the token of a lap.
    Token(Token),
    /// Ring: the successor has the token.
    TokenAck {
        /// The lap's.
        round: u64,
        /// Who began it.
        initiator: MemberId,
    },
    /// Ring: the lap chose the receiver; it claims.
    Elected {
        /// The lap's.
        round: u64,
    },
    /// The sender has a blank disk and asks to be let in with it.
    Join,
    /// The answer to a blank disk: it is bound now, durably.
    Welcome {
        /// The highest epoch granted.
        known: Option<Epoch>,
        /// The lease of it.
        lease_ms: u64,
        /// The checkpoint.
        checkpoint: Option<Stored>,
    },
    /// The receiver's disk was replaced; the envelope tells by which.
    Replaced,
}

/// What an acknowledgement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// A `Coordinator`.
    Claim,
    /// The `Heartbeat` of that number.
    Heartbeat(u64),
    /// A `Release`.
    Release,
    /// The `Write` of that revision.
    Write(Option<Revision>),
}

/// What a member knows of leases at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The highest epoch it has granted.
    pub known: Option<Epoch>,
    /// The grant that is live on its clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Grant>,
    /// For how long still.
    #[serde(default)]
    pub lease_left_ms: u64,
}

impl View {
    pub(super) fn of(known: Option<Epoch>, live: Option<(Grant, Duration)>) -> Self {
        let lease_left_ms = live.as_ref().map_or(0, |(_, left)| millis_up(*left));
        let live = live.map(|(grant, _)| grant);
        Self {
            known,
            live,
            lease_left_ms,
        }
    }

    pub(super) fn left(&self) -> Duration {
        Duration::from_millis(self.lease_left_ms)
    }
}

/// A span as messages carry it: never longer than it is.
pub(super) fn lease_ms(span: Duration) -> u64 {
    millis(span)
}
