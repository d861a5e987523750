//! What a member answers its peers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::member::Member;
use super::types::LogId;
use super::wire::{Rpc, RpcAnswer, Told, Wire};
use crate::peers::{DiskId, Event, ReplyHandle};

impl Member {
    /// Whether it would vote for who has a log up to `last`: no Raft leader is heard, its own
    /// log is not longer, and it could note the vote.
    pub(super) fn would_vote(&self, last: Option<LogId>) -> bool {
        let lease = Duration::from_millis(self.options.times().election_max);
        let as_long = self.last_log().is_ok_and(|own| last >= own);
        let able = self.ended().is_none() && !self.is_raft_leader();
        able && self.silence() > lease && as_long
    }

    /// Whether a seat of this disk is this member's: the vote of any other is not its own to
    /// promise.
    pub(super) fn has_seat(&self, disk: Option<&DiskId>) -> bool {
        disk == Some(&self.options.mesh.identity.disk)
    }

    async fn rpc(&self, disk: Option<DiskId>, rpc: Rpc) -> RpcAnswer {
        if !self.has_seat(disk.as_ref()) {
            return RpcAnswer::AnotherDisk(self.options.mesh.identity.disk.clone());
        }
        match rpc {
            Rpc::Append(append) => {
                let answer = self.raft.append_entries(append).await;
                use openraft::raft::AppendEntriesResponse::HigherVote;
                if matches!(&answer, Ok(answer) if !matches!(answer, HigherVote(_))) {
                    self.heard_leader();
                }
                RpcAnswer::Append(answer)
            }
            Rpc::Vote(vote) => RpcAnswer::Vote(self.raft.vote(vote).await),
            Rpc::Snapshot(piece) => {
                let answer = self.raft.install_snapshot(piece).await;
                if answer.is_ok() {
                    self.heard_leader();
                }
                RpcAnswer::Snapshot(answer)
            }
        }
    }

    async fn handle(&self, body: serde_json::Value, reply: ReplyHandle) {
        let wire = match serde_json::from_value::<Wire>(body) {
            Ok(wire) => wire,
            Err(error) => return tracing::warn!(%error, "a peer said what Raft does not know"),
        };
        let answer = match wire {
            Wire::Rpc { disk, rpc } => serde_json::to_value(self.rpc(disk, rpc).await),
            Wire::Ping { disk, last } => {
                let would = self.has_seat(disk.as_ref()) && self.would_vote(last);
                serde_json::to_value(would)
            }
            Wire::Who => serde_json::to_value(Told {
                disk: self.options.mesh.identity.disk.clone(),
                witness: self.options.witness,
                blank: self.disk.is_blank().unwrap_or(false),
            }),
            Wire::Ask { ask, within_ms } => {
                let limit = Duration::from_millis(within_ms);
                serde_json::to_value(self.lead(ask, limit).await)
            }
        };
        match answer {
            Ok(answer) => reply.send(answer).await,
            Err(error) => tracing::warn!(%error, "an answer to a peer cannot be said"),
        }
    }
}

/// Answers the peers; each on its own, for one may wait for a majority.
pub(super) async fn serve(member: Arc<Member>, mut events: mpsc::Receiver<Event>) {
    let mut answers = JoinSet::new();
    while let Some(event) = events.recv().await {
        while answers.try_join_next().is_some() {}
        match event {
            Event::Request { body, reply, .. } => {
                let member = Arc::clone(&member);
                answers.spawn(async move { member.handle(body, reply).await });
            }
            Event::OtherDisk { from, disk } => member.came_with(from, disk),
            _ => {}
        }
    }
}
