//! The file against `openraft`'s own suite for storage, and against damage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use openraft::storage::RaftLogStorage as _;
use openraft::testing::{StoreBuilder, Suite, blank_ent};
use tempfile::TempDir;

use super::RaftNode;
use super::disk::Disk;
use super::log::Log;
use super::replica::Replica;
use super::types::{RaftId, SnapshotMeta, StorageError, TypeConfig, Vote};
use crate::lease::Drift;
use crate::peers::{Identity, Missing};
use crate::time::BootClock;

/// The suite numbers its members.
impl From<u64> for RaftId {
    fn from(number: u64) -> Self {
        match number {
            0 => Self::default(),
            number => Self(number.to_string().parse().unwrap()),
        }
    }
}

fn open(dir: &Path) -> Result<Disk, super::DiskError> {
    let member = "a".parse().unwrap();
    let identity = Identity::open(dir, "orders", member, Missing::Create).unwrap();
    Disk::open(dir, &identity)
}

struct InADirectory;

impl StoreBuilder<TypeConfig, Log, Replica, TempDir> for InADirectory {
    async fn build(&self) -> Result<(TempDir, Log, Replica), StorageError> {
        let home = TempDir::new().unwrap();
        let disk = open(home.path()).unwrap();
        let clock = Arc::new(BootClock);
        let replica = Replica::open(disk.clone(), clock, Drift::ONE_PERCENT).unwrap();
        let own = RaftId::from(7);
        Ok((home, Log { disk, own }, replica))
    }
}

#[test]
fn the_suite_of_openraft_is_content() {
    Suite::test_all(InADirectory).unwrap();
}

/// A file as `kill -9` leaves it: with a vote, a log and a snapshot.
fn written(dir: &Path) -> (Vote, Vec<u64>) {
    let disk = open(dir).unwrap();
    let vote = Vote::new(3, RaftId::from(1));
    let entries: Vec<_> = (0..40)
        .map(|index| blank_ent::<TypeConfig>(2, RaftId::from(1), index))
        .collect();
    disk.append(&entries).unwrap();
    disk.set_vote(&Vote::new(2, RaftId::from(1))).unwrap();
    let replaced = SnapshotMeta {
        last_log_id: Some(entries[9].log_id),
        ..SnapshotMeta::default()
    };
    disk.set_snapshot(&replaced, b"{}").unwrap();
    disk.purge(entries[9].log_id).unwrap();
    disk.truncate(30).unwrap();
    disk.set_vote(&vote).unwrap();
    // Not closed: a copy is what a killed process leaves.
    let copy = dir.join("copy");
    fs::copy(dir.join("raft.redb"), &copy).unwrap();
    drop(disk);
    fs::rename(copy, dir.join("raft.redb")).unwrap();
    (vote, (10..30).collect())
}

fn indexes(disk: &Disk) -> Vec<u64> {
    let entries = disk.entries(..).unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let home = TempDir::new().unwrap();
    assert!(open(home.path()).unwrap().is_blank().unwrap());
    let (vote, log) = written(home.path());
    let disk = open(home.path()).unwrap();
    assert_eq!(disk.vote().unwrap(), Some(vote));
    assert_eq!(indexes(&disk), log);
    assert_eq!(disk.purged().unwrap().unwrap().index, 9);
    assert!(!disk.is_blank().unwrap());
}

#[test]
fn a_lost_file_or_anothers_is_no_blank_disk() {
    let home = TempDir::new().unwrap();
    written(home.path());
    let other = TempDir::new().unwrap();
    open(other.path()).unwrap();
    fs::copy(
        other.path().join("raft.redb"),
        home.path().join("raft.redb"),
    )
    .unwrap();
    let mixed = open(home.path()).err().unwrap().to_string();
    assert!(mixed.contains("mixed up"), "{mixed}");
    fs::remove_file(home.path().join("raft.redb")).unwrap();
    let missing = open(home.path()).err().unwrap().to_string();
    assert!(missing.contains("missing"), "{missing}");
    assert!(!home.path().join("raft.redb").exists());
}

#[test]
fn a_first_start_that_was_broken_off_begins_again_and_a_later_one_does_not() {
    let home = TempDir::new().unwrap();
    let dir = home.path();
    let identity = || RaftNode::identity(dir, "orders", "a".parse().unwrap()).unwrap();
    let open = |identity: &Identity| Disk::open(dir, identity).map(drop);
    // Killed after peer.json was there; then in the middle of raft.redb.
    let first = identity();
    assert_eq!(first.incarnation, 1);
    fs::write(dir.join("raft.redb"), b"half").unwrap();
    let second = identity();
    assert_eq!((second.incarnation, &second.disk), (2, &first.disk));
    open(&second).unwrap();
    // From now on it may have voted.
    let file = fs::read(dir.join("raft.redb")).unwrap();
    for damage in [None, Some(&file[..1000])] {
        fs::remove_file(dir.join("raft.redb")).unwrap();
        if let Some(bytes) = damage {
            fs::write(dir.join("raft.redb"), bytes).unwrap();
        }
        let said = open(&identity()).unwrap_err().to_string();
        assert!(said.contains("raft.redb"), "{said}");
        fs::write(dir.join("raft.redb"), &file).unwrap();
    }
    open(&identity()).unwrap();
    // Nor does a lost peer.json make the disk a new one.
    fs::remove_file(dir.join("peer.json")).unwrap();
    let said = open(&identity()).unwrap_err().to_string();
    assert!(said.contains("mixed up"), "{said}");
}

/// The bytes of the file's head that no checksum covers, with the bit that says which of the two
/// newest commits counts.
const UNCHECKED_BYTES: usize = 64;
/// Those and the two commits.
const HEAD_BYTES: usize = UNCHECKED_BYTES + 2 * 128;

fn flipped(good: &[u8], bit: usize) -> (Vec<u8>, String) {
    let mut bytes = good.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    (bytes, format!("byte {}, bit {}", bit / 8, bit % 8))
}

#[test]
fn no_damage_passes_for_an_older_state() {
    let home = TempDir::new().unwrap();
    let (vote, log) = written(home.path());
    let path = home.path().join("raft.redb");
    let good = fs::read(&path).unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut damaged: Vec<_> = (0..8 * UNCHECKED_BYTES)
        .map(|bit| flipped(&good, bit))
        .collect();
    for round in 0..240 {
        damaged.push(match round % 4 {
            0 => {
                let length = random.usize(..good.len());
                (good[..length].to_vec(), format!("cut to {length}"))
            }
            2 => flipped(&good, random.usize(..8 * HEAD_BYTES)),
            _ => flipped(&good, random.usize(..8 * good.len())),
        });
    }
    let mut refused = 0;
    for (bytes, what) in damaged {
        fs::write(&path, &bytes).unwrap();
        match open(home.path()) {
            Ok(disk) => {
                // In a byte that nothing is kept in, or that is kept twice.
                assert_eq!(disk.vote().unwrap(), Some(vote), "{what}, seed {seed}");
                assert_eq!(indexes(&disk), log, "{what}, seed {seed}");
            }
            Err(error) => {
                refused += 1;
                let said = error.to_string();
                assert!(said.contains("raft.redb"), "{said}");
                // Whoever restores it finds what there was.
                assert!(fs::read(&path).unwrap() == bytes, "{what} was written to");
            }
        }
    }
    assert!(refused > 60, "only {refused} refused");
}

#[tokio::test]
async fn who_led_before_a_restart_stands_for_election_first() {
    let home = TempDir::new().unwrap();
    let (own, other) = (RaftId::from(1), RaftId::from(2));
    let disk = open(home.path()).unwrap();
    let mut log = Log { disk, own };
    for (leader, goes_on) in [(own, false), (other, true)] {
        let vote = Vote::new_committed(3, leader);
        log.save_vote(&vote).await.unwrap();
        let read = log.read_vote().await.unwrap().unwrap();
        assert_eq!(read.leader_id, vote.leader_id);
        assert_eq!(read.committed, goes_on);
    }
}

#[test]
fn the_hint_of_what_is_committed_waits_for_no_other_writer() {
    let home = TempDir::new().unwrap();
    let disk = open(home.path()).unwrap();
    let noted = |index| {
        let (disk, (tell, told)) = (disk.clone(), mpsc::channel());
        let committed = blank_ent::<TypeConfig>(2, RaftId::from(1), index).log_id;
        std::thread::spawn(move || tell.send(disk.set_committed(Some(committed))));
        told.recv_timeout(Duration::from_secs(30))
            .map(Result::unwrap)
    };
    noted(3).unwrap();
    let writes = disk.database.begin_write().unwrap();
    noted(4).expect("it does not wait");
    drop(writes);
    let committed = || disk.committed().unwrap().map(|log| log.index);
    assert_eq!((disk.known_committed(), committed()), (4, Some(3)));
    noted(5).unwrap();
    assert_eq!((disk.known_committed(), committed()), (5, Some(5)));
}
