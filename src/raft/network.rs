//! Raft's own messages, over the members' way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    InstallSnapshotError, NetworkError, PayloadTooLarge, RPCError, RaftError, RemoteError,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use super::types::{RaftId, Seat, TypeConfig};
use super::wire::{Rpc, RpcAnswer, Wire};
use crate::peers::frame::LONGEST_FRAME;
use crate::peers::{CallError, MemberId, Mesh};

/// Between two tries to reach a member that is not there.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Room for what stands around the entries in a frame.
const ROOM: usize = 4096;

/// Makes the ways.
#[derive(Clone)]
pub(super) struct Network(pub Arc<Mesh>);

/// The way to one member.
pub(super) struct Way {
    mesh: Arc<Mesh>,
    to: MemberId,
    seat: Seat,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, to: RaftId, seat: &Seat) -> Way {
        Way {
            mesh: Arc::clone(&self.0),
            to: to.0,
            seat: seat.clone(),
        }
    }
}

type Failed<E> = RPCError<RaftId, Seat, E>;

fn unreachable<E: std::error::Error>(why: impl Into<String>) -> Failed<E> {
    RPCError::Unreachable(Unreachable::new(&io::Error::other(why.into())))
}

impl Way {
    async fn call<E: std::error::Error>(
        &self,
        rpc: Rpc,
        option: &RPCOption,
    ) -> Result<RpcAnswer, Failed<E>> {
        let entries = match &rpc {
            Rpc::Append(append) => append.entries.len(),
            _ => 0,
        };
        let disk = self.seat.disk.clone();
        let strange = |error: serde_json::Error| unreachable(error.to_string());
        let body = serde_json::to_value(Wire::Rpc { disk, rpc }).map_err(strange)?;
        if entries > 1 {
            let length = body.to_string().len();
            if length > LONGEST_FRAME - ROOM {
                let fit = entries * (LONGEST_FRAME - ROOM) / length / 2;
                let hint = PayloadTooLarge::new_entries_hint(fit.max(1) as u64);
                return Err(RPCError::PayloadTooLarge(hint));
            }
        }
        match self.mesh.call(self.to, body, option.hard_ttl()).await {
            Ok(answer) => match serde_json::from_value(answer).map_err(strange)? {
                RpcAnswer::AnotherDisk(disk) => Err(unreachable(format!(
                    "{} has come with another disk, {}",
                    self.to,
                    disk.short()
                ))),
                answer => Ok(answer),
            },
            Err(CallError::NotSent(why)) => Err(unreachable(why)),
            Err(CallError::Indeterminate(why)) => {
                Err(RPCError::Network(NetworkError::new(&io::Error::other(why))))
            }
        }
    }

    // The type of the error is what openraft asks for.
    #[allow(clippy::result_large_err)]
    fn answered<T, E: std::error::Error>(&self, answer: Result<T, E>) -> Result<T, Failed<E>> {
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(RaftId(self.to), error)))
    }
}

impl RaftNetwork<TypeConfig> for Way {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, Failed<RaftError<RaftId>>> {
        match self.call(Rpc::Append(rpc), &option).await? {
            RpcAnswer::Append(answer) => self.answered(answer),
            _ => Err(unreachable("it answered something else")),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<RaftId>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftId>, Failed<RaftError<RaftId>>> {
        match self.call(Rpc::Vote(rpc), &option).await? {
            RpcAnswer::Vote(answer) => self.answered(answer),
            _ => Err(unreachable("it answered something else")),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<RaftId>, Failed<RaftError<RaftId, InstallSnapshotError>>>
    {
        match self.call(Rpc::Snapshot(rpc), &option).await? {
            RpcAnswer::Snapshot(answer) => self.answered(answer),
            _ => Err(unreachable("it answered something else")),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(TRY_AGAIN))
    }
}
