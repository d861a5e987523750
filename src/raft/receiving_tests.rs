//! A member that is killed while it installs a snapshot.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::{RaftLogStorage as _, RaftStateMachine as _};
use openraft::testing::blank_ent;

use super::disk::Disk;
use super::log::Log;
use super::replica::Replica;
use super::three::{BOUND, Three};
use super::types::{LogId, RaftId, SnapshotMeta, TypeConfig, Vote};
use super::{RaftNode, RaftOptions, Records};
use crate::lease::Drift;
use crate::time::{BootClock, within};

fn at(index: u64) -> LogId {
    blank_ent::<TypeConfig>(2, RaftId::from(1), index).log_id
}

/// A voter whose log ends at 50, all of it committed, as it is sent the entries up to 90.
struct Behind {
    options: RaftOptions,
    log: Log,
    replica: Replica,
}

impl Behind {
    async fn new(three: &Three) -> Self {
        let options = three.options(0);
        let disk = Disk::open(&options.state_dir, &options.mesh.identity).unwrap();
        let entries: Vec<_> = (0..=50)
            .map(|index| blank_ent::<TypeConfig>(2, RaftId::from(1), index))
            .collect();
        disk.append(&entries).unwrap();
        disk.set_committed(Some(at(50))).unwrap();
        // With which the hint goes to disk, too.
        disk.set_vote(&Vote::new(2, RaftId::from(1))).unwrap();
        let clock = Arc::new(BootClock);
        let mut replica = Replica::open(disk.clone(), clock, Drift::ONE_PERCENT).unwrap();
        replica.begin_receiving_snapshot().await.unwrap();
        let own = RaftId(options.own());
        Self {
            options,
            log: Log { disk, own },
            replica,
        }
    }

    fn meta() -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: Some(at(90)),
            ..SnapshotMeta::default()
        }
    }

    fn held(&self) -> (Option<u64>, usize) {
        let purged = self.log.disk.purged().unwrap();
        let entries = self.log.disk.entries(..).unwrap();
        (purged.map(|log| log.index), entries.len())
    }

    /// As a killed process leaves it, and started again: up to which entry it is then.
    async fn killed(self) -> u64 {
        let file = self.options.state_dir.join("raft.redb");
        let left = self.options.state_dir.join("left");
        fs::copy(&file, &left).unwrap();
        let Self { options, .. } = self;
        fs::rename(left, file).unwrap();
        let node = RaftNode::start(options, Arc::new(BootClock)).await;
        let node = node.unwrap();
        let applied = node.member.replica.with(|it| it.last.map(|log| log.index));
        node.stop().await;
        applied.unwrap()
    }
}

/// Other writes go to disk meanwhile: what was not written by then waits for something else.
async fn many_writes(behind: &Behind) {
    let mut log = behind.log.clone();
    for term in 0..50 {
        let vote = Vote::new(3 + term, RaftId::from(1));
        log.save_vote(&vote).await.unwrap();
    }
}

#[tokio::test]
async fn the_entries_stay_until_the_snapshot_that_replaces_them_is_on_disk() {
    let three = Three::new();
    let behind = Behind::new(&three).await;
    let mut log = behind.log.clone();
    tokio::select! {
        purged = log.purge(at(90)) => panic!("{purged:?} without a snapshot"),
        () = many_writes(&behind) => {}
    }
    assert_eq!(behind.held(), (None, 51));
    assert_eq!(behind.killed().await, 50);
}

#[tokio::test]
async fn they_go_once_it_is_there() {
    let three = Three::new();
    let behind = Behind::new(&three).await;
    let (mut log, mut replica) = (behind.log.clone(), behind.replica.clone());
    let purge = tokio::spawn(async move { log.purge(at(90)).await });
    many_writes(&behind).await;
    let records = serde_json::to_vec(&Records::default()).unwrap();
    let snapshot = Box::new(Cursor::new(records));
    let meta = Behind::meta();
    replica.install_snapshot(&meta, snapshot).await.unwrap();
    within(BOUND, purge).await.unwrap().unwrap().unwrap();
    drop(replica);
    assert_eq!(behind.held(), (Some(90), 0));
    assert_eq!(behind.killed().await, 90);
}

#[tokio::test]
async fn they_stay_where_it_is_not_installed_and_nobody_waits_for_ever() {
    let three = Three::new();
    let behind = Behind::new(&three).await;
    let (mut log, mut replica) = (behind.log.clone(), behind.replica.clone());
    let purge = tokio::spawn(async move { log.purge(at(90)).await });
    let damaged = Box::new(Cursor::new(b"{".to_vec()));
    let meta = Behind::meta();
    replica.install_snapshot(&meta, damaged).await.unwrap_err();
    let refused = within(BOUND, purge).await.unwrap().unwrap().unwrap_err();
    assert!(refused.to_string().contains("not installed"), "{refused}");
    drop(replica);
    assert_eq!(behind.held(), (None, 51));
    assert_eq!(behind.killed().await, 50);
}

#[tokio::test]
async fn a_log_whose_beginning_no_snapshot_holds_is_refused() {
    let three = Three::new();
    let behind = Behind::new(&three).await;
    behind.log.disk.purge(at(20)).unwrap();
    let options = behind.options.clone();
    drop(behind);
    let error = Disk::open(&options.state_dir, &options.mesh.identity);
    let said = error.err().unwrap().to_string();
    assert!(said.contains("up to 20 are gone"), "{said}");
}
