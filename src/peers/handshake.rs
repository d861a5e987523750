//! The first words of a connection: both sides say who they are, and each looks whether
//! that fits. Pure.

use serde::{Deserialize, Serialize};

use super::frame::{Body, Frame};
use super::{DiskId, Identity, MemberId, Members};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Whom it means to reach.
    pub to: MemberId,
    /// Its disk.
    pub disk: DiskId,
    /// Of its list of members: see [`Members::digest`].
    pub members: String,
    /// That list, for people.
    pub listed: String,
}

/// Why a peer is not taken. The sentence goes to both sides' logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another cluster's.
    #[error(
        "node {from} belongs to the cluster \"{theirs}\", this is node {own} of \"{ours}\": check \
         the cluster's name and the peers' addresses on both"
    )]
    Cluster {
        /// Who speaks.
        from: MemberId,
        /// Its cluster.
        theirs: String,
        /// Who refuses.
        own: MemberId,
        /// Its cluster.
        ours: String,
    },
    /// The lists differ.
    #[error(
        "the lists of members differ: node {from} lists {theirs}, node {own} lists {ours}; start \
         all nodes with the same list"
    )]
    Members {
        /// Who speaks.
        from: MemberId,
        /// Its list.
        theirs: String,
        /// Who refuses.
        own: MemberId,
        /// Its list.
        ours: String,
    },
    /// It is somebody else.
    #[error(
        "node {meant} was meant to be there, and node {found} is: the addresses in the list of \
         members are mixed up"
    )]
    SomebodyElse {
        /// Who was meant.
        meant: MemberId,
        /// Who is there.
        found: MemberId,
    },
    /// The same id twice.
    #[error(
        "two nodes have the id {id}: one with disk {first} is at work and another with disk \
         {second} speaks; give each node an id of its own"
    )]
    TwoNodes {
        /// The id.
        id: MemberId,
        /// Of the one that was known.
        first: String,
        /// Of the one that spoke.
        second: String,
    },
    /// Another disk under a known id.
    #[error(
        "node {id} was known with disk {known} and comes with disk {now}: its disk was wiped or \
         exchanged; restore it, or let the cluster take the new one in"
    )]
    ChangedDisk {
        /// The id.
        id: MemberId,
        /// The disk that was known.
        known: String,
        /// The one that it shows.
        now: String,
    },
    /// A start that is over.
    #[error(
        "start {seen} of node {id} is known already, and start {now} speaks: a copy of its state \
         directory is in use, or an older process of it goes on; stop that one"
    )]
    OldStart {
        /// The id.
        id: MemberId,
        /// The newest known.
        seen: u64,
        /// The one that spoke.
        now: u64,
    },
    /// It speaks for a member whose host its certificate is not for.
    #[error(
        "the certificate that node {id} shows is not for {host}, its host in the list of members: \
         have it signed for {host} as a subject alternative name"
    )]
    Certificate {
        /// Who speaks.
        id: MemberId,
        /// The host that the list gives it.
        host: String,
    },
    /// Not the frame that begins a connection.
    #[error("the first frame must be a hello, or the answer to one: what speaks is no peer")]
    NoHello,
}

/// What is known of a peer from before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its disk.
    pub disk: Option<DiskId>,
    /// The newest start of it.
    pub incarnation: u64,
    /// Whether it was heard a short time ago.
    pub alive: bool,
}

/// What this node says to `to`.
#[must_use]
pub fn hello(identity: &Identity, members: &Members, to: MemberId) -> Hello {
    Hello {
        to,
        disk: identity.disk.clone(),
        members: members.digest(),
        listed: members.to_string(),
    }
}

/// The hello in a frame that begins a connection or answers one.
///
/// # Errors
/// Where the frame is another one.
pub fn said(frame: &Frame) -> Result<&Hello, Refusal> {
    match &frame.body {
        Body::Hello(hello) | Body::Welcome(hello) => Ok(hello),
        _ => Err(Refusal::NoHello),
    }
}

/// Looks at the first frame of a peer. `meant`: who was dialled, if this node dialled.
///
/// # Errors
/// What does not fit.
pub fn check(
    frame: &Frame,
    identity: &Identity,
    members: &Members,
    meant: Option<MemberId>,
) -> Result<Hello, Refusal> {
    let hello = said(frame)?;
    let (from, own) = (frame.from, identity.member);
    if frame.cluster != identity.cluster {
        return Err(Refusal::Cluster {
            from,
            theirs: frame.cluster.clone(),
            own,
            ours: identity.cluster.clone(),
        });
    }
    if from == own {
        return Err(Refusal::TwoNodes {
            id: own,
            first: identity.disk.short(),
            second: hello.disk.short(),
        });
    }
    if hello.members != members.digest() || members.address(from).is_none() {
        return Err(Refusal::Members {
            from,
            theirs: hello.listed.clone(),
            own,
            ours: members.to_string(),
        });
    }
    let mixed_up = |meant, found| Refusal::SomebodyElse { meant, found };
    match meant {
        Some(meant) if meant != from => Err(mixed_up(meant, from)),
        _ if hello.to != own => Err(mixed_up(hello.to, own)),
        _ => Ok(hello.clone()),
    }
}

/// Compares a peer with what is known of it.
///
/// # Errors
/// Where it cannot be the same one.
pub fn compare(
    known: &Known,
    id: MemberId,
    disk: &DiskId,
    incarnation: u64,
) -> Result<(), Refusal> {
    match &known.disk {
        Some(first) if first != disk && known.alive => Err(Refusal::TwoNodes {
            id,
            first: first.short(),
            second: disk.short(),
        }),
        Some(first) if first != disk => Err(Refusal::ChangedDisk {
            id,
            known: first.short(),
            now: disk.short(),
        }),
        Some(_) if incarnation < known.incarnation => Err(Refusal::OldStart {
            id,
            seen: known.incarnation,
            now: incarnation,
        }),
        _ => Ok(()),
    }
}
