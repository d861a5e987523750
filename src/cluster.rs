//! A cluster of sidecars in words that the backends and the API share: who its members are,
//! and how far their log is.

use std::collections::BTreeMap;

/// What an operator may ask for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeatChange {
    /// A vote: for a new member, or for one whose old disk has no seat any more.
    Add,
    /// Neither vote nor seat.
    Remove,
    /// The seat for the disk that the member comes with now, in place of the one it had.
    Replace,
}

/// How far a member's log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// The newest Raft term that it knows. It is no fencing token.
    pub term: u64,
    /// The last entry that it has.
    pub last: u64,
    /// The last entry that it knows to be on the disks of a majority.
    pub committed: u64,
    /// The last entry that it applied.
    pub applied: u64,
    /// By how many entries each other member lags, as the Raft leader knows it; 0 for each on
    /// the others.
    pub lag_entries: BTreeMap<String, u64>,
}

/// A cluster as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The kind of the backend.
    pub kind: &'static str,
    /// This member.
    pub member: String,
    /// Who is the Raft leader, as far as this member has heard. It need not be where the app
    /// leads.
    pub raft_leader: Option<String>,
    /// Whether a majority of the voters is there, as far as this member can tell.
    pub has_quorum: bool,
    /// This member's log.
    pub log: LogStatus,
    /// All that are listed or have a seat.
    pub members: Vec<SeatStatus>,
}

/// One member's seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatStatus {
    /// The member.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// Whether this member's connection to it stands; true for this member itself.
    pub connected: bool,
    /// The disk that has the seat, shortened.
    pub disk: Option<String>,
    /// Another disk, with which the member came a short time ago and was refused.
    pub other_disk: Option<String>,
    /// By how many entries it lags, where this member is the Raft leader.
    pub lag_entries: Option<u64>,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It votes.
    Voter,
    /// It follows without a vote.
    Learner,
    /// It has no seat.
    None,
}
