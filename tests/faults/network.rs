//! Faults between a sidecar and its Redis: late, lost, reordered, one way only.

use std::time::Duration;

use super::cluster::{Cluster, SOON, TTL, WORST};
use super::history::Fate;
use super::proxy::{Direction, Trap, Way};
use super::stores::Net;

/// How a script's reply, or a request of so many arguments, looks in RESP.
const GRANTED: &str = "$3\r\nwon\r\n";
const RENEWED: &str = "$4\r\nkept\r\n";
const RELEASE: &str = "*13\r\n$7\r\nEVALSHA";
const RENEW: &str = "*9\r\n$7\r\nEVALSHA";

/// A leader and a follower; the follower's next grant is caught by the trap.
fn grant_in_a_trap(net: &Net, cluster: &mut Cluster) -> (usize, u64, std::sync::Arc<Trap>) {
    let lead = cluster.working_leader();
    let other = cluster.other(lead.node);
    let trap = net.proxies[other].trap(Direction::Replies, GRANTED);
    cluster.stop(lead.node);
    trap.wait_caught(SOON);
    let epoch = net.lease().split(':').next().unwrap().parse().unwrap();
    assert!(epoch > lead.epoch);
    (other, epoch, trap)
}

/// late-grant: an answer older than the lease it grants makes nobody leader, even
/// where the process slept meanwhile and finds it waiting.
#[test]
fn late_grant() {
    for asleep in [false, true] {
        let net = Net::new(2);
        let mut cluster = Cluster::start(&net.urls());
        let (late, epoch, trap) = grant_in_a_trap(&net, &mut cluster);
        let first = cluster.other(late);
        if asleep {
            cluster.pause(late);
            trap.let_go();
        } else {
            // What comes after it on new connections stays away, too: this grant only.
            net.proxies[late].set(Way::Hold, Way::Hold);
        }
        cluster.launch(first);
        let next = cluster.leader_after(epoch, cluster.recorder.now(), WORST);
        assert_eq!(next.node, first);
        cluster.wait_for_write(next.epoch);
        trap.let_go();
        net.proxies[late].heal();
        if asleep {
            cluster.resume(late);
        }
        cluster.wait_for(late, "follows", |answer| {
            answer.leader.as_deref() == Some(&format!("n{first}"))
        });
        let led = |a: &super::history::Answer| a.is_leader && a.token == Some(epoch);
        assert!(!cluster.recorder.history().answers.iter().any(led));
        cluster.judge();
    }
}

/// lost-reply: the grant is found again by the next try; nobody waits for a TTL.
#[test]
fn lost_reply() {
    let net = Net::new(2);
    let mut cluster = Cluster::start(&net.urls());
    let (lucky, epoch, trap) = grant_in_a_trap(&net, &mut cluster);
    let lost_at = cluster.recorder.now();
    let lead = cluster.leader_after(epoch - 1, lost_at, TTL / 2);
    assert_eq!((lead.node, lead.epoch), (lucky, epoch));
    cluster.wait_for_write(epoch);
    trap.let_go();
    cluster.judge();
}

/// delayed-write: a write that arrives under a newer epoch is refused by the store.
#[test]
fn delayed_write() {
    let net = Net::new(2);
    let mut cluster = Cluster::start(&net.urls());
    let lead = cluster.working_leader();
    let trap = net.proxies[lead.node].trap(Direction::Requests, "held back");
    let (fate, status) = cluster.write(lead.node, lead.epoch, "held back");
    assert_eq!((fate, status), (Fate::Unknown, 503));
    trap.wait_caught(SOON);
    let held_at = cluster.recorder.now();
    cluster.kill(lead.node);
    let next = cluster.leader_after(lead.epoch, held_at, WORST);
    cluster.wait_for_write(next.epoch);
    std::thread::sleep((TTL * 3).saturating_sub(cluster.recorder.now() - held_at));
    trap.let_go();
    let reply = trap.reply("stale", SOON);
    assert!(!reply.contains("written"), "{reply:?}");
    cluster.wait_for_write(next.epoch);
    cluster.judge();
}

/// reordered-writes: v1 held back, v2 acknowledged, then v1 arrives, in one tenure.
#[test]
fn reordered_writes() {
    let net = Net::new(1);
    let cluster = Cluster::start(&net.urls());
    let lead = cluster.working_leader();
    let trap = net.proxies[0].trap(Direction::Requests, "v1 held back");
    // Without a condition: the sidecar supplies the one that protects.
    let put = |value: &[u8]| {
        let token = lead.epoch.to_string();
        let headers = [("Fence-Token", token.as_str())];
        cluster
            .http(0)
            .ask("PUT", "/checkpoint", &headers, value)
            .unwrap()
    };
    let unknown = put(b"v1 held back");
    assert_eq!(unknown.status, 503);
    assert_eq!(unknown.json()["outcome"], "unknown");
    trap.wait_caught(SOON);
    cluster.wait_for_write(lead.epoch);
    trap.let_go();
    let reply = trap.reply("mismatch", SOON);
    assert!(!reply.contains("written"), "{reply:?}");
    cluster.wait_for_write(lead.epoch);
    assert_eq!(cluster.ask(0).token, Some(lead.epoch));
    cluster.judge();
}

/// release-race: a renewal that arrives after the release resurrects nothing.
#[test]
fn release_race() {
    let net = Net::new(2);
    let cluster = Cluster::start(&net.urls());
    let lead = cluster.working_leader();
    // The script is known to the server once a renewal was answered.
    let answered = net.proxies[lead.node].trap(Direction::Replies, RENEWED);
    answered.wait_caught(SOON);
    answered.let_go();
    let trap = net.proxies[lead.node].trap(Direction::Requests, RENEW);
    trap.wait_caught(SOON);
    let asked_at = cluster.recorder.now();
    cluster.step_down(lead.node);
    // The connection with the renewal in it must first be given up.
    let next = cluster.leader_after(lead.epoch, asked_at, TTL);
    cluster.wait_for_write(next.epoch);
    trap.let_go();
    let reply = trap.reply("lost", SOON);
    assert!(!reply.contains("kept"), "{reply:?}");
    assert!(net.lease().starts_with(&next.epoch.to_string()));
    cluster.wait_for_write(next.epoch);
    cluster.judge();
}

/// late-release: it arrives when the same node leads again, and ends nothing.
#[test]
fn late_release() {
    let net = Net::new(1);
    let cluster = Cluster::start(&net.urls());
    let first = cluster.working_leader();
    // The script is known to the server once a release was answered.
    cluster.step_down(0);
    let lead = cluster.leader_after(first.epoch, cluster.recorder.now(), WORST);
    let trap = net.proxies[0].trap(Direction::Requests, RELEASE);
    let asked_at = cluster.recorder.now();
    cluster.step_down(0);
    trap.wait_caught(SOON);
    let again = cluster.leader_after(lead.epoch, asked_at, TTL * 2);
    cluster.wait_for_write(again.epoch);
    trap.let_go();
    let reply = trap.reply("not_held", SOON);
    assert!(!reply.contains("released\r"), "{reply:?}");
    assert!(net.lease().starts_with(&again.epoch.to_string()));
    cluster.wait_for_write(again.epoch);
    cluster.judge();
}

/// partition-leader, one-way: the leader stops before anyone else can start.
fn partition(requests: Way, replies: Way) {
    let net = Net::new(2);
    let cluster = Cluster::start(&net.urls());
    for _ in 0..2 {
        let lead = cluster.working_leader();
        let cut_at = cluster.recorder.now();
        net.proxies[lead.node].set(requests, replies);
        // A renewal that still gets through is renewed once more by the store alone.
        let bound = WORST + TTL / 3;
        let next = cluster.leader_after(lead.epoch, cut_at, bound);
        assert_ne!(next.node, lead.node);
        let cut_off = cluster.ask(lead.node);
        assert!(
            !cut_off.is_leader && cut_off.trouble.is_some(),
            "{cut_off:?}"
        );
        cluster.wait_for_write(next.epoch);
        net.proxies[lead.node].heal();
        cluster.wait_for(lead.node, "it follows", |answer| {
            answer.term >= Some(next.epoch) && answer.leader.is_some()
        });
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

/// blackhole: a silence of 1 s, of the whole network, again and again.
#[test]
fn blackhole() {
    let net = Net::new(3);
    let cluster = Cluster::start(&net.urls());
    for _ in 0..3 {
        let lead = cluster.working_leader();
        for proxy in &net.proxies {
            proxy.set(Way::Hold, Way::Hold);
        }
        std::thread::sleep(Duration::from_secs(1));
        for proxy in &net.proxies {
            proxy.heal();
        }
        let healed_at = cluster.recorder.now();
        // Whoever leads then, within the bound, and be it the same one.
        let lead = cluster.leader_after(lead.epoch - 1, healed_at, WORST);
        cluster.wait_for_write(lead.epoch);
    }
    cluster.judge();
}

/// slow: 75 ± 50 ms each way costs nobody the lease.
#[test]
fn slow() {
    let net = Net::new(2);
    for proxy in &net.proxies {
        proxy.set(Way::Slow(25, 125), Way::Slow(25, 125));
    }
    let cluster = Cluster::start_with(&net.urls(), |setup| setup.flag("--ttl", "3s"));
    let lead = cluster.leader();
    for _ in 0..8 {
        cluster.wait_for_write(lead.epoch);
        std::thread::sleep(TTL / 2);
    }
    // One leader all the time: slowness alone forces no change.
    assert_eq!(cluster.leader().epoch, lead.epoch);
    cluster.judge();
}

/// lossy: half of the connections are cut.
#[test]
fn lossy() {
    let net = Net::new(3);
    let cluster = Cluster::start(&net.urls());
    cluster.working_leader();
    for _ in 0..6 {
        for proxy in &net.proxies {
            proxy.lossy();
        }
        cluster.working_leader();
    }
    for proxy in &net.proxies {
        proxy.heal();
    }
    let healed_at = cluster.recorder.now();
    let lead = cluster.leader_after(0, healed_at, WORST);
    cluster.wait_for_write(lead.epoch);
    cluster.judge();
}
