//! The words of the field: who asks, for what, for how long, under which number.
//!
//! Everything here is plain data and pure functions. The numbering rule
//! ([`Epoch::next`]), the timing rule ([`Timing`]) and the rules of a lease
//! register ([`register::Register`]) stand here once and serve every store.

pub mod checkpoint;
pub mod epoch;
pub mod name;
pub mod register;
pub mod timing;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use checkpoint::{Checkpoint, CheckpointRead, CheckpointWrite, CheckpointWritten, Revision};
pub use epoch::{Epoch, EpochError};
pub use name::{ElectionName, NameError, NodeId, SessionId};
pub use timing::{Drift, Timing, TimingError};

use crate::time::UnixMs;

/// What a candidate tells the others about itself; stored beside the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The node's label; two processes may carry the same one by mistake.
    pub node: NodeId,
    /// Where clients reach the app of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Any bytes that an embedding app wants the others to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "base64_bytes")]
    pub metadata: Vec<u8>,
}

/// A request for the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// The process that asks.
    pub session: SessionId,
    /// What the winner tells the others.
    pub profile: Profile,
    /// The lease asked for.
    pub ttl: Duration,
    /// The highest epoch this node has ever seen. The grant will be above it.
    pub floor: Option<Epoch>,
    /// This node holds the epoch `floor` and is still inside its `leads_until`:
    /// a store that forgot its lease may grant it anew without a hold.
    pub incumbent: bool,
    /// How long the store must grant nothing where its memory and this bid
    /// contradict each other: the longest TTL known, lengthened for drift.
    pub hold: Duration,
}

impl Bid {
    /// Refuses spans that a store cannot keep, in every store alike.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] names the value and the range.
    pub fn check(&self) -> Result<(), StoreError> {
        check_spans(self.ttl, self.hold)
    }
}

/// The longest lease or hold that a store is asked for: a year. Longer ones are a
/// mistake, and sums with them would leave the whole numbers of a double.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

fn check_spans(ttl: Duration, hold: Duration) -> Result<(), StoreError> {
    let in_range = |what, span: Duration, least| {
        if (least..=LONGEST).contains(&span) {
            return Ok(());
        }
        Err(StoreError::Rejected(format!(
            "a {what} of {} is out of range: it must be from {} to 366 days",
            humantime::format_duration(span),
            humantime::format_duration(least),
        )))
    };
    in_range("TTL", ttl, Duration::from_millis(1))?;
    in_range("hold", hold, Duration::ZERO)
}

/// The one who holds the lease, as the store tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The number of this tenure.
    pub epoch: Epoch,
    /// The process that holds it.
    pub session: SessionId,
    /// What it told about itself.
    pub profile: Profile,
    /// When it was granted, by the store's wall clock.
    pub since: UnixMs,
    /// The lease it asked for.
    pub ttl: Duration,
}

/// A lease that a session was granted: what it renews and releases by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The number of the tenure.
    pub epoch: Epoch,
    /// The session it was granted to.
    pub session: SessionId,
    /// The lease to renew for.
    pub ttl: Duration,
    /// The hold that other nodes observe where the store contradicts them.
    pub hold: Duration,
}

impl Claim {
    /// Refuses spans that a store cannot keep, in every store alike.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] names the value and the range.
    pub fn check(&self) -> Result<(), StoreError> {
        check_spans(self.ttl, self.hold)
    }
}

/// The answer to a [`Bid`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acquired {
    /// The lease is the bidder's, for `left` from some time after the send.
    Won {
        /// The number of the tenure.
        epoch: Epoch,
        /// What the store will keep it for; may be other than what was asked.
        left: Duration,
    },
    /// Another session holds it.
    Held {
        /// Who.
        holder: Holder,
        /// For how long still, unless it renews.
        left: Duration,
    },
    /// Nobody is granted it for now: the store may have forgotten a leader.
    Hold {
        /// When to ask again.
        retry_in: Duration,
        /// What contradicted what.
        why: HoldReason,
    },
}

/// Why a store grants nothing for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// The bidder has seen a higher epoch than the store knows.
    StoreWentBack,
    /// The lease is gone before its time and nobody released it.
    LeaseVanished,
    /// Another server answers than the one that granted the last lease.
    ServerChanged,
    /// A hold that an earlier contradiction began.
    Standing,
    /// Another member is being elected, or the votes were split: ask again soon.
    ElectionUnderWay,
    /// This member's disk is blank and has no vote yet.
    MemberJoining,
}

impl HoldReason {
    /// It contradicts nothing that is known: the bidder is asked to come again.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Self::ElectionUnderWay | Self::MemberJoining)
    }

    /// The reason in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreWentBack => "the store has forgotten an epoch that this node has seen",
            Self::LeaseVanished => "the last lease is gone from the store before its time",
            Self::ServerChanged => {
                "another server answers than the one that granted the last lease"
            }
            Self::Standing => "the store lost data a moment ago",
            Self::ElectionUnderWay => "the members are electing",
            Self::MemberJoining => "this member's disk is blank and has no vote yet",
        }
    }
}

impl std::fmt::Display for HoldReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renewed {
    /// The lease goes on.
    Kept {
        /// What the store will keep it for.
        left: Duration,
    },
    /// It is not this session's any more; it was not created anew.
    Lost(Option<Holder>),
}

/// The answer to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Released {
    /// The lease is free, and the store remembers that this epoch ended.
    Released,
    /// The lease was not this session's; nothing changed.
    NotHeld,
}

/// What a store says about an election when it is only looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The newest epoch the store knows of.
    pub epoch: Option<Epoch>,
    /// Who holds a live lease, and for how long still.
    pub holder: Option<(Holder, Duration)>,
}

impl Observed {
    /// Judges a fencing token against the store's answer and against the highest
    /// epoch this node has seen, which the store may have forgotten.
    #[must_use]
    pub fn validate(&self, token: Epoch, floor: Option<Epoch>) -> Validity {
        let newest = self.epoch.max(floor);
        match newest {
            Some(newest) if token < newest => Validity::Stale,
            Some(newest) if token == newest => match &self.holder {
                Some((holder, _)) if holder.epoch == token => Validity::Current,
                _ => Validity::NoLeader,
            },
            _ => Validity::Unknown,
        }
    }
}

/// What a fencing token is worth at the moment the store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Validity {
    /// The epoch of the lease in force.
    Current,
    /// A newer epoch has been granted.
    Stale,
    /// No such epoch has been granted yet.
    Unknown,
    /// The newest epoch, but its lease is over.
    NoLeader,
}

/// A wake-up from the store. Correctness never depends on one arriving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The state after subscribing, and again after every cut.
    Present(Observed),
    /// A lease of this epoch began.
    Began(Epoch),
    /// The lease of this epoch was released; `prefer` may try first.
    Ended {
        /// The released epoch.
        epoch: Epoch,
        /// The candidate that the others wait for, briefly.
        prefer: Option<NodeId>,
    },
    /// Wake-ups may have been missed; a `Present` follows when they flow again.
    Gap,
}

/// Why a store gave no answer that can be acted upon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StoreError {
    /// The request was never applied: it did not leave, or was refused whole.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The request may or may not have been applied.
    #[error("no certain answer from the store: {0}")]
    Indeterminate(String),
    /// The store refuses for a reason that stays until somebody acts.
    #[error("store refused: {0}")]
    Rejected(String),
    /// The store is set up in a way that leases cannot rest on.
    #[error("store misconfigured: {0}")]
    Misconfigured(String),
    /// The store holds a record that cannot be read.
    #[error("store record corrupt: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the request may have been applied all the same.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Indeterminate(_))
    }
}

pub(crate) mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}
