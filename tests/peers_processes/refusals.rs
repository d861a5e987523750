//! What members say to those that are not theirs, and to damaged disks.

use std::path::PathBuf;

use crate::ALL;
use crate::members::Cluster;
use crate::ports::free_port;
use crate::process::{Node, finish, tenure};

#[test]
fn a_second_node_under_one_id_is_told_on_both_sides() {
    for backend in ALL {
        let cluster = Cluster::begun(backend, 3, "3s");
        let before = cluster.leader();
        let port = free_port();
        let (listen, home) = (format!("127.0.0.1:{port}"), tempfile::tempdir().unwrap());
        let disk = home.path().display().to_string();
        let twin = Node::start(
            backend,
            &[
                "--peer",
                &cluster.list,
                "--node",
                "n1",
                "--peer-listen",
                &listen,
                "--state-dir",
                &disk,
                "--bootstrap",
            ],
        );
        let told = |line: &str| line.contains("two nodes have the id n1");
        twin.err.until("the twin's side", told);
        cluster.node(0).err.until("the other side", told);
        assert_eq!(twin.status()["is_leader"], false);
        assert_eq!(cluster.leader(), before);
    }
}

#[test]
fn another_list_and_another_cluster_are_told_on_both_sides() {
    for (backend, another) in ALL.iter().zip(["ring", "bully", "bully"]) {
        let cluster = Cluster::begun(backend, 3, "3s");
        let before = cluster.leader();
        let home = tempfile::tempdir().unwrap();
        let port = free_port();
        let longer = format!("{},n9=127.0.0.1:{port}", cluster.list);
        for (of, said) in [
            ((*backend).to_owned(), "the lists of members differ"),
            (another.to_owned(), "belongs to the cluster"),
            (format!("{backend}://other"), "belongs to the cluster"),
        ] {
            let disk = home.path().join(of.replace("://", "-"));
            let disk = disk.display().to_string();
            let flags = [
                "--peer",
                &longer,
                "--node",
                "n9",
                "--state-dir",
                &disk,
                "--bootstrap",
            ];
            let skip = cluster.node(0).err.all().len();
            let other = Node::start(&of, &flags);
            other.err.until("its side", |line| line.contains(said));
            // The listener tells of strangers now and then, not each time.
            cluster
                .node(0)
                .err
                .until_after(skip, "the other side", |line| line.contains(said));
            assert_eq!(other.status()["is_leader"], false);
        }
        assert_eq!(cluster.leader(), before);
    }
}

/// A rolling change from five members to three: the first two of them would be a majority of
/// three, and the others one of five.
#[test]
fn a_list_two_members_apart_from_the_disks_starts_nothing() {
    for backend in ["bully", "ring"] {
        let mut cluster = Cluster::begun(backend, 5, "3s");
        let before = cluster.leader();
        let five = cluster.list.clone();
        let three: Vec<&str> = five.split(',').take(3).collect();
        let three = three.join(",");
        let followers: Vec<usize> = (0..3).filter(|at| *at != before.0).take(2).collect();
        for at in &followers {
            cluster.kill(*at);
            cluster.list.clone_from(&three);
            let ended = finish(&mut cluster.command(*at, &[]), b"");
            cluster.list.clone_from(&five);
            assert_eq!(ended.code, Some(78), "{backend}: {ended:?}");
            for said in ["n0,n1,n2,n3,n4", "lists n0,n1,n2:", "one member at a time"] {
                assert!(ended.err.contains(said), "{said}: {}", ended.err);
            }
        }
        assert_eq!(cluster.leader(), before);
        // The old list is still theirs.
        cluster.start_together(&followers, &["--ttl", "3s"]);
        assert_eq!(cluster.leader(), before);
    }
}

#[test]
fn an_even_number_of_members_is_warned_of() {
    for backend in ALL {
        let cluster = Cluster::begun(backend, 2, "3s");
        cluster.leader();
        let node = cluster.node(0);
        node.err
            .until("the warning", |line| line.contains("use an odd number"));
    }
}

#[test]
fn another_drift_is_told_and_its_votes_do_not_count() {
    let mut cluster = Cluster::new("bully", 3);
    cluster.start(0, &["--bootstrap"]);
    cluster.start(1, &["--bootstrap", "--drift", "2%"]);
    let said = |line: &str| line.contains("start all members with the same --drift");
    cluster.node(0).err.until("the drift", said);
    cluster.node(1).err.until("the drift", said);
    assert_eq!(cluster.node(0).status()["is_leader"], false);
    cluster.start(2, &["--bootstrap"]);
    cluster
        .node(2)
        .until("one of the two that agree leads", |_| {
            [0, 2]
                .iter()
                .any(|at| cluster.node(*at).status()["is_leader"] == true)
        });
}

/// What a member keeps, its promises first, and what in each file is no spare room.
fn kept(cluster: &Cluster, at: usize) -> Vec<(PathBuf, &'static [u8])> {
    let disk = cluster.disk(at);
    if cluster.backend == "raft" {
        let promises = (disk.join("raft.redb"), &b"vote"[..]);
        return vec![promises, (disk.join("peer.json"), b"member")];
    }
    let disk = disk.join("quorum");
    vec![
        (disk.join("elections/default.json"), b"grant"),
        (disk.join("peer.json"), b"member"),
        (disk.join("disk.json"), b"founding"),
    ]
}

fn flipped(good: &[u8], what: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let places = (0..good.len()).filter(|at| good[*at..].starts_with(what));
    places.for_each(|at| bytes[at] ^= 4);
    assert_ne!(bytes, good, "it is not in the file");
    bytes
}

#[test]
fn a_damaged_disk_is_named_and_starts_nothing() {
    for backend in ALL {
        let mut cluster = Cluster::begun(backend, 3, "3s");
        let (_, epoch) = cluster.leader();
        cluster.kill(1);
        let kept = kept(&cluster, 1);
        for (file, inside) in &kept {
            let name = file.file_name().unwrap().to_str().unwrap();
            let good = std::fs::read(file).unwrap();
            // For raft, where no more than the head and a page is left, it fits no log.
            let kept_bytes = (good.len() / 2).min(2 * 4096);
            let cut = good[..kept_bytes].to_vec();
            for bytes in [flipped(&good, inside), cut, Vec::new()] {
                std::fs::write(file, &bytes).unwrap();
                let ended = finish(&mut cluster.command(1, &["--bootstrap"]), b"");
                assert_eq!(ended.code, Some(78), "{backend} {name}: {ended:?}");
                let doubt = ["votes on no guess", "cannot trust"];
                let told = doubt.iter().any(|words| ended.err.contains(words));
                assert!(told && ended.err.contains(name), "{}", ended.err);
                assert_eq!(std::fs::read(file).unwrap(), bytes, "left as it was");
            }
            std::fs::write(file, good).unwrap();
        }
        let record = &kept[0].0;
        let good = std::fs::read(record).unwrap();
        std::fs::remove_file(record).unwrap();
        let ended = finish(&mut cluster.command(1, &["--bootstrap"]), b"");
        assert_eq!(ended.code, Some(78), "{backend}: {ended:?}");
        assert!(ended.err.contains("is missing"), "{}", ended.err);
        std::fs::write(record, good).unwrap();
        cluster.start(1, &[]);
        assert!(cluster.leader().1 >= epoch);
    }
}

#[test]
fn a_wiped_member_that_is_started_as_a_new_one_has_no_vote() {
    let mut cluster = Cluster::begun("bully", 3, "1s");
    let before = cluster.leader();
    let wiped = (before.0 + 1) % 3;
    cluster.kill(wiped);
    std::fs::remove_dir_all(cluster.disk(wiped)).unwrap();
    cluster.start(wiped, &["--ttl", "1s", "--bootstrap"]);
    let node = cluster.node(wiped);
    node.err.until("the mend", |line| {
        line.contains("start without --bootstrap")
    });
    assert_eq!(node.status()["is_leader"], false);
    // With it alone there is no majority.
    let last = (before.0 + 2) % 3;
    cluster.kill(last);
    let alone = cluster.node(before.0);
    alone.until("stops", |status| status["is_leader"] == false);
}

/// The third member was down while the first two held an election, and has no record of it;
/// but it has one of another, and knows by it that the second comes with another disk.
#[test]
fn a_wiped_member_has_no_vote_in_an_election_that_the_others_never_held() {
    let orders = ["--ttl", "1s", "--election", "orders"];
    let mut cluster = Cluster::begun("bully", 3, "1s");
    cluster.leader();
    (0..3).for_each(|at| cluster.kill(at));
    cluster.start_together(&[0, 1], &orders);
    let (_, granted) = cluster.leader();
    (0..2).for_each(|at| cluster.kill(at));
    std::fs::remove_dir_all(cluster.disk(1)).unwrap();
    cluster.start(2, &["--ttl", "1s"]);
    cluster.start(1, &[&orders[..], &["--bootstrap"]].concat());
    let met = |line: &str| line.contains("start without --bootstrap");
    cluster.node(1).err.until("the mend", met);
    // The disks that held it go on, though they have to wait for their own promise: else the
    // two would have begun anew, at epoch 1, before that.
    cluster.start(0, &orders);
    cluster
        .node(0)
        .until("leads", |status| status["is_leader"] == true);
    assert!(cluster.node(0).status()["term"].as_u64() > Some(granted));
}

#[test]
fn a_port_that_is_taken_and_a_disk_in_use_start_nothing() {
    let cluster = Cluster::begun("bully", 3, "3s");
    let ended = finish(&mut cluster.command(0, &[]), b"");
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended.err.contains("in use by another process"),
        "{}",
        ended.err
    );
    let home = tempfile::tempdir().unwrap();
    let mut command = tenure();
    command.args([
        "run",
        "--backend",
        "bully",
        "--listen",
        "127.0.0.1:0",
        "--node",
        "n0",
    ]);
    command
        .args(["--peer", &cluster.list, "--state-dir"])
        .arg(home.path());
    let ended = finish(&mut command, b"");
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended.err.contains("cannot listen for peers"),
        "{}",
        ended.err
    );
}
