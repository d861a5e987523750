//! Sentinels and Clusters that are not what the address says, or not well; and slots
//! on the move.

use std::sync::Arc;
use std::time::Duration;

use tenure::backend::{Answer, Backend, Store as _};
use tenure::lease::{Acquired, Hint, Renewed, StoreError};

use super::cluster_server::{RedisCluster, url_of as cluster_url};
use super::logged::Lines;
use super::ports::free_port;
use super::redis_server::{RedisServer, Reply};
use super::refusals::refusal;
use super::sentinel_set::{SentinelSet, Shape, url_of as sentinel_url, wait_for};
use super::{TTL, bid, claim, election, next, store_at, store_that_waits, until, win};

#[tokio::test]
async fn sentinels_that_cannot_serve_are_told_apart() {
    let set = SentinelSet::start();
    let told = |error: StoreError| error.to_string();
    let sentinel = set.sentinels[0].port();

    let nobody = refusal(&sentinel_url(&[free_port(), free_port()])).await;
    assert!(matches!(nobody, StoreError::Unavailable(_)), "{nobody}");
    assert!(told(nobody).contains("no Sentinel of redis+sentinel://"));

    let other_name = format!("redis+sentinel://127.0.0.1:{sentinel}/elsewhere");
    let unknown = refusal(&other_name).await;
    assert!(matches!(unknown, StoreError::Misconfigured(_)), "{unknown}");
    let text = told(unknown);
    assert!(
        text.contains("no master called \"elsewhere\"; it watches mymaster"),
        "{text}"
    );

    let server = set.servers[0].port();
    let none = refusal(&sentinel_url(&[server])).await;
    assert!(matches!(none, StoreError::Misconfigured(_)), "{none}");
    let text = told(none);
    assert!(
        text.contains(&format!("write redis://127.0.0.1:{server}")),
        "{text}"
    );

    let alone = refusal(&format!("redis://127.0.0.1:{sentinel}")).await;
    assert!(matches!(alone, StoreError::Misconfigured(_)), "{alone}");
    assert!(told(alone).contains("redis+sentinel://127.0.0.1"));

    // One that is away is no matter, wherever it stands in the list.
    let store = store_at(&sentinel_url(&[free_port(), sentinel, free_port()]));
    win(&election(&store, "e"), 1).await;
}

/// A Sentinel that slept through a failover, and is the only one left: it names the old
/// master, which takes writes still. Nobody goes back to it.
#[tokio::test]
async fn a_sentinel_that_is_behind_is_not_followed() {
    let mut set = SentinelSet::start();
    let store = store_at(&set.url());
    let one = election(&store, "e");
    win(&one, 1).await;
    set.sentinels[2].pause();
    let old = set.master_by(0);
    set.order_failover();
    let new = wait_for("a switch", || {
        let named = [set.master_by(0), set.master_by(1)];
        (named[0] != old && named[0] == named[1]).then_some(named[0])
    });
    let at_old = || {
        let clients = set.servers[old].command(&["CLIENT", "LIST"]);
        clients.text().contains("resp=3")
    };
    until(|| async { at_old() }, |there| !there).await;
    // What is on its way to it would tell of the switch, too.
    set.sentinels[2].kill();
    set.sentinels[0].kill();
    set.sentinels[1].kill();
    set.sentinels[2].start_again();
    assert_eq!(set.master_by(2), old, "it is not behind");
    let role = set.servers[old].command(&["ROLE"]);
    assert_eq!(role.list()[0].text(), "master", "nobody would stay with it");
    for round in 0..3 {
        set.servers[new].command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        until(|| one.observe(), Result::is_ok).await.unwrap();
        let clients = set.servers[old].command(&["CLIENT", "LIST"]);
        assert!(
            !clients.text().contains("resp=3"),
            "round {round}: it went back"
        );
    }
}

#[tokio::test]
async fn a_sentinel_with_a_password_of_its_own_is_given_the_login() {
    let set = SentinelSet::start();
    for server in set.servers.iter().chain(&set.sentinels) {
        server.command(&["CONFIG", "SET", "requirepass", "s3cret"]);
        server.command(&["ACL", "SETUSER", "default", "resetpass", ">s3cret"]);
    }
    let store = store_at(&set.url().replace("://", "://:s3cret@"));
    win(&election(&store, "e"), 1).await;
    let wrong = refusal(&set.url().replace("://", "://:wrong@")).await;
    assert!(matches!(wrong, StoreError::Rejected(_)), "{wrong}");
    assert!(!wrong.to_string().contains("wrong@"), "{wrong}");
    let none = refusal(&set.url()).await.to_string();
    assert!(none.contains("wants a password"), "{none}");
}

#[tokio::test]
async fn clusters_that_cannot_serve_are_told_apart() {
    let nobody = refusal(&cluster_url(&[free_port(), free_port()])).await;
    assert!(matches!(nobody, StoreError::Unavailable(_)), "{nobody}");
    assert!(
        nobody.to_string().contains("no node of redis+cluster://"),
        "{nobody}"
    );

    let alone = RedisServer::start();
    let error = refusal(&cluster_url(&[alone.port()])).await;
    assert!(matches!(error, StoreError::Misconfigured(_)), "{error}");
    let advice = format!("write redis://127.0.0.1:{}", alone.port());
    assert!(error.to_string().contains(&advice), "{error}");

    // A node of its own, without slots: no cluster yet, and one as soon as it is made.
    let bus = free_port().to_string();
    let node = RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    let error = refusal(&node.url()).await;
    assert!(matches!(error, StoreError::Misconfigured(_)), "{error}");
    assert!(
        error.to_string().contains("write redis+cluster://"),
        "{error}"
    );
    let store = store_at(&cluster_url(&[node.port()]));
    let one = election(&store, "e");
    let error = one.observe().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("has slot"), "{error}");
    node.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until(|| one.observe(), Result::is_ok).await.unwrap();
    win(&one, 1).await;
    // It loses a slot, not this one: it serves nobody, and says so.
    node.command(&["CLUSTER", "DELSLOTS", "0"]);
    let down = until(
        || one.observe(),
        |answer| matches!(answer, Err(error) if error.to_string().contains("serves nobody")),
    );
    assert!(!down.await.unwrap_err().may_have_happened());
    node.command(&["CLUSTER", "ADDSLOTS", "0"]);
    until(|| one.observe(), Result::is_ok).await.unwrap();
}

/// An election whose keys stand at node `from`, to be moved to `to`.
struct Moving {
    cluster: RedisCluster,
    one: Arc<dyn Backend>,
    slot: u16,
    from: usize,
    to: usize,
}

async fn moving() -> Moving {
    let cluster = RedisCluster::start();
    let store = store_at(&cluster.url());
    let slot = cluster.slot_of("tenure:{e}:leader");
    let from = cluster.owner(slot);
    Moving {
        one: election(&store, "e"),
        to: (from + 1) % 3,
        cluster,
        slot,
        from,
    }
}

#[tokio::test]
async fn a_slot_that_moves_costs_no_renewal_and_tells_a_gap() {
    let Moving {
        cluster,
        one,
        slot,
        from,
        to,
    } = moving().await;
    let epoch = win(&one, 1).await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let kept = async || {
        let answer = one.renew(&claim(1, epoch)).await;
        assert_eq!(answer, Ok(Renewed::Kept { left: TTL }));
    };
    kept().await;
    cluster.begin_migration(slot, from, to);
    kept().await;
    // One key here and one there: nobody can answer, and nothing is done.
    let port = cluster.nodes[to].port().to_string();
    let words = [
        "MIGRATE",
        "127.0.0.1",
        &port,
        "tenure:{e}:leader",
        "0",
        "5000",
    ];
    assert_eq!(
        cluster.nodes[from].command(&words),
        Reply::Text("OK".to_owned())
    );
    let error = one.renew(&claim(1, epoch)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("moving the keys"), "{error}");
    cluster.move_keys(slot, from, to);
    // Sent on, request by request (ASK).
    kept().await;
    let read = one.read_checkpoint().await;
    assert!(read.is_ok() || !read.unwrap_err().may_have_happened());
    cluster.end_migration(slot, to);
    kept().await;
    assert_eq!(next(&mut hints).await, Hint::Gap);
    let Hint::Present(observed) = next(&mut hints).await else {
        panic!("no state after the gap");
    };
    assert_eq!(observed.epoch, Some(epoch));
    // And wake-ups come from the new node.
    one.release(&claim(1, epoch), None).await.unwrap();
    assert!(matches!(next(&mut hints).await, Hint::Ended { epoch: ended, .. } if ended == epoch));
}

/// A new owner is another server: nobody else is granted the lease without a hold, and
/// while it stands they are told who has it.
#[tokio::test]
async fn a_moved_lease_is_known_at_its_new_node() {
    let Moving {
        cluster,
        one,
        slot,
        from,
        to,
    } = moving().await;
    let epoch = win(&one, 1).await;
    cluster.migrate(slot, from, to);
    let other = election(&store_at(&cluster.url()), "e");
    match other.acquire(&bid(2)).await {
        Ok(Acquired::Held { holder, left }) => {
            assert_eq!(holder.epoch, epoch);
            assert!(left > TTL / 2, "{left:?}");
        }
        answer => panic!("{answer:?}"),
    }
    assert_eq!(
        one.renew(&claim(1, epoch)).await,
        Ok(Renewed::Kept { left: TTL })
    );
}

#[tokio::test]
async fn hints_stay_with_the_nodes_of_a_slot() {
    let Moving {
        cluster, one, from, ..
    } = moving().await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let channels = |node: usize, what: &str| {
        let told = cluster.nodes[node].command(&["PUBSUB", what]);
        told.list().len()
    };
    assert_eq!(channels(from, "SHARDCHANNELS"), 1);
    for node in 0..3 {
        assert_eq!(channels(node, "CHANNELS"), 0);
    }
    drop(hints);
    until(
        || async { channels(from, "SHARDCHANNELS") },
        |left| *left == 0,
    )
    .await;
}

/// What lets two nodes lead during a failover is warned of once, with what ends it.
#[tokio::test]
async fn a_master_that_needs_no_replica_is_warned_of() {
    for (min_replicas, said) in [
        (0, Some("CONFIG SET min-replicas-to-write 2")),
        (1, Some("cut off together with a replica")),
        (2, None),
    ] {
        let set = SentinelSet::of(Shape {
            min_replicas,
            ..Shape::default()
        });
        let (lines, _guard) = Lines::gather();
        let store = store_at(&set.url());
        win(&election(&store, "e"), 1).await;
        let text = lines.text();
        let warned = text.contains("may not survive a failover");
        assert_eq!(warned, said.is_some(), "{text}");
        assert!(text.contains(said.unwrap_or("")), "{text}");
    }
}

/// The lag of an old master is waited for, where it is one that stops.
#[tokio::test]
async fn a_hold_outlasts_an_old_master() {
    for (min_replicas, beyond) in [(0, Duration::ZERO), (1, Duration::from_millis(5_300))] {
        let set = SentinelSet::of(Shape {
            min_replicas,
            max_lag: 3,
            ..Shape::default()
        });
        let store = store_at(&set.url());
        let one = election(&store, "e");
        let epoch = win(&one, 1).await;
        let held = set.servers[set.master()].command(&["HGET", "tenure:{e}:state", "hold_ms"]);
        let expected = bid(1).hold + beyond;
        assert_eq!(held.text(), expected.as_millis().to_string());
        one.release(&claim(1, epoch), None).await.unwrap();
    }
}

#[tokio::test]
async fn each_kind_says_what_it_promises() {
    let alone = store_at("redis://127.0.0.1:1").guarantees();
    assert_eq!((alone.kind, alone.one_leader), ("redis", Answer::Yes));
    for (url, kind) in [
        ("redis+sentinel://127.0.0.1:1/m", "redis+sentinel"),
        ("redis+cluster://127.0.0.1:1", "redis+cluster"),
    ] {
        let said = store_at(url).guarantees();
        assert_eq!(said.kind, kind);
        assert_eq!(said.epochs_never_repeat, Answer::Yes);
        assert!(
            said.one_leader
                .to_string()
                .contains("min-replicas-to-write")
        );
        assert!(
            said.survives_store_crash
                .to_string()
                .contains("--redis-wait")
        );
        let waits = store_that_waits(url, 2).guarantees().survives_store_crash;
        assert!(waits.to_string().contains("one of the 2 replicas"));
    }
}
