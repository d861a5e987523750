//! `tenure cluster` on real processes.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Ended, Node, file_url, finish_within, tenure};
use crate::processes::Cluster;

/// How long anything that must happen may take on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

fn ask(node: &Node, arguments: &[&str]) -> Ended {
    let mut command = tenure();
    command.arg("cluster").args(arguments);
    finish_within(BOUND, command.args(["--api", &node.url()]), b"")
}

/// The same until the answer is certain: on a busy machine a frame may come too late. And
/// whether one before it was not.
fn ask_until_certain(node: &Node, arguments: &[&str]) -> (Ended, bool) {
    let end = Instant::now() + BOUND;
    let mut uncertain = false;
    loop {
        let ended = ask(node, arguments);
        if ended.code != Some(69) || Instant::now() > end {
            return (ended, uncertain);
        }
        uncertain = true;
    }
}

/// A change that is made, by this question or by one before it that had no certain answer.
#[track_caller]
fn change(node: &Node, verb: &str, id: &str) {
    let role = match verb {
        "remove" => "none",
        _ => "voter",
    };
    let (ended, uncertain) = ask_until_certain(node, &[verb, id]);
    let made = ["votes already", "has no seat", "nothing to replace"];
    let made = uncertain && made.iter().any(|why| ended.err.contains(why));
    assert!(ended.code == Some(0) || made, "{ended:?}");
    until(node, role, |status| member(status, id)["role"] == role);
}

fn told(node: &Node) -> Value {
    ask(node, &["status", "--json"]).ok().json()
}

/// A change that is refused, or changes nothing, for this reason.
#[track_caller]
fn is_refused(node: &Node, arguments: &[&str], why: &str) {
    let (ended, _) = ask_until_certain(node, arguments);
    assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
    assert!(ended.err.contains(why), "{arguments:?}: {ended:?}");
}

fn member<'a>(status: &'a Value, id: &str) -> &'a Value {
    let members = status["members"].as_array().unwrap();
    members.iter().find(|member| member["id"] == id).unwrap()
}

#[track_caller]
fn until(node: &Node, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + BOUND;
    loop {
        let status = node.get("/cluster").json();
        if so(&status) {
            return status;
        }
        assert!(Instant::now() < end, "never {what}: {status:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Which member leads the log; a change of it is no error in any of these tests.
#[track_caller]
fn raft_leader(cluster: &Cluster) -> usize {
    let any = cluster.node(cluster.running()[0]);
    let led = |status: &Value| status["raft_leader"].is_string() && status["has_quorum"] == true;
    let status = until(any, "led", led);
    let id = status["raft_leader"].as_str().unwrap();
    id.trim_start_matches('n').parse().unwrap()
}

const TTL: &[&str] = &["--ttl", "3s"];

#[test]
fn a_wiped_disk_has_no_vote_until_it_is_given_the_seat() {
    let mut cluster = Cluster::begun("raft", 3, "3s");
    cluster.leader_within(BOUND);
    let led_by = raft_leader(&cluster);
    let wiped = (led_by + 1) % 3;
    let id = format!("n{wiped}");
    let before = told(cluster.node(led_by));
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.disk(wiped)).unwrap();
    cluster.start(wiped, TTL);
    let waits = |status: &Value| member(status, &id)["other_disk"].is_string();
    let status = until(cluster.node(led_by), "the new disk is seen", waits);
    let seat = member(&status, &id);
    assert_eq!(
        (&seat["role"], &seat["connected"]),
        (&"voter".into(), &false.into())
    );
    assert_eq!(seat["disk"], member(&before, &id)["disk"]);
    is_refused(cluster.node(led_by), &["add", &id], "ask for `replace`");

    // Asked of the third one, which leads nothing.
    let third = (led_by + 2) % 3;
    change(cluster.node(third), "replace", &id);
    let after = told(cluster.node(third));
    let seat = member(&after, &id);
    assert_ne!(seat["disk"], member(&before, &id)["disk"], "{after:#}");
    // Its vote counts: with another one away, it makes the majority.
    cluster.kill(led_by);
    let old = format!("n{led_by}");
    let goes_on = |it: &Value| {
        let leads = it["raft_leader"].as_str();
        it["has_quorum"] == true && leads.is_some_and(|leader| leader != old)
    };
    until(cluster.node(third), "the two go on", goes_on);
    cluster.leader_within(BOUND);
}

#[test]
fn what_cannot_be_changed_is_refused_and_says_why() {
    let mut cluster = Cluster::begun("raft", 3, "3s");
    cluster.leader_within(BOUND);
    let node = || cluster.node(0);
    is_refused(node(), &["add", "n1"], "votes already");
    is_refused(node(), &["add", "n9"], "--peer n9=HOST:PORT");
    is_refused(node(), &["add", "n/1"], "a member's id is made of");
    is_refused(node(), &["remove", "n9"], "has no seat");
    is_refused(node(), &["replace", "n1"], "nothing to replace");
    let wrong = ask(node(), &["add", "n1", "--wait", "soon"]);
    assert_eq!(wrong.code, Some(78), "{wrong:?}");
    node().post("/cluster/add", "{}").problem(400, "malformed");

    cluster.kill(2);
    let gone = |status: &Value| member(status, "n2")["connected"] == false;
    for at in [0, 1] {
        until(cluster.node(at), "n2 is gone", gone);
    }
    let node = || cluster.node(0);
    is_refused(node(), &["remove", "n1"], "which is no majority");
    is_refused(node(), &["replace", "n2"], "has not come with another disk");
    // Without a majority nothing is changed, and that is told in time.
    let refused = cluster.node(1).pid();
    crate::process::send(refused, rustix::process::Signal::STOP);
    let alone = ask(node(), &["remove", "n2", "--wait", "2s"]);
    crate::process::send(refused, rustix::process::Signal::CONT);
    assert_eq!(alone.code, Some(69), "{alone:?}");
}

#[test]
fn a_member_goes_and_comes_back_and_the_last_one_stays() {
    let mut cluster = Cluster::begun("raft", 3, "3s");
    cluster.leader_within(BOUND);
    cluster.kill(2);
    let gone = |status: &Value| member(status, "n2")["connected"] == false;
    for at in [0, 1] {
        until(cluster.node(at), "n2 is gone", gone);
    }
    change(cluster.node(0), "remove", "n2");
    let shown = ask(cluster.node(0), &["status"]).ok().text();
    let line = shown.lines().find(|line| line.starts_with("n2 ")).unwrap();
    assert!(line.contains(" none "), "{shown}");
    is_refused(cluster.node(0), &["add", "n2"], "is not connected");
    // With its old disk, which has nothing to hide.
    cluster.start(2, TTL);
    let here = |status: &Value| member(status, "n2")["connected"] == true;
    for at in [0, 1] {
        until(cluster.node(at), "n2 is here", here);
    }
    change(cluster.node(1), "add", "n2");

    // Down to one, the one that leads the log last.
    let last = raft_leader(&cluster);
    for at in (0..3).filter(|at| *at != last) {
        change(cluster.node(last), "remove", &format!("n{at}"));
        cluster.kill(at);
    }
    let own = format!("n{last}");
    is_refused(cluster.node(last), &["remove", &own], "the last voter");
    cluster.leader_within(BOUND);
}

#[test]
fn the_leader_of_the_log_can_be_taken_out() {
    let mut cluster = Cluster::begun("raft", 3, "3s");
    cluster.leader_within(BOUND);
    let led_by = raft_leader(&cluster);
    let other = (led_by + 1) % 3;
    let own = format!("n{led_by}");
    change(cluster.node(other), "remove", &own);
    cluster.kill(led_by);
    cluster.leader_within(BOUND);
    // Where another member had the lease, the log may be without a leader for a while.
    until(cluster.node(other), "another leads the log", |status| {
        status["raft_leader"].is_string() && status["raft_leader"] != own.as_str()
    });
    let status = told(cluster.node(other));
    assert_eq!(member(&status, &own)["role"], "none", "{status:#}");
}

#[test]
fn stores_and_majorities_have_no_seats_and_say_so() {
    let home = tempfile::tempdir().unwrap();
    let store = Node::start(&file_url(home.path()), &[]);
    let bully = Cluster::begun("bully", 1, "3s");
    for (node, why) in [(&store, "file is a store"), (bully.node(0), "--peer lists")] {
        for arguments in [&["status"][..], &["add", "n0"]] {
            let ended = ask(node, arguments);
            assert_eq!(ended.code, Some(78), "{ended:?}");
            assert!(ended.err.contains(why), "{ended:?}");
        }
        node.get("/cluster").problem(404, "no-cluster");
    }
}

#[test]
fn the_cluster_is_told_as_it_is_described_and_measured() {
    let mut cluster = Cluster::begun("raft", 3, "3s");
    cluster.leader_within(BOUND);
    let led_by = raft_leader(&cluster);
    let node = cluster.node(led_by);
    let document = node.get("/openapi.json").json();
    let described = |schema: &str| -> BTreeSet<String> {
        let schema = &document["components"]["schemas"][schema];
        let members = schema["properties"].as_object().unwrap();
        members.keys().cloned().collect()
    };
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let status = told(node);
    assert_eq!(names(&status), described("ClusterBody"));
    assert_eq!(names(&status["log"]), described("LogBody"));
    assert_eq!(names(&status["members"][0]), described("MemberBody"));

    for at in 0..3 {
        let metrics = cluster.node(at).get("/metrics").text();
        for series in [
            "tenure_has_quorum{election=\"default\"} 1",
            "tenure_raft_term{election=\"default\"} ",
            "tenure_log_index{election=\"default\",kind=\"last\"} ",
            "tenure_log_index{election=\"default\",kind=\"committed\"} ",
            "tenure_log_index{election=\"default\",kind=\"applied\"} ",
        ] {
            assert!(metrics.contains(series), "{series}: {metrics}");
        }
        for peer in (0..3).filter(|peer| *peer != at) {
            let series =
                format!("tenure_log_lag_entries{{election=\"default\",peer=\"n{peer}\"}} ");
            assert!(metrics.contains(&series), "{series}: {metrics}");
        }
    }
    for at in (0..3).filter(|at| *at != led_by) {
        cluster.kill(at);
    }
    let node = cluster.node(led_by);
    until(node, "alone", |status| status["has_quorum"] == false);
    let metrics = node.get("/metrics").text();
    let series = "tenure_has_quorum{election=\"default\"} 0";
    assert!(metrics.contains(series), "{metrics}");
}
