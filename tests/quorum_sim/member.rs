//! A process on a machine: the core, its disk, and its sidecar.

use tenure::peers::{DiskId, MemberId};
use tenure::quorum::{QuorumLease, Record};

use crate::client::Client;
use crate::clock::{SimClock, TrueNs};

/// A disk and what is on it; `None`: nothing yet.
#[derive(Clone)]
pub struct Disk {
    pub id: DiskId,
    pub record: Option<Record>,
    /// It came into a cluster that was there already.
    pub blank: bool,
}

pub struct Running {
    pub core: QuorumLease,
    pub client: Client,
    /// When the next wake-up of each is on the queue.
    pub core_wake: TrueNs,
    pub client_wake: TrueNs,
}

pub struct Member {
    pub id: MemberId,
    pub clock: SimClock,
    /// Every disk it ever had; `mounted` is in use.
    pub disks: Vec<Disk>,
    pub mounted: usize,
    pub life: u64,
    pub running: Option<Running>,
    pub paused_until: TrueNs,
    pub cut_in_until: TrueNs,
    pub cut_out_until: TrueNs,
    /// In a partition, on which side.
    pub side: bool,
}

impl Member {
    pub fn disk(&mut self) -> &mut Disk {
        &mut self.disks[self.mounted]
    }

    /// The newest disk is in use, and has its vote.
    pub fn intact(&self) -> bool {
        let joined = |record: &Record| !record.joining;
        let newest = self.mounted + 1 == self.disks.len();
        let disk = &self.disks[self.mounted];
        newest && (!disk.blank || disk.record.as_ref().is_some_and(joined))
    }
}
