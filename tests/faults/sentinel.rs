//! Redis behind Sentinels: planned failovers, a master that dies, a replica promoted
//! without the last writes, an old master that is cut off and goes on.

use std::time::Duration;

use super::cluster::{Cluster, SOON, WORST};
use super::failover::{claims, fail_over, logged, nodes};
use super::node::Setup;
use super::proxy::{Proxy, Way};
use super::redis_server::{RedisServer, Reply};
use super::stores::STATE_KEY;
use crate::sentinel_set::{NAME, SentinelSet, Shape, url_of, wait_for};

const WARNED: &str = "exclusion may not survive a failover of Redis";

fn shape(min_replicas: usize) -> Shape {
    Shape {
        min_replicas,
        max_lag: 2,
        ..Shape::default()
    }
}

/// Planned, so that the old master lives: nobody stays with it.
fn planned(min_replicas: usize) {
    let set = SentinelSet::of(shape(min_replicas));
    let cluster = nodes(&set.url(), 3, &[]);
    for _ in 0..2 {
        let old = set.master();
        // What the old master takes after the promotion is lost, until everybody has left it.
        let losing = Losing::from_now_on(&cluster);
        fail_over(
            &format!("sentinel, planned, min-replicas-to-write {min_replicas}"),
            &cluster,
            || {
                set.order_failover();
                set.wait_switched(old);
            },
        );
        // Long before the Sentinels end its connections.
        wait_for("an old master that everybody has left", || {
            let clients = set.servers[old].command(&["CLIENT", "LIST"]);
            (!clients.text().contains("resp=3")).then_some(())
        });
        drop(losing);
        cluster.note_loss();
        let role = set.servers[old].command(&["ROLE"]);
        assert_eq!(role.list()[0].text(), "master", "it was demoted first");
        set.wait_whole();
    }
    assert_eq!(logged(&cluster, WARNED), min_replicas < 2);
    cluster.judge();
}

/// Losses are noted all the time, until this is dropped.
#[allow(dead_code, reason = "dropping it ends them")]
struct Losing(std::sync::mpsc::Sender<()>);

impl Losing {
    fn from_now_on(cluster: &Cluster) -> Self {
        cluster.note_loss();
        let (over, ended) = std::sync::mpsc::channel();
        let recorder = cluster.recorder.clone();
        std::thread::spawn(move || {
            let every = Duration::from_millis(2);
            while ended.recv_timeout(every) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let now = recorder.now();
                recorder.add(|history| history.losses.push(now));
            }
        });
        Self(over)
    }
}

#[test]
fn planned_failover() {
    planned(0);
}

#[test]
fn planned_failover_with_min_replicas() {
    planned(1);
}

fn killed(min_replicas: usize) {
    let mut set = SentinelSet::of(shape(min_replicas));
    let cluster = nodes(&set.url(), 3, &[]);
    let old = set.master();
    cluster.note_loss();
    fail_over(
        &format!("sentinel, master killed, min-replicas-to-write {min_replicas}"),
        &cluster,
        || {
            set.servers[old].kill();
            set.wait_switched(old);
        },
    );
    cluster.note_loss();
    cluster.judge();
}

#[test]
fn master_killed() {
    killed(0);
}

#[test]
fn master_killed_with_min_replicas() {
    killed(1);
}

/// What both replicas acknowledged survives the promotion of either, though they miss
/// all that came after: nothing acknowledged is lost, by the oracle.
#[test]
fn nothing_acknowledged_is_lost_with_redis_wait() {
    let mut set = SentinelSet::of(shape(0));
    let cluster = nodes(&set.url(), 3, &[("--redis-wait", "2")]);
    let old = set.master();
    let before = cluster.working_leader();
    for replica in (0..3).filter(|at| *at != old) {
        set.servers[replica].pause();
    }
    set.servers[old].command(&["CLIENT", "KILL", "TYPE", "replica"]);
    let cut_off = cluster.recorder.now();
    cluster
        .recorder
        .wait("writes that nobody has", SOON, |history| {
            let since = history.writes.iter().filter(|write| write.sent > cut_off);
            (since.count() >= 4).then_some(())
        });
    set.servers[old].kill();
    for replica in (0..3).filter(|at| *at != old) {
        set.servers[replica].resume();
    }
    let new = set.wait_switched(old);
    // Without the second replica nothing counts: it must come back. One that seemed dead
    // during the failover would be told of its new master only after some 15 s.
    set.hurry(true);
    let port = set.servers[new].port().to_string();
    set.servers[old].rearm(&["--save", "", "--replicaof", "127.0.0.1", &port]);
    set.servers[old].start_again();
    let after = cluster.wait_for_write(before.epoch);
    assert!(after.epoch >= before.epoch);
    cluster.judge();
}

/// replica-promote: the replica lacks the last epochs and writes.
#[test]
fn a_replica_without_the_last_writes_is_promoted() {
    let mut set = SentinelSet::of(Shape {
        replicas: 1,
        ..shape(0)
    });
    let cluster = nodes(&set.url(), 3, &[]);
    let lead = cluster.working_leader();
    let (master, replica) = (set.master(), 1 - set.master());
    // What is on its way to it is all that it ever gets.
    set.servers[replica].pause();
    set.servers[master].command(&["CLIENT", "KILL", "TYPE", "replica"]);
    let asked_at = cluster.recorder.now();
    cluster.step_down(lead.node);
    let newest = cluster.leader_after(lead.epoch, asked_at, WORST);
    cluster.wait_for_write(newest.epoch);
    for index in 0..cluster.len() {
        cluster.wait_for(index, "has seen the epoch", |answer| {
            answer.term == Some(newest.epoch)
        });
    }
    cluster.note_loss();
    let killed_at = cluster.recorder.now();
    set.servers[master].kill();
    set.servers[replica].resume();
    let stale = wait_for("the replica as it is", || {
        match set.servers[replica].command(&["HGET", STATE_KEY, "epoch"]) {
            Reply::Text(epoch) => epoch.parse::<u64>().ok(),
            Reply::Nil => Some(0),
            _ => None,
        }
    });
    assert!(stale < newest.epoch, "it has the last epoch: {stale}");
    set.wait_switched(master);
    let next = cluster.recorder.wait("a later epoch", SOON, |history| {
        let later = |a: &&super::history::Answer| a.is_leader && a.token > Some(newest.epoch);
        history.answers.iter().find(later).map(|a| a.received)
    });
    cluster.note_loss();
    eprintln!(
        "sentinel, stale replica promoted: next leader {:.2} s after the kill",
        (next - killed_at).as_secs_f64()
    );
    let lost = |a: &super::history::Answer| {
        a.hold
            .as_deref()
            .is_some_and(|why| why.contains("forgotten"))
    };
    assert!(
        cluster.recorder.history().answers.iter().any(lost),
        "the regression was not told"
    );
    cluster.wait_for_write(newest.epoch + 1);
    cluster.judge();
}

/// An old master that is cut off from the Sentinels and its replica, together with the
/// leader; the leader's own Sentinel knows nothing of the switch.
struct Split {
    cluster: Cluster,
    set: Isolated,
    far: String,
}

struct Isolated {
    /// The way of everybody else to the master.
    way: Proxy,
    _master: RedisServer,
    replica: RedisServer,
    sentinels: Vec<RedisServer>,
}

fn split(min_replicas: usize) -> Split {
    let min = min_replicas.to_string();
    let arguments = [
        "--save",
        "",
        "--repl-diskless-sync-delay",
        "0",
        "--min-replicas-to-write",
        &min,
        "--min-replicas-max-lag",
        "2",
    ];
    let master = RedisServer::start_with(&arguments);
    let way = Proxy::start(master.port());
    let replica = RedisServer::start_with(&arguments);
    let port = way.port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    crate::sentinel_set::caught_up(&replica);
    let conf = |name: &str, port: u16, quorum: u8| {
        format!(
            "sentinel monitor {name} 127.0.0.1 {port} {quorum}\n\
             sentinel down-after-milliseconds {name} 1000\n\
             sentinel failover-timeout {name} 4000\n"
        )
    };
    let majority = conf(NAME, way.port(), 1);
    let minority = conf("isolated", master.port(), 2);
    let sentinels = vec![
        RedisServer::start_sentinel(&majority),
        RedisServer::start_sentinel(&minority),
    ];
    wait_for("a Sentinel that knows the replica", || {
        let known = sentinels[0].command(&["SENTINEL", "REPLICAS", NAME]);
        (known.list().len() == 1).then_some(())
    });
    let near = format!(
        "redis+sentinel://127.0.0.1:{}/isolated",
        sentinels[1].port()
    );
    let far = url_of(&[sentinels[0].port()]);
    let setup = |id: &str, url: &str| Setup::new(id, url).flag("--ttl", "1s");
    let mut cluster = Cluster::idle(vec![setup("n0", &near), setup("n1", &far)]);
    cluster.launch(0);
    cluster.working_leader();
    cluster.launch(1);
    cluster.wait_for(1, "follows", |answer| {
        answer.leader.as_deref() == Some("n0")
    });
    Split {
        cluster,
        set: Isolated {
            way,
            _master: master,
            replica,
            sentinels,
        },
        far,
    }
}

impl Split {
    /// Cuts the old master off; when the other node leads at the promoted replica.
    fn until_the_other_leads(&self) -> Duration {
        self.cluster.note_loss();
        let cut_at = self.cluster.recorder.now();
        self.set.way.set(Way::Hold, Way::Hold);
        wait_for("a promoted replica", || {
            let master = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
            let told = self.set.sentinels[0].command(&master);
            let port = self.set.replica.port().to_string();
            (told.list()[1].text() == port).then_some(())
        });
        let promoted = self.cluster.recorder.now() - cut_at;
        // Alone as it is, it could not take writes either.
        self.set
            .replica
            .command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
        let lead = self.cluster.first_lead("the other", SOON, |a| a.node == 1);
        self.cluster.note_loss();
        let took = lead.at - cut_at;
        eprintln!(
            "sentinel, old master cut off with the leader: promoted after {:.2} s, another leader \
             after {:.2} s",
            promoted.as_secs_f64(),
            took.as_secs_f64()
        );
        took
    }
}

/// The old master stops taking renewals before the promoted one grants the lease.
#[test]
fn an_old_master_that_is_cut_off_stops_in_time_with_min_replicas() {
    let split = split(1);
    let took = split.until_the_other_leads();
    // The hold is a TTL, the lag, and what Redis takes to notice it.
    assert!(took > Duration::from_secs(5), "{took:?}");
    let led = |a: &super::history::Answer| a.node == 0 && a.is_leader;
    let asked = split.cluster.recorder.now();
    split
        .cluster
        .wait_for(0, "leads no more", |answer| !answer.is_leader);
    let history = split.cluster.recorder.history().clone();
    assert!(!history.answers.iter().any(|a| led(a) && a.sent > asked));
    let trouble = |a: &super::history::Answer| {
        a.trouble
            .as_deref()
            .is_some_and(|text| text.contains("min-replicas-to-write"))
    };
    assert!(
        history.answers.iter().any(|a| a.node == 0 && trouble(a)),
        "NOREPLICAS is told"
    );
    split.cluster.judge();
}

/// Without it nothing is claimed: two lead, each under an epoch of its own, and the
/// node has said so.
#[test]
fn an_old_master_that_is_cut_off_goes_on_without_min_replicas() {
    let split = split(0);
    assert!(logged(&split.cluster, WARNED));
    split.until_the_other_leads();
    let old = split
        .cluster
        .wait_for(0, "still leads", |answer| answer.is_leader);
    let new = split
        .cluster
        .wait_for(1, "leads", |answer| answer.is_leader);
    assert!(new.token > old.token, "the fence tells them apart");
    let claim = claims(&split.far).one_leader.to_string();
    assert!(claim.contains("min-replicas-to-write"), "{claim}");
}
