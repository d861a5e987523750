//! What an operator changes about the seats, as the Raft leader does it. Each step is one
//! that may be asked for again after it was broken off.
//!
//! A change of the voters is two entries: a joint configuration, in which the old voters and the
//! new ones each need a majority, then the new one alone. Whoever asked may go away between the
//! two, and so may the Raft leader: then whoever leads the log finishes it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;

use super::member::Member;
use super::options::MOST_VOTERS;
use super::replica::Applied;
use super::seats::{LOOK_EVERY, keep_disks, who};
use super::types::{RaftId, Seat, TypeConfig};
use super::wire::{Answer, Reply, SeatsAsk};
use crate::lease::StoreError;
use crate::peers::{DiskId, MemberId};
use crate::time::{pause, within};

/// For a change that was broken off to be finished, before the other duties go on.
const FINISHED_WITHIN: Duration = Duration::from_secs(1);

type Change = ChangeMembers<RaftId, Seat>;
type Written = ClientWriteResponse<TypeConfig>;
type Refused = RaftError<RaftId, ClientWriteError<RaftId, Seat>>;

/// Answers with the entry that made the change: it is in the log for good then, whoever leads
/// the log afterwards.
pub(super) async fn change(member: &Member, ask: SeatsAsk) -> Reply {
    match changed(member, ask).await {
        Ok(index) => Reply::Answer(Answer::Index(index)),
        Err(reply) => reply,
    }
}

async fn changed(member: &Member, ask: SeatsAsk) -> Result<u64, Reply> {
    member.confirmed().await?;
    let (SeatsAsk::Add(id) | SeatsAsk::Remove(id) | SeatsAsk::Replace(id)) = ask;
    tracing::info!(member = %id, ?ask, "a change of the members was asked for");
    let one_at_a_time = member.changing.lock().await;
    let finished = finished(member).await?;
    drop(one_at_a_time);
    if let Some(index) = finished.filter(|_| is_done(member, ask)) {
        return Ok(index);
    }
    match ask {
        SeatsAsk::Add(id) => add(member, id).await,
        SeatsAsk::Remove(id) => remove(member, id).await,
        SeatsAsk::Replace(id) => replace(member, id).await,
    }
}

/// Finishes what was broken off half way; only by who has `member.changing`, for between the two
/// entries every change looks like that.
async fn finished(member: &Member) -> Result<Option<u64>, Reply> {
    let metrics = member.raft.metrics();
    let newest = Arc::clone(&metrics.borrow().membership_config);
    let committed = member
        .replica
        .with(|applied| applied.membership.log_id() == newest.log_id());
    if !committed || newest.membership().get_joint_config().len() < 2 {
        return Ok(None);
    }
    tracing::info!(membership = %newest, "a change of the members that was broken off goes on");
    // Nobody more: so it becomes what it was to be. Who votes no more then has no seat.
    let nobody_more = Change::AddVoterIds(BTreeSet::new());
    let done = member.raft.change_membership(nobody_more, false);
    written(done).await.map(Some)
}

/// The same, unasked, by the Raft leader; tried again where it does not come to an end.
pub(super) async fn finish(member: &Member) {
    let Ok(_one_at_a_time) = member.changing.try_lock() else {
        return;
    };
    if let Some(Err(reply)) = within(FINISHED_WITHIN, finished(member)).await {
        tracing::debug!(?reply, "a change of the members is not finished yet");
    }
}

/// Whether nothing of it is left to do.
fn is_done(member: &Member, ask: SeatsAsk) -> bool {
    let applied = |applied: &Applied| Seated::of(applied.membership.membership());
    let seated = member.replica.with(applied);
    match ask {
        SeatsAsk::Add(id) => seated.voters.contains(&id),
        SeatsAsk::Remove(id) => !seated.has(id),
        SeatsAsk::Replace(id) => seated.voters.contains(&id) && connected(member, id),
    }
}

/// Who votes is changed by one at a time.
async fn voters(member: &Member, change: Change, retain: bool) -> Result<u64, Reply> {
    let _one_at_a_time = member.changing.lock().await;
    written(member.raft.change_membership(change, retain)).await
}

fn refused(why: String) -> Reply {
    Reply::Failed(StoreError::Rejected(why))
}

/// The entry that a change becomes, or what `openraft` says against it.
async fn written(change: impl Future<Output = Result<Written, Refused>>) -> Result<u64, Reply> {
    let done = change.await;
    done.map(|written| written.log_id.index).map_err(not_done)
}

fn not_done(error: Refused) -> Reply {
    match error {
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => refused(
            "another change of the members is under way: wait until it is over, and ask again"
                .to_owned(),
        ),
        error => Reply::Failed(StoreError::Indeterminate(error.to_string())),
    }
}

/// Who has the seats now.
struct Seated {
    voters: BTreeSet<MemberId>,
    learners: BTreeSet<MemberId>,
}

impl Seated {
    fn now(member: &Member) -> Self {
        let metrics = member.raft.metrics();
        Self::of(metrics.borrow().membership_config.membership())
    }

    fn of(membership: &openraft::Membership<RaftId, Seat>) -> Self {
        Self {
            voters: membership.voter_ids().map(|id| id.0).collect(),
            learners: membership.learner_ids().map(|id| id.0).collect(),
        }
    }

    fn has(&self, id: MemberId) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }
}

/// What stands against a member that nobody lists.
fn not_listed(member: &Member, id: MemberId) -> Option<Reply> {
    let members = &member.options.mesh.members;
    members.address(id).is_none().then(|| {
        refused(format!(
            "{id} is not in the list of members: restart all nodes with the same list, with \
             --peer {id}=HOST:PORT in it, then ask again"
        ))
    })
}

fn connected(member: &Member, id: MemberId) -> bool {
    let peers = member.mesh.peers();
    id == member.own() || peers.iter().any(|peer| peer.id == id && peer.connected)
}

async fn add(member: &Member, id: MemberId) -> Result<u64, Reply> {
    let seated = Seated::now(member);
    if let Some(reply) = not_listed(member, id) {
        return Err(reply);
    }
    if seated.voters.contains(&id) {
        return Err(refused(format!(
            "{id} votes already; where its disk was lost, ask for `replace`: the old disk's votes \
             must not be counted with the new one's"
        )));
    }
    if seated.voters.len() >= MOST_VOTERS {
        return Err(refused(format!(
            "{MOST_VOTERS} members vote already, and more are not taken: remove one first"
        )));
    }
    let Some(told) = who(member, id).await else {
        let why = match member.other_disk(id) {
            Some(_) => "comes with another disk than the one that has its seat: ask for `replace`",
            None => "is not connected: start it, wait until it is, and ask again",
        };
        return Err(refused(format!("{id} {why}")));
    };
    if told.witness {
        return Err(refused(format!(
            "{id} was started with --witness: restart it without, then ask again"
        )));
    }
    seat(member, id, told.disk).await
}

/// A vote for the member on this disk.
async fn seat(member: &Member, id: MemberId, disk: DiskId) -> Result<u64, Reply> {
    // Waits until it has the log: a voter that has nothing yet only makes majorities dearer.
    let learner = Seat { disk: Some(disk) };
    written(member.raft.add_learner(RaftId(id), learner, true)).await?;
    let voter = Change::AddVoterIds(BTreeSet::from([RaftId(id)]));
    voters(member, voter, true).await
}

async fn remove(member: &Member, id: MemberId) -> Result<u64, Reply> {
    let seated = Seated::now(member);
    let ids = BTreeSet::from([RaftId(id)]);
    if !seated.has(id) {
        return Err(refused(format!("{id} has no seat in this cluster")));
    }
    if seated.learners.contains(&id) {
        if who(member, id).await.is_some_and(|told| told.witness) {
            return Err(refused(format!(
                "{id} is a witness and connected, so that it would be seated again at once: stop \
                 it first"
            )));
        }
        let gone = Change::RemoveNodes(ids);
        return written(member.raft.change_membership(gone, false)).await;
    }
    let left: Vec<MemberId> = seated.voters.into_iter().filter(|it| *it != id).collect();
    if left.is_empty() {
        return Err(refused(format!(
            "{id} is the last voter: add another one first"
        )));
    }
    let reached = left.iter().filter(|it| connected(member, **it)).count();
    if reached <= left.len() / 2 {
        return Err(refused(format!(
            "without {id} only {reached} of {} voters would be reached, which is no majority: \
             bring one back first",
            left.len()
        )));
    }
    let gone = Change::RemoveVoters(ids);
    voters(member, gone, false).await
}

/// The old disk's seat goes first: never may both disks of one member vote.
async fn replace(member: &Member, id: MemberId) -> Result<u64, Reply> {
    if let Some(reply) = not_listed(member, id) {
        return Err(reply);
    }
    let seated = Seated::now(member);
    if seated.has(id) {
        if connected(member, id) {
            return Err(refused(format!(
                "{id} is connected with the disk that has its seat: there is nothing to replace"
            )));
        }
        if member.other_disk(id).is_none() {
            return Err(refused(format!(
                "{id} has not come with another disk in the last seconds: start it with an empty \
                 --state-dir, and ask again; where it is gone for good, ask for `remove`"
            )));
        }
        remove(member, id).await?;
    }
    // A broken off `replace` begins here when it is asked for again.
    let told = loop {
        keep_disks(member);
        if let Some(told) = who(member, id).await {
            break told;
        }
        pause(LOOK_EVERY).await;
    };
    if !told.witness {
        return seat(member, id, told.disk).await;
    }
    // Witnesses are seated without being asked.
    while !Seated::now(member).has(id) {
        pause(LOOK_EVERY).await;
    }
    let metrics = member.raft.metrics();
    let seated = *metrics.borrow().membership_config.log_id();
    Ok(seated.map_or(0, |entry| entry.index))
}
