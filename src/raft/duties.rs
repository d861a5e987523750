//! What a member does unasked while its Raft is at work: it stands for election, and ends leases
//! that are over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::select;

use super::member::Member;
use super::types::RaftId;
use super::wire::Wire;
use crate::peers::MemberId;
use crate::time::{pause, within};

/// For one proposal to be committed.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// Raft without a pre-vote lets a member that was cut off come back with a higher term and
/// unseat a leader that works. So here a member stands only while a majority says that it
/// would vote for it: that it hears no leader, and has no longer log (D. Ongaro,
/// *Consensus: Bridging Theory and Practice*, 2014, §9.6).
pub(super) async fn stand_when_a_majority_would_vote(member: Arc<Member>) {
    let times = member.options.times();
    let every = Duration::from_millis((times.election_min / 3).max(times.heartbeat));
    let patience = Duration::from_millis(times.election_min);
    while member.ended().is_none() {
        let leads = member.is_raft_leader();
        let stands = !leads && member.silence() > patience && majority_would(&member, every).await;
        member.raft.runtime_config().elect(stands);
        pause(every).await;
    }
}

async fn majority_would(member: &Member, limit: Duration) -> bool {
    let metrics = member.raft.metrics();
    let membership = metrics.borrow().membership_config.membership().clone();
    let voters: Vec<_> = membership.voter_ids().map(|id| id.0).collect();
    if !voters.contains(&member.own()) {
        return false;
    }
    let Ok(last) = member.last_log() else {
        return false;
    };
    let others = voters.iter().filter(|id| **id != member.own());
    let ask = |id: &MemberId| {
        let disk = membership.get_node(&RaftId(*id))?.disk.clone();
        let body = serde_json::to_value(Wire::Ping { disk, last }).ok()?;
        Some(member.mesh.call(*id, body, limit))
    };
    let mut answers: FuturesUnordered<_> = others.filter_map(ask).collect();
    let needed = voters.len() / 2 + 1;
    let mut willing = 1;
    while willing < needed {
        match answers.next().await {
            Some(Ok(answer)) => willing += usize::from(answer == true),
            Some(Err(_)) => {}
            None => return false,
        }
    }
    true
}

/// The Raft leader proposes the end of each lease and hold that is over by its own stamps.
pub(super) async fn end_what_is_over(member: Arc<Member>) {
    let mut metrics = member.raft.server_metrics();
    let mut changes = member.replica.changes();
    // Without that look it would spin: metrics that are over have always just changed.
    while member.ended().is_none() {
        let now = member.clock.now();
        let (over, wake_at) = member
            .replica
            .with(|applied| (applied.stamps.over(now), applied.stamps.wake_at()));
        if !over.is_empty() && member.is_raft_leader() {
            let proposed = over.into_iter().map(|request| member.propose(request));
            within(ENDED_WITHIN, join_all(proposed)).await;
            continue;
        }
        let left = wake_at
            .filter(|_| over.is_empty())
            .map_or(ENDED_WITHIN, |moment| moment.since(now));
        select! {
            _ = changes.changed() => {}
            _ = metrics.changed() => {}
            () = pause(left.min(ENDED_WITHIN)) => {}
        }
    }
}

/// A member whose Raft has ended looks well to its peers and its sidecar. So it is said aloud.
pub(super) async fn tell_of_the_end(member: Arc<Member>) {
    let why = member.until_ended().await;
    tracing::error!("{why}");
}
