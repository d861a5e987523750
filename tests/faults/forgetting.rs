//! A store that forgets: restarted, flushed, set back, promoted too early. No epoch
//! comes again, and whoever remembers waits until no lease can be standing.

use std::time::Duration;

use super::cluster::{Cluster, HOLD, Lead, SOON, TTL, WORST};
use super::history::At;
use super::proxy::{Proxy, Way};
use super::redis_server::{RedisServer, Reply};
use super::stores::{LEADER_KEY, Net, STATE_KEY};

/// What becomes of the leader while the store forgets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leader {
    Lives,
    Dies,
}

/// Injects `loss` and judges who leads next. A leader that lives is the incumbent:
/// it may go on at once, under a new epoch. Anybody else waits out the longest lease.
fn forget(leader: Leader, cluster: &mut Cluster, loss: impl FnOnce()) -> Forgotten {
    let lead = cluster.working_leader();
    // Whoever is to remember must have seen the epoch.
    for index in 0..cluster.len() {
        let seen = |answer: &super::history::Answer| answer.term == Some(lead.epoch);
        cluster.wait_for(index, "has seen the epoch", seen);
    }
    if leader == Leader::Dies {
        cluster.kill(lead.node);
    }
    cluster.note_loss();
    let lost_at = cluster.recorder.now();
    loss();
    let over_at = cluster.recorder.now();
    cluster.note_loss();
    // A lease that stands is waited for first, then the hold begins.
    let next = cluster.leader_after(lead.epoch, over_at, WORST + HOLD);
    let promised = cluster.promised(lead);
    if leader == Leader::Dies {
        assert_ne!(next.node, lead.node);
        assert!(
            next.at >= promised,
            "{:?} before the lease ended",
            promised - next.at
        );
    }
    cluster.wait_for_write(next.epoch);
    Forgotten {
        lead,
        lost_at,
        next,
    }
}

struct Forgotten {
    lead: Lead,
    lost_at: At,
    next: Lead,
}

impl Forgotten {
    /// Nobody but the incumbent was granted before the longest TTL had passed.
    #[track_caller]
    fn held(self) -> Lead {
        if self.next.node != self.lead.node {
            waited(self.lost_at, self.next);
        }
        self.next
    }
}

#[track_caller]
fn waited(since: At, next: Lead) {
    let waited = next.at.saturating_sub(since);
    assert!(waited >= TTL, "granted {waited:?} after the store forgot");
}

/// Two rounds: the incumbent lives, then it dies.
fn forget_twice(mut loss: impl FnMut(&mut RedisServer), redis: RedisServer) {
    let mut redis = redis;
    let mut cluster = Cluster::start(&[redis.url(), redis.url()]);
    forget(Leader::Lives, &mut cluster, || loss(&mut redis)).held();
    forget(Leader::Dies, &mut cluster, || loss(&mut redis)).held();
    cluster.judge();
}

/// store-flush, whole.
#[test]
fn flush_all() {
    forget_twice(
        |redis| assert_eq!(redis.command(&["FLUSHALL"]).text(), "OK"),
        RedisServer::start_durable(),
    );
}

/// store-flush, one key alone. The other one tells until when the lease was, so that
/// nobody who asks after that need wait any longer.
#[test]
fn the_lease_deleted() {
    let redis = RedisServer::start_durable();
    let mut cluster = Cluster::start(&[redis.url(), redis.url()]);
    for leader in [Leader::Lives, Leader::Dies] {
        let delete = || assert_eq!(redis.command(&["DEL", LEADER_KEY]), Reply::Number(1));
        let forgotten = forget(leader, &mut cluster, delete);
        if leader == Leader::Lives {
            assert_eq!(
                forgotten.next.node, forgotten.lead.node,
                "the incumbent goes on"
            );
        }
    }
    cluster.judge();
}

/// store-flush, the other key alone.
#[test]
fn the_state_deleted() {
    forget_twice(
        |redis| assert_eq!(redis.command(&["DEL", STATE_KEY]), Reply::Number(1)),
        RedisServer::start_durable(),
    );
}

/// store-restart: killed, with nothing on disk.
#[test]
fn restarted_without_a_log() {
    forget_twice(
        |redis| {
            redis.kill();
            redis.start_again();
        },
        RedisServer::start(),
    );
}

/// store-restart: killed, with every write on disk. Nothing is lost at all.
#[test]
fn restarted_with_a_log() {
    let mut redis = RedisServer::start_durable();
    let mut cluster = Cluster::start(&[redis.url(), redis.url()]);
    for round in 0..3 {
        let lead = cluster.working_leader();
        if round == 2 {
            cluster.kill(lead.node);
        }
        redis.kill();
        let down_at = cluster.recorder.now();
        redis.start_again();
        let up_at = cluster.recorder.now();
        let above = if round == 2 {
            lead.epoch
        } else {
            lead.epoch - 1
        };
        let next = cluster.leader_after(above, up_at, WORST + HOLD);
        if next.node != lead.node {
            waited(down_at, next);
        }
        cluster.wait_for_write(next.epoch);
    }
    cluster.judge();
}

/// set-back-store: all is stopped, and the store comes back as it was some epochs ago.
fn set_back(with_state_dir: bool) {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut redis = RedisServer::start();
    let setups = homes.iter().enumerate().map(|(index, home)| {
        let setup = super::node::Setup::new(&format!("n{index}"), &redis.url());
        let setup = setup.flag("--ttl", "1s");
        if with_state_dir {
            setup.flag("--state-dir", home.path().display())
        } else {
            setup
        }
    });
    let mut cluster = Cluster::of(setups.collect());
    let mut lead = cluster.working_leader();
    assert_eq!(redis.command(&["SAVE"]).text(), "OK");
    let dump = redis.dir().join("dump.rdb");
    let older = std::fs::read(&dump).unwrap();
    for _ in 0..2 {
        let asked_at = cluster.recorder.now();
        cluster.step_down(lead.node);
        lead = cluster.leader_after(lead.epoch, asked_at, WORST);
        cluster.wait_for_write(lead.epoch);
    }
    cluster.kill(0);
    cluster.kill(1);
    redis.kill();
    cluster.note_loss();
    std::fs::write(&dump, older).unwrap();
    redis.start_again();
    let back_at = cluster.recorder.now();
    cluster.launch(0);
    cluster.launch(1);
    let next = cluster.leader_after(lead.epoch, cluster.recorder.now(), WORST + HOLD);
    if with_state_dir {
        waited(back_at, next);
    }
    cluster.wait_for_write(next.epoch);
    cluster.judge();
}

#[test]
fn set_back_with_memory() {
    set_back(true);
}

#[test]
fn set_back_without_memory() {
    set_back(false);
}

/// replica-promote: the replica has neither the lease nor the last epoch.
fn promote(leader: Leader) {
    let net = Net::of(RedisServer::start(), 2);
    let mut cluster = Cluster::start(&net.urls());
    let lead = cluster.working_leader();
    let feed = Proxy::start(net.redis.port());
    let replica = RedisServer::start();
    let port = feed.port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    let until = cluster.recorder.now() + SOON;
    while replica.command(&["EXISTS", STATE_KEY]) != Reply::Number(1) {
        assert!(
            cluster.recorder.now() < until,
            "the replica does not catch up"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    feed.set(Way::Hold, Way::Hold);
    let asked_at = cluster.recorder.now();
    cluster.step_down(lead.node);
    let newest = cluster.leader_after(lead.epoch, asked_at, WORST);
    let stale = replica.command(&["HGET", STATE_KEY, "epoch"]);
    assert_eq!(stale.text(), lead.epoch.to_string());
    let next = forget(leader, &mut cluster, || {
        assert_eq!(replica.command(&["REPLICAOF", "NO", "ONE"]).text(), "OK");
        for proxy in &net.proxies {
            proxy.lead_to(replica.port());
        }
    });
    let next = next.held();
    assert!(next.epoch > newest.epoch);
    cluster.judge();
}

#[test]
fn promoted_while_the_leader_lives() {
    promote(Leader::Lives);
}

#[test]
fn promoted_when_the_leader_is_dead() {
    promote(Leader::Dies);
}
