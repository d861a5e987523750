//! What members of a Raft cluster say to each other, over [`crate::peers`].

use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::types::{LogId, RaftId, TypeConfig};
use super::{Outcome, Request};
use crate::lease::{CheckpointRead, ElectionName, Observed, StoreError};
use crate::peers::{DiskId, MemberId};

/// A request of one member to another.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "raft")]
pub(super) enum Wire {
    /// Raft's own, meant for the disk that has the seat.
    Rpc { disk: Option<DiskId>, rpc: Rpc },
    /// Whether the receiver, on the disk that has the seat, would vote for who has this log.
    Ping {
        disk: Option<DiskId>,
        last: Option<LogId>,
    },
    /// Who the receiver is.
    Who,
    /// For the Raft leader.
    Ask { ask: Ask, within_ms: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rpc {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<RaftId>),
    Snapshot(InstallSnapshotRequest<TypeConfig>),
}

/// Raft's answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RpcAnswer {
    Append(Result<AppendEntriesResponse<RaftId>, RaftError<RaftId>>),
    Vote(Result<VoteResponse<RaftId>, RaftError<RaftId>>),
    Snapshot(Result<InstallSnapshotResponse<RaftId>, RaftError<RaftId, InstallSnapshotError>>),
    /// The seat is another disk's.
    AnotherDisk(DiskId),
}

/// Who a member is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub disk: DiskId,
    pub witness: bool,
    /// Nothing was ever promised on its disk.
    pub blank: bool,
}

/// What the Raft leader is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    Change(Request),
    /// That it leads, and up to which entry the log was committed then.
    Confirm,
    Observe(ElectionName),
    Checkpoint(ElectionName),
    Seats(SeatsAsk),
}

/// What an operator asks about the members.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SeatsAsk {
    Add(MemberId),
    Remove(MemberId),
    Replace(MemberId),
}

impl Ask {
    /// Whether it changes nothing, so that it may be asked again.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Confirm | Self::Observe(_) | Self::Checkpoint(_))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Outcome(Outcome),
    Observed(Observed),
    Checkpoint(CheckpointRead),
    Index(u64),
}

/// The answer to [`Wire::Ask`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Answer(Answer),
    Failed(StoreError),
    /// Nothing was done: another member leads, or none.
    NotLeader,
}
