//! The mesh's events to the elections, and which disks may speak for the others.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Shared;
use super::message::Said;
use crate::lease::ElectionName;
use crate::peers::{DiskId, Event, MemberId};
use crate::quorum::{Envelope, Input, Message};
use crate::time::Moment;

/// Between two lines about what cannot be taken.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Says a thing at most once in a while.
#[derive(Default)]
struct Seldom(Option<Moment>);

impl Seldom {
    fn due(&mut self, now: Moment) -> bool {
        let due = self.0.is_none_or(|last| now >= last + LOG_EVERY);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

#[derive(Default)]
struct Told {
    malformed: Seldom,
    drift: Seldom,
    crowd: Seldom,
    usurper: Seldom,
}

pub(super) async fn run(shared: Arc<Shared>, mut events: mpsc::Receiver<Event>) {
    let mut told = Told::default();
    while let Some(event) = events.recv().await {
        match event {
            Event::Message { from, body, .. } => deliver(&shared, from, &body, &mut told),
            // No member of these asks that way.
            Event::Request { .. } => {}
            Event::Suspected(member) => to_all(&shared, &Input::Suspected(member)),
            Event::Recovered(member) => to_all(&shared, &Input::Recovered(member)),
            Event::OtherDisk { from, disk } => another_disk(&shared, from, &disk),
        }
    }
}

fn deliver(shared: &Arc<Shared>, from: MemberId, body: &Value, told: &mut Told) {
    let now = shared.clock.now();
    let said = match Said::deserialize(body) {
        Ok(said) => said,
        Err(error) => {
            if told.malformed.due(now) {
                tracing::warn!(peer = %from, %error, "a peer said what this version does not know");
            }
            return;
        }
    };
    let own = shared.settings.drift.ppm();
    if said.drift_ppm != own {
        if told.drift.due(now) {
            tracing::error!(
                peer = %from, theirs_ppm = said.drift_ppm, ours_ppm = own,
                "a member assumes another bound of clocks, so its votes do not count here: start \
                 all members with the same --drift"
            );
        }
        return;
    }
    notice_usurped(shared, &said.election, &said.said, now, told);
    let Some(door) = shared.door(&said.election, true) else {
        if told.crowd.due(now) {
            tracing::warn!(peer = %from, election = %said.election,
                "there are too many elections to take part in this one, too");
        }
        return;
    };
    let envelope = said.said;
    door.put(Input::Message { from, envelope });
}

/// The others count another disk of this member, and this one does not come in for it.
fn notice_usurped(
    shared: &Shared,
    election: &ElectionName,
    envelope: &Envelope,
    now: Moment,
    told: &mut Told,
) {
    let settings = &shared.settings;
    let current = envelope.disks.current(settings.own);
    let another = current.is_some_and(|current| *current != settings.disk);
    if envelope.message == Message::Replaced && another && told.usurper.due(now) {
        tracing::error!(
            %election, disk = %settings.disk.short(),
            "the others know this member by another disk, so it has no vote: bring that disk back, \
             or empty --state-dir and start without --bootstrap, to come in for it"
        );
    }
}

fn to_all(shared: &Shared, input: &Input) {
    for member in shared.elections().iter().flatten() {
        member.1.door.put(input.clone());
    }
}

/// A disk that was not known. That it may speak gives it no vote: the core of each election
/// decides that. What was replaced once does not come back.
fn another_disk(shared: &Shared, from: MemberId, disk: &DiskId) {
    if retired(shared, from, disk) {
        tracing::warn!(peer = %from, disk = %disk.short(), "a disk came back that was replaced");
        return;
    }
    tracing::warn!(peer = %from, disk = %disk.short(), "a peer comes with another disk");
    shared.mesh.accept_disk(from, disk.clone());
}

fn retired(shared: &Shared, member: MemberId, disk: &DiskId) -> bool {
    let rosters = shared.rosters();
    rosters.values().any(|roster| roster.retired(member, disk))
}

/// What the records tell of the others' disks, before any of them speaks.
pub(super) fn know_disks(shared: &Shared) {
    let own = shared.settings.own;
    let bound: Vec<(MemberId, DiskId)> = {
        let rosters = shared.rosters();
        let all = rosters.values().flat_map(|roster| roster.bound());
        all.map(|(member, disk)| (member, disk.clone())).collect()
    };
    for (member, disk) in bound {
        if member != own && !retired(shared, member, &disk) {
            shared.mesh.accept_disk(member, disk);
        }
    }
}
