//! Faults of an etcd cluster, under sidecars that work on it and the oracle: members
//! killed and stopped, the quorum lost, the disk quota used up, the way cut.

use std::time::Duration;

use super::cluster::{Cluster, Lead, SOON};
use super::etcd_server::{Etcd, Setup as Servers, Version};
use super::history::{Answer, At, History};
use super::node::Setup;
use super::proxy::{Direction, Proxy, Way};

/// What etcd keeps: whole seconds, and at least two.
const TTL: Duration = Duration::from_secs(2);
const LEADER_KEY: &str = "tenure/default/leader";

/// A cluster, and a proxy before each member for each node.
struct Net {
    etcd: Etcd,
    /// Of a node, in the order in which it asks them.
    proxies: Vec<Vec<Proxy>>,
}

impl Net {
    fn new(etcd: Etcd, nodes: usize) -> Self {
        let proxies = (0..nodes).map(|_| etcd.ports().into_iter().map(Proxy::start).collect());
        Self {
            proxies: proxies.collect(),
            etcd,
        }
    }

    fn urls(&self) -> Vec<String> {
        let url = |proxies: &Vec<Proxy>| {
            let places = proxies.iter().map(|it| format!("127.0.0.1:{}", it.port()));
            format!("etcd://{}", places.collect::<Vec<_>>().join(","))
        };
        self.proxies.iter().map(url).collect()
    }
}

fn start(urls: &[String]) -> Cluster {
    Cluster::start_with(urls, |setup| setup.flag("--ttl", "2s"))
}

fn on(etcd: &Etcd, nodes: usize) -> Cluster {
    start(&vec![etcd.url(); nodes])
}

/// The longest leaderless time after a crash that a node promises.
fn worst(cluster: &Cluster, node: usize) -> Duration {
    let status = cluster.http(node).get("/status").unwrap().json();
    Duration::from_millis(status["timing"]["worst_case_failover_ms"].as_u64().unwrap())
}

/// What is waited for at most when the members themselves must elect a leader first:
/// etcd lets every lease begin anew then (etcd#15247).
fn after_an_election_of_etcd(cluster: &Cluster, node: usize) -> Duration {
    worst(cluster, node) + TTL + Duration::from_secs(3)
}

fn raft_leader(etcd: &Etcd) -> usize {
    let until = std::time::Instant::now() + SOON;
    while std::time::Instant::now() < until {
        if let Some(at) = (0..etcd.len()).find(|at| etcd.is_raft_leader(*at)) {
            return at;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the members elect nobody");
}

/// How long nobody was heard to lead, in all: gaps between answers of leaders.
fn leaderless(history: &History, from: At) -> Duration {
    let mut led: Vec<At> = history
        .answers
        .iter()
        .filter(|answer| answer.is_leader && answer.sent >= from)
        .map(|answer| answer.received)
        .collect();
    led.sort_unstable();
    let gaps = led.windows(2).map(|pair| pair[1] - pair[0]);
    // What lies between two polls of a node that leads is no gap.
    gaps.filter(|gap| *gap > Duration::from_millis(100)).sum()
}

fn epochs(history: &History) -> usize {
    let mut epochs: Vec<_> = history.answers.iter().filter_map(|it| it.token).collect();
    epochs.sort_unstable();
    epochs.dedup();
    epochs.len()
}

/// A member that follows dies: nobody loses anything.
#[test]
fn a_member_is_killed() {
    let mut etcd = Etcd::cluster(Version::V3_5);
    let cluster = on(&etcd, 3);
    let lead = cluster.working_leader();
    let dies = (raft_leader(&etcd) + 1) % etcd.len();
    etcd.kill(dies);
    let killed_at = cluster.recorder.now();
    while cluster.recorder.now() < killed_at + TTL * 2 {
        cluster.wait_for_write(lead.epoch);
    }
    assert_eq!(cluster.ask(lead.node).token, Some(lead.epoch));
    etcd.start_again(dies);
    cluster.wait_for_write(lead.epoch);
    cluster.judge();
}

/// etcd-leader-churn: the members' leader is killed 20 times, faster than a lease. No
/// acknowledged write is lost, epochs rise, and nobody is without a leader for longer
/// than leases force.
#[test]
fn etcd_leader_churn() {
    const KILLS: u32 = 20;
    let mut etcd = Etcd::cluster(Version::V3_5);
    let cluster = on(&etcd, 3);
    cluster.working_leader();
    let began = cluster.recorder.now();
    let mut down: Option<usize> = None;
    for _ in 0..KILLS {
        if let Some(at) = down.take() {
            etcd.start_again(at);
        }
        let leader = raft_leader(&etcd);
        etcd.kill(leader);
        down = Some(leader);
        std::thread::sleep(TTL / 2);
    }
    if let Some(at) = down {
        etcd.start_again(at);
    }
    let over = cluster.recorder.now();
    let bound = after_an_election_of_etcd(&cluster, 0);
    let next = cluster.leader_after(0, over, bound);
    cluster.wait_for_write(next.epoch);
    {
        let history = cluster.recorder.history();
        let (lost, tenures) = (leaderless(&history, began), epochs(&history));
        let changes = u32::try_from(tenures - 1).unwrap();
        // Each kill may cost an election of etcd's own, each change of leader a lease.
        let forced = bound * changes + (Duration::from_secs(1) * KILLS);
        eprintln!(
            "{KILLS} kills in {:?}: {tenures} epochs, {lost:?} without a leader, {forced:?} forced \
             at most",
            over - began
        );
        assert!(lost <= forced + cluster.recorder.allowance(), "{lost:?}");
    }
    cluster.judge();
}

/// etcd-stuck-leader: the members' leader hangs for three leases and wakes, believing
/// that it still leads (etcd#15247, #20418).
#[test]
fn etcd_stuck_leader() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = Etcd::cluster(version);
        let cluster = on(&etcd, 3);
        let mut lead = cluster.working_leader();
        for _ in 0..2 {
            let stuck = raft_leader(&etcd);
            etcd.pause(stuck);
            let paused_at = cluster.recorder.now();
            // The others go on: by the same leader, or by the next one.
            let bound = after_an_election_of_etcd(&cluster, 0);
            let next = cluster.leader_after(lead.epoch - 1, paused_at, bound);
            cluster.wait_for_write(next.epoch);
            std::thread::sleep((TTL * 3).saturating_sub(cluster.recorder.now() - paused_at));
            etcd.resume(stuck);
            let resumed_at = cluster.recorder.now();
            lead = cluster.leader_after(next.epoch - 1, resumed_at, bound);
            lead = cluster.wait_for_write(lead.epoch);
        }
        cluster.judge();
    }
}

/// Most members are gone: nobody leads on, and it is said; with them it goes on.
#[test]
fn the_quorum_is_lost_and_comes_back() {
    let mut etcd = Etcd::cluster(Version::V3_5);
    let cluster = on(&etcd, 2);
    let lead = cluster.working_leader();
    etcd.kill(0);
    etcd.kill(1);
    for node in 0..2 {
        cluster.wait_for(node, "nobody leads, and why", |answer| {
            let trouble = answer.trouble.as_deref().unwrap_or_default();
            !answer.is_leader && !answer.connected && trouble.contains("etcd")
        });
        assert_eq!(cluster.http(node).get("/livez").unwrap().status, 200);
    }
    etcd.start_again_together(&[0, 1]);
    let healed_at = cluster.recorder.now();
    let bound = after_an_election_of_etcd(&cluster, 0);
    // The lease may have outlived the trouble: then it is the same epoch's.
    let next = cluster.leader_after(lead.epoch - 1, healed_at, bound);
    cluster.wait_for_write(next.epoch);
    cluster.judge();
}

/// store-full: NOSPACE. A leader goes on, for a keep-alive writes nothing; who wants to
/// be the next one is told what is wrong, and leads once it is mended.
#[test]
fn no_space() {
    let quota = ["--quota-backend-bytes", "1000000"];
    let etcd = Etcd::start(Servers::of(Version::V3_5, 1).with(&quota));
    let mut cluster = on(&etcd, 2);
    let lead = cluster.working_leader();
    let filler = "x".repeat(60_000);
    let mut number = 0;
    while !etcd.etcdctl(0, &["alarm", "list"]).contains("NOSPACE") {
        number += 1;
        assert!(number < 200, "the quota never ends");
        etcd.put(&format!("filler{number}"), &filler);
    }
    let full_at = cluster.recorder.now();
    while cluster.recorder.now() < full_at + TTL * 2 {
        let answer = cluster.ask(lead.node);
        assert_eq!(answer.token, Some(lead.epoch), "{answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let token = lead.epoch.to_string();
    let headers = [("Fence-Token", token.as_str())];
    let mut http = cluster.http(lead.node);
    let put = http.ask("PUT", "/checkpoint", &headers, b"x").unwrap();
    let body = put.json();
    assert_eq!((put.status, &body["outcome"]), (503, &"not_applied".into()));
    assert!(
        body["detail"].as_str().unwrap().contains("NOSPACE"),
        "{body}"
    );
    let other = cluster.other(lead.node);
    cluster.kill(lead.node);
    cluster.wait_for(other, "what is wrong", |answer| {
        let trouble = answer.trouble.as_deref().unwrap_or_default();
        trouble.contains("NOSPACE") && !answer.is_leader
    });
    for number in 1..=number {
        etcd.etcdctl(0, &["del", &format!("filler{number}")]);
    }
    let status = etcd.etcdctl(0, &["endpoint", "status", "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let revision = status[0]["Status"]["header"]["revision"].to_string();
    etcd.etcdctl(0, &["compact", &revision]);
    etcd.etcdctl(0, &["defrag"]);
    etcd.etcdctl(0, &["alarm", "disarm"]);
    let mended_at = cluster.recorder.now();
    let next = cluster.leader_after(lead.epoch, mended_at, worst(&cluster, other));
    assert_eq!(next.node, other);
    cluster.wait_for_write(next.epoch);
    cluster.judge();
}

/// Somebody compacts what a node has yet to hear: it reads anew and knows.
#[test]
fn compaction_under_a_watch() {
    let net = Net::new(Etcd::single(Version::V3_4), 3);
    let cluster = start(&net.urls());
    for _ in 0..3 {
        let lead = cluster.working_leader();
        let deaf = cluster.other(lead.node);
        for proxy in &net.proxies[deaf] {
            proxy.set(Way::Hold, Way::Hold);
        }
        cluster.step_down(lead.node);
        let now = cluster.recorder.now();
        let next = cluster.leader_after(lead.epoch, now, worst(&cluster, 0));
        cluster.wait_for_write(next.epoch);
        let status = net.etcd.etcdctl(0, &["endpoint", "status", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let revision = status[0]["Status"]["header"]["revision"].to_string();
        net.etcd.etcdctl(0, &["compact", &revision]);
        for proxy in &net.proxies[deaf] {
            proxy.cut();
            proxy.heal();
        }
        cluster.wait_for(deaf, "who leads", |answer| {
            answer.term >= Some(next.epoch) && answer.connected
        });
    }
    cluster.judge();
}

/// blackhole: the member that a leader speaks to falls silent, and the lease goes on by
/// way of another one.
#[test]
fn a_blackholed_member_costs_no_lease() {
    let net = Net::new(Etcd::cluster(Version::V3_5), 2);
    let cluster = start(&net.urls());
    let lead = cluster.working_leader();
    for member in 0..net.etcd.len() {
        net.proxies[lead.node][member].set(Way::Hold, Way::Hold);
        let silent_at = cluster.recorder.now();
        while cluster.recorder.now() < silent_at + TTL * 2 {
            cluster.wait_for_write(lead.epoch);
        }
        let answer = cluster.ask(lead.node);
        assert_eq!(
            answer.token,
            Some(lead.epoch),
            "member {member}: {answer:?}"
        );
        net.proxies[lead.node][member].cut();
        net.proxies[lead.node][member].heal();
    }
    cluster.judge();
}

/// Cuts the leader off; it has stopped before anybody else begins.
fn partition(requests: Way, replies: Way) {
    let net = Net::new(Etcd::cluster(Version::V3_5), 2);
    let cluster = start(&net.urls());
    for _ in 0..2 {
        let lead = cluster.working_leader();
        for proxy in &net.proxies[lead.node] {
            proxy.set(requests, replies);
        }
        let cut_at = cluster.recorder.now();
        let next = cluster.leader_after(lead.epoch, cut_at, worst(&cluster, 0));
        assert_ne!(next.node, lead.node);
        cluster.wait_for_write(next.epoch);
        let old = cluster.ask(lead.node);
        assert!(!old.is_leader, "{old:?}");
        for proxy in &net.proxies[lead.node] {
            proxy.heal();
            proxy.cut();
        }
        let knows = |answer: &Answer| answer.term >= Some(next.epoch) && answer.leader.is_some();
        cluster.wait_for(lead.node, "the old leader follows", knows);
    }
    cluster.judge();
}

#[test]
fn partition_leader() {
    partition(Way::Hold, Way::Hold);
}

#[test]
fn one_way_replies_lost() {
    partition(Way::Pass, Way::Drop);
}

#[test]
fn one_way_requests_lost() {
    partition(Way::Drop, Way::Pass);
}

/// The etcd leases that live.
fn leases(etcd: &Etcd) -> Vec<String> {
    let text = etcd.etcdctl(0, &["lease", "list"]);
    let id = |line: &&str| line.len() == 16 && line.chars().all(|c| c.is_ascii_hexdigit());
    text.lines()
        .map(str::trim)
        .filter(id)
        .map(str::to_owned)
        .collect()
}

/// expired-waiter: whoever waits holds no etcd lease; one that is revoked in the middle
/// of an attempt makes nobody leader (etcd#11456, #19597).
#[test]
fn expired_waiter() {
    for version in [Version::V3_4, Version::V3_5] {
        let net = Net::new(Etcd::single(version), 2);
        let urls = net.urls();
        let setup = |node: usize| Setup::new(&format!("n{node}"), &urls[node]).flag("--ttl", "2s");
        let mut cluster = Cluster::idle(vec![setup(0), setup(1)]);
        cluster.launch(0);
        let lead = cluster.working_leader();
        cluster.launch(1);
        let follows = |answer: &Answer| answer.leader.as_deref() == Some("n0");
        cluster.wait_for(1, "waits", follows);
        assert_eq!(leases(&net.etcd).len(), 1, "a waiter holds a lease");
        // What it writes to become the leader names it.
        let trap = net.proxies[1][0].trap(Direction::Requests, "\"node\":\"n1\"");
        cluster.stop(lead.node);
        trap.wait_caught(SOON);
        let waiting = leases(&net.etcd);
        assert!(!waiting.is_empty(), "it asks without a lease");
        for lease in waiting {
            net.etcd.etcdctl(0, &["lease", "revoke", &lease]);
        }
        trap.let_go();
        let Lead { node, epoch, .. } = cluster.working_leader();
        assert_eq!(node, 1);
        assert!(epoch > lead.epoch);
        // It leads on a lease that lives.
        assert_eq!(leases(&net.etcd).len(), 1);
        let key = net.etcd.get(LEADER_KEY).expect("it leads without a key");
        assert!(key.starts_with(&epoch.to_string()), "{key}");
        cluster.judge();
    }
}
