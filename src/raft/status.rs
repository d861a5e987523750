//! How a member sees its cluster, without asking anybody.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ServerState;

use super::member::Member;
use super::types::RaftId;
use crate::cluster::{ClusterStatus, LogStatus, Role, SeatStatus};
use crate::peers::{MemberId, PeerStatus};

type Metrics = openraft::RaftMetrics<RaftId, super::types::Seat>;

impl Member {
    pub fn status(&self) -> ClusterStatus {
        let metrics = self.raft.metrics().borrow().clone();
        let peers = self.mesh.peers();
        let listed = self.options.mesh.members.ids();
        let membership = metrics.membership_config.membership();
        let seated = membership.nodes().map(|(id, _)| id.0);
        let all: BTreeSet<MemberId> = listed.chain(seated).collect();
        let seat = |id: MemberId| self.seat_status(&metrics, &peers, id);
        let leader = metrics.current_leader.filter(|_| self.ended().is_none());
        ClusterStatus {
            kind: "raft",
            member: self.own().to_string(),
            raft_leader: leader.map(|leader| leader.to_string()),
            has_quorum: self.has_quorum(&metrics, &peers),
            members: all.into_iter().map(seat).collect(),
            log: self.log_status(&metrics),
        }
    }

    /// The Raft leader knows who answers it. The others only know that they hear it, and
    /// whom they reach: a Raft leader without a majority is heard, too.
    fn has_quorum(&self, metrics: &Metrics, peers: &[PeerStatus]) -> bool {
        if self.ended().is_some() {
            return false;
        }
        let recent = self.options.times().election_max;
        if metrics.state == ServerState::Leader {
            let since = metrics.millis_since_quorum_ack;
            return since.is_some_and(|millis| millis <= recent);
        }
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<MemberId> = membership.voter_ids().map(|id| id.0).collect();
        let there = |id: &&MemberId| **id == self.own() || is_connected(peers, **id);
        let reached = voters.iter().filter(there).count();
        self.silence() <= Duration::from_millis(recent) && reached > voters.len() / 2
    }

    fn log_status(&self, metrics: &Metrics) -> LogStatus {
        let lag = |id: MemberId| (id.to_string(), lag_entries(metrics, id).unwrap_or(0));
        let peers = self.options.mesh.members.peers();
        LogStatus {
            term: metrics.current_term,
            last: metrics.last_log_index.unwrap_or(0),
            committed: self.disk.known_committed(),
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            lag_entries: peers.map(|(id, _)| lag(id)).collect(),
        }
    }

    fn seat_status(&self, metrics: &Metrics, peers: &[PeerStatus], id: MemberId) -> SeatStatus {
        let membership = metrics.membership_config.membership();
        let seat = membership.get_node(&RaftId(id));
        let role = match seat {
            None => Role::None,
            Some(_) if membership.voter_ids().any(|voter| voter.0 == id) => Role::Voter,
            Some(_) => Role::Learner,
        };
        let own = id == self.own();
        SeatStatus {
            id: id.to_string(),
            role,
            connected: own || is_connected(peers, id),
            disk: seat.and_then(|seat| Some(seat.disk.as_ref()?.short())),
            other_disk: self.other_disk(id).map(|disk| disk.short()),
            lag_entries: lag_entries(metrics, id).filter(|_| !own),
        }
    }
}

/// `None` where this member is not the Raft leader.
fn lag_entries(metrics: &Metrics, id: MemberId) -> Option<u64> {
    let matched = metrics.replication.as_ref()?.get(&RaftId(id))?;
    let last = metrics.last_log_index.unwrap_or(0);
    Some(last.saturating_sub(matched.map_or(0, |matched| matched.index)))
}

fn is_connected(peers: &[PeerStatus], id: MemberId) -> bool {
    peers.iter().any(|peer| peer.id == id && peer.connected)
}
