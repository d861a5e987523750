//! The body of `/status`, computed anew for each answer.

use serde::Serialize;

use super::Shared;
use crate::lease::{Epoch, NodeId};
use crate::machine::{AppHealth, Snapshot, State};
use crate::sidecar::{Election, Entry};
use crate::time::{Moment, UnixMs, millis};

/// What `/status` says.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    election: String,
    id: NodeId,
    /// The state, true as of `time`.
    pub state: State,
    /// Whether this node leads, as of `time`.
    pub is_leader: bool,
    /// Who leads, where known.
    pub leader: Option<Leader>,
    /// The token to write with, while leading.
    pub fence_token: Option<Epoch>,
    term: Option<Epoch>,
    lease: Lease,
    backend: Backend,
    health: Option<AppHealth>,
    child: Option<crate::child::Status>,
    timing: Timing,
    boot_id: String,
    /// Rises by one with every event.
    pub revision: u64,
    version: &'static str,
    time: String,
}

/// The leader, as `/status` names it.
#[derive(Clone, Debug, Serialize)]
pub struct Leader {
    /// Its label.
    pub id: NodeId,
    /// Where clients reach its app.
    pub url: Option<String>,
    since: Option<String>,
    /// The tenure's number.
    pub epoch: Epoch,
}

#[derive(Clone, Debug, Serialize)]
struct Lease {
    ttl_ms: u64,
    remaining_ms: Option<u64>,
    expires_at: Option<String>,
    renewed_at: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Backend {
    kind: &'static str,
    address: String,
    connected: bool,
    last_success_at: Option<String>,
    trouble: Option<String>,
    hold: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
struct Timing {
    ttl_ms: u64,
    renew_every_ms: u64,
    worst_case_failover_ms: u64,
}

/// One reading of both clocks, to tell moments as wall-clock times.
#[derive(Clone, Copy)]
struct Reading {
    now: Moment,
    wall: UnixMs,
}

impl Reading {
    /// The wall clock as it is now beside a moment that was just read.
    fn at(election: &Election, now: Moment) -> Self {
        Self {
            now,
            wall: election.clock().wall(),
        }
    }

    fn text(self, moment: Moment) -> String {
        let ahead = moment.since(self.now);
        let behind = self.now.since(moment);
        self.wall.after(ahead).before(behind).to_string()
    }
}

/// The leader that a snapshot knows of: this node or another.
pub fn leader(election: &Election, snapshot: &Snapshot) -> Option<Leader> {
    let reading = Reading::at(election, election.clock().now());
    leader_at(election, snapshot, reading)
}

fn leader_at(election: &Election, snapshot: &Snapshot, reading: Reading) -> Option<Leader> {
    if let Some(epoch) = snapshot.fence_token(reading.now) {
        let profile = election.profile();
        let counted = || {
            snapshot
                .tenure
                .map(|tenure| reading.text(tenure.acquired_at))
        };
        let won_at = election.won_at(epoch).map(|at| at.to_string());
        let since = won_at.or_else(counted);
        return Some(Leader {
            id: profile.node.clone(),
            url: profile.url.clone(),
            since,
            epoch,
        });
    }
    let holder = &snapshot.leader.as_ref()?.holder;
    Some(Leader {
        id: holder.profile.node.clone(),
        url: holder.profile.url.clone(),
        since: (holder.since.0 > 0).then(|| holder.since.to_string()),
        epoch: holder.epoch,
    })
}

impl Status {
    /// The status of an election now.
    #[must_use]
    pub(super) fn now(shared: &Shared, election: &Election) -> Self {
        let (snapshot, now) = election.now();
        Self::of(shared, election, &snapshot, Reading::at(election, now))
    }

    /// The status at the moment of an event, however long ago that is. It is computed
    /// from what was noted then; only wall-clock times that are counted from other
    /// moments (`expires_at` and the like) take the wall clock of the event for theirs.
    #[must_use]
    pub(super) fn of_event(shared: &Shared, election: &Election, entry: &Entry) -> Self {
        let reading = Reading {
            now: entry.moment,
            wall: entry.at,
        };
        Self::of(shared, election, &entry.after, reading)
    }

    /// What `/events` calls the event that led here: `<boot_id>:<revision>`.
    #[must_use]
    pub fn event_id(&self) -> String {
        format!("{}:{}", self.boot_id, self.revision)
    }

    /// `snapshot` must be settled as of the reading.
    fn of(shared: &Shared, election: &Election, snapshot: &Snapshot, reading: Reading) -> Self {
        let fence_token = snapshot.fence_token(reading.now);
        let timing = election.timing();
        Self {
            election: election.name().to_string(),
            id: election.profile().node.clone(),
            state: snapshot.state(),
            is_leader: fence_token.is_some(),
            leader: leader_at(election, snapshot, reading),
            fence_token,
            term: snapshot.term,
            lease: lease(election, snapshot, reading),
            backend: Backend {
                kind: shared.guarantees.kind,
                address: shared.store_address.clone(),
                connected: snapshot.store.connected,
                last_success_at: snapshot.store.last_success.map(|at| reading.text(at)),
                trouble: snapshot.store.trouble.clone(),
                hold: snapshot.hold.map(crate::lease::HoldReason::as_str),
            },
            health: snapshot.health,
            child: shared.child.as_ref().map(|report| report.status()),
            timing: Timing {
                ttl_ms: millis(timing.ttl()),
                renew_every_ms: millis(timing.renew_every()),
                worst_case_failover_ms: millis(shared.worst_case_failover(election)),
            },
            boot_id: shared.boot_id.to_string(),
            revision: snapshot.revision,
            version: env!("CARGO_PKG_VERSION"),
            time: reading.wall.to_string(),
        }
    }
}

fn lease(election: &Election, snapshot: &Snapshot, reading: Reading) -> Lease {
    let leading = snapshot.is_leader(reading.now);
    let until = match (&snapshot.tenure, &snapshot.leader) {
        (Some(tenure), _) if leading => Some(tenure.leads_until),
        (Some(tenure), _) => Some(tenure.ends_at),
        (None, Some(leader)) => Some(leader.free_at),
        (None, None) => None,
    };
    let renewed = snapshot
        .tenure
        .map(|tenure| reading.text(tenure.renewed_at));
    Lease {
        ttl_ms: millis(election.timing().ttl()),
        remaining_ms: until.map(|until| millis(until.since(reading.now))),
        expires_at: until.map(|until| reading.text(until)),
        renewed_at: renewed,
    }
}
