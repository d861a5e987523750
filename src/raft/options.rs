//! How a Raft member works.

use std::path::PathBuf;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::lease::Drift;
use crate::peers::{MemberId, MeshOptions};

/// The most members that vote: each write waits for more than half of them.
pub const MOST_VOTERS: usize = 7;

/// Entries between two snapshots, where the log does not grow too long before.
const SNAPSHOT_EVERY: u64 = 2000;
/// Entries that are kept though a snapshot has replaced them, for those who lag a little.
const KEPT_ENTRIES: u64 = 200;
/// A member that lags by more is sent the snapshot.
const LAG: u64 = 2 * SNAPSHOT_EVERY;
/// A snapshot goes in pieces; each byte of one is up to four in a frame.
const PIECE_BYTES: u64 = 128 << 10;
/// For one piece to be sent and stored.
const PIECE_WITHIN_MS: u64 = 2000;

/// How a Raft member works.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// Who the members are, and the way to them.
    pub mesh: MeshOptions,
    /// The directory of this member's own.
    pub state_dir: PathBuf,
    /// This member follows and has no vote.
    pub witness: bool,
    /// The cluster is new: where all members are blank, it is begun.
    pub bootstrap: bool,
    /// How long an election may take. Raft's own timeouts are parts of it: see
    /// [`RaftTimes`].
    pub election_timeout: Duration,
    /// By how much the rates of two clocks may be off.
    pub drift: Drift,
}

/// Raft's timeouts, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTimes {
    /// From one sign of the Raft leader to the next.
    pub heartbeat: u64,
    /// The shortest time after which a member stands for election.
    pub election_min: u64,
    /// The longest. For as long, nobody votes against a leader that was heard.
    pub election_max: u64,
}

impl RaftTimes {
    /// A twentieth to a tenth of the time that an election may take, so that several
    /// tries fit in: 150 to 300 ms of 3 s. The Raft leader gives a sign four times in the
    /// shortest, and at least every `heartbeat`.
    #[must_use]
    pub fn of(election_timeout: Duration, heartbeat: Duration) -> Self {
        let whole = crate::time::millis(election_timeout);
        let election_min = (whole / 20).max(20);
        Self {
            heartbeat: (election_min / 4)
                .min(crate::time::millis(heartbeat))
                .max(1),
            election_min,
            election_max: (whole / 10).max(2 * election_min),
        }
    }
}

impl RaftOptions {
    /// This member.
    #[must_use]
    pub fn own(&self) -> MemberId {
        self.mesh.identity.member
    }

    /// Raft's timeouts.
    #[must_use]
    pub fn times(&self) -> RaftTimes {
        RaftTimes::of(self.election_timeout, self.mesh.heartbeat)
    }

    /// What it must not forget.
    pub(super) fn file(&self) -> PathBuf {
        self.state_dir.join("raft.redb")
    }

    pub(super) fn config(&self) -> Config {
        let times = self.times();
        Config {
            cluster_name: self.mesh.identity.cluster.clone(),
            heartbeat_interval: times.heartbeat,
            election_timeout_min: times.election_min,
            election_timeout_max: times.election_max,
            install_snapshot_timeout: PIECE_WITHIN_MS,
            snapshot_max_chunk_size: PIECE_BYTES,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
            max_in_snapshot_log_to_keep: KEPT_ENTRIES,
            replication_lag_threshold: LAG,
            max_payload_entries: 64,
            // Let on by the pre-vote alone.
            enable_elect: false,
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_tries_fit_into_the_time_of_an_election() {
        let of = |ms, beat| RaftTimes::of(Duration::from_millis(ms), Duration::from_millis(beat));
        let usual = RaftTimes {
            heartbeat: 37,
            election_min: 150,
            election_max: 300,
        };
        assert_eq!(of(3000, 1000), usual);
        assert_eq!(of(5000, 20).heartbeat, 20);
        let least = of(0, 0);
        assert!(least.heartbeat < least.election_min && least.election_min < least.election_max);
    }
}
