//! Who has a seat, and with which disk: the cluster's beginning, and witnesses. What an
//! operator changes is in `seating`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::member::Member;
use super::options::MOST_VOTERS;
use super::seating;
use super::types::{RaftId, Seat};
use super::wire::{Told, Wire};
use crate::peers::MemberId;
use crate::time::pause;

pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
const TOLD_WITHIN: Duration = Duration::from_millis(500);
/// A log that grew by so much since the last snapshot is replaced by another one.
const SNAPSHOT_BYTES: u64 = 8 << 20;

pub(super) async fn who(member: &Member, id: MemberId) -> Option<Told> {
    let body = serde_json::to_value(Wire::Who).ok()?;
    let answer = member.mesh.call(id, body, TOLD_WITHIN).await.ok()?;
    serde_json::from_value(answer).ok()
}

/// Begins the cluster where that is asked for; then keeps the seats and the log in order.
pub(super) async fn look_after(member: Arc<Member>) {
    if member.options.bootstrap {
        begin(&member).await;
    }
    while member.ended().is_none() {
        keep_disks(&member);
        if member.is_raft_leader() {
            seating::finish(&member).await;
            seat_witnesses(&member).await;
        }
        if member.disk.grown() > SNAPSHOT_BYTES {
            let _ = member.raft.trigger().snapshot().await;
        }
        pause(LOOK_EVERY).await;
    }
}

/// All listed members must be there and blank. Any number of them may do this at once:
/// they all find the same.
async fn begin(member: &Member) {
    while member.ended().is_none() && member.disk.is_blank().unwrap_or(false) {
        let mut seats = BTreeMap::new();
        if !member.options.witness {
            let disk = Some(member.options.mesh.identity.disk.clone());
            seats.insert(RaftId(member.own()), Seat { disk });
        }
        let (mut all, mut none_at_work) = (true, true);
        for (id, _) in member.options.mesh.members.peers() {
            match who(member, id).await {
                Some(told) => {
                    none_at_work &= told.blank;
                    if !told.witness {
                        let disk = Some(told.disk);
                        seats.insert(RaftId(id), Seat { disk });
                    }
                }
                None => all = false,
            }
        }
        if !none_at_work {
            // It is begun, by another member just now or long ago: this disk waits until it
            // is given a seat.
            return;
        }
        if all && !seats.is_empty() {
            if seats.len() > MOST_VOTERS {
                tracing::error!(
                    voters = seats.len(),
                    "the cluster is not begun: at most {MOST_VOTERS} members vote; start the \
                     others with --witness"
                );
            } else if seats.contains_key(&RaftId(member.own()))
                && let Err(error) = member.raft.initialize(seats).await
            {
                tracing::info!(%error, "the cluster is begun by another member");
            }
        }
        pause(LOOK_EVERY).await;
    }
}

/// The way knows a peer by the disk that has its seat; a peer without a seat may come with
/// any.
pub(super) fn keep_disks(member: &Member) {
    let seats: BTreeMap<MemberId, Seat> = member.replica.with(|applied| {
        let nodes = applied.membership.nodes();
        nodes.map(|(id, seat)| (id.0, seat.clone())).collect()
    });
    if seats.is_empty() {
        return;
    }
    for peer in member.mesh.peers() {
        match seats.get(&peer.id) {
            Some(Seat { disk: Some(disk) }) if peer.disk.as_ref() != Some(disk) => {
                member.mesh.accept_disk(peer.id, disk.clone());
            }
            None if !peer.connected && peer.disk.is_some() => member.mesh.forget_disk(peer.id),
            _ => {}
        }
    }
}

/// Witnesses need nobody's leave: they have no vote.
async fn seat_witnesses(member: &Member) {
    let seated: BTreeSet<MemberId> = member.replica.with(|applied| {
        let nodes = applied.membership.nodes();
        nodes.map(|(id, _)| id.0).collect()
    });
    for peer in member.mesh.peers() {
        if !peer.connected || seated.contains(&peer.id) {
            continue;
        }
        let Some(told) = who(member, peer.id).await.filter(|told| told.witness) else {
            continue;
        };
        let seat = Seat {
            disk: Some(told.disk),
        };
        if let Err(error) = member.raft.add_learner(RaftId(peer.id), seat, false).await {
            tracing::warn!(peer = %peer.id, %error, "a witness is not seated");
        }
    }
}
