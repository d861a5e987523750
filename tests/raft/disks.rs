//! Disks that were lost or damaged, under real processes.

use std::fs;

use crate::members::BOUND;
use crate::process::finish;
use crate::processes::Cluster;

/// A member that is damaged so does not start, names the file, and the others go on.
fn is_refused(damage: impl Fn(Vec<u8>) -> Vec<u8>) {
    let mut cluster = Cluster::begun("raft", 3, "3s");
    let (leader, _) = cluster.leader_within(BOUND);
    let victim = (leader + 1) % 3;
    cluster.kill(victim);
    let path = cluster.disk(victim).join("raft.redb");
    let bytes = damage(fs::read(&path).unwrap());
    fs::write(&path, &bytes).unwrap();
    let ended = finish(&mut cluster.command(victim, &["--ttl", "3s"]), b"");
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let named = path.display().to_string();
    assert!(ended.err.contains(&named), "{ended:?}");
    assert!(ended.err.contains("wipe the whole directory"), "{ended:?}");
    assert!(!ended.err.contains("panicked"), "{ended:?}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "it was written to");
    cluster.leader_within(BOUND);
}

#[test]
fn a_truncated_log_is_refused() {
    // After the head and one page, of the four at least that it takes: the half may be whole,
    // where the file has just doubled.
    is_refused(|bytes| bytes[..2 * 4096].to_vec());
}

#[test]
fn a_log_with_flipped_bits_is_refused() {
    // In the pages, not in what is free: all of the second quarter.
    is_refused(|mut bytes| {
        let quarter = bytes.len() / 4;
        for byte in &mut bytes[4096..quarter * 2] {
            *byte ^= 0x55;
        }
        bytes
    });
}

#[test]
fn a_missing_log_is_refused_and_an_empty_one_is_no_new_one() {
    let mut cluster = Cluster::begun("raft", 3, "3s");
    let (leader, _) = cluster.leader_within(BOUND);
    let victim = (leader + 1) % 3;
    cluster.kill(victim);
    let path = cluster.disk(victim).join("raft.redb");
    fs::remove_file(&path).unwrap();
    for empty in [false, true] {
        if empty {
            fs::write(&path, b"").unwrap();
        }
        let ended = finish(&mut cluster.command(victim, &["--ttl", "3s"]), b"");
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.err.contains("raft.redb"), "{ended:?}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"");
    cluster.leader_within(BOUND);
}
