//! Disks that were lost or damaged, or that fill up, under real processes.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::members::BOUND;
use crate::process::{Node, finish};
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

/// A member that is told of a full disk by an error, not by a signal.
fn told_by_an_error(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// No more bytes fit into any file of a process.
fn fill_up(node: &Node) {
    let pid = i32::try_from(node.pid()).ok().and_then(Pid::from_raw);
    let nothing = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Fsize)
    };
    prlimit(pid, Resource::Fsize, nothing).unwrap();
}

/// A member whose disk refuses a write, the leader of the log or another one, ends and says what
/// to do; the others go on, and with room on its disk it comes back.
fn ends_when_full(leads_the_log: bool) {
    let mut cluster = Cluster::new("raft", 3);
    for at in 0..3 {
        let command = cluster.command(at, &["--ttl", "3s", "--bootstrap"]);
        cluster.nodes[at] = Some(Node::spawn(&mut told_by_an_error(&command)));
    }
    cluster.leader_within(BOUND);
    let led_by = cluster.node(0).get("/cluster").json()["raft_leader"].clone();
    let is_led_by = |at: &usize| led_by == format!("n{at}");
    let victim = (0..3).find(|at| is_led_by(at) == leads_the_log).unwrap();
    fill_up(cluster.node(victim));
    let mut node = cluster.nodes[victim].take().unwrap();
    assert_eq!(node.exit(), Some(69), "{:#?}", node.err.all());
    let path = cluster.disk(victim).join("raft.redb");
    let named = path.display().to_string();
    let said = node.err.until("the file and what to do", |line| {
        line.contains(&named) && line.contains("free space")
    });
    assert!(said.contains("ERROR"), "{said}");
    cluster.leader_within(BOUND);
    cluster.start(victim, &["--ttl", "3s"]);
    cluster.leader_within(BOUND);
}

#[test]
fn a_leader_of_the_log_whose_disk_fills_up_ends_and_says_so() {
    ends_when_full(true);
}

#[test]
fn a_follower_whose_disk_fills_up_ends_and_says_so() {
    ends_when_full(false);
}
