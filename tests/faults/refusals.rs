//! A store that refuses: a clear status, no crash, and recovery without a restart.

use super::cluster::{Cluster, HOLD, SOON, TTL, WORST};
use super::history::Answer;
use super::node::Setup;
use super::proxy::Proxy;
use super::redis_server::RedisServer;
use super::stores::LEADER_KEY;

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + SOON;
    while !done() {
        assert!(std::time::Instant::now() < until, "in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn ok(redis: &RedisServer, words: &[&str]) {
    assert_eq!(redis.command(words).text(), "OK", "{words:?}");
}

/// Two nodes see `store` refuse, say why, lead no more, and go on when it is mended.
fn refuses(
    mut redis: RedisServer,
    words: &str,
    break_it: impl FnOnce(&mut RedisServer),
    mend: impl FnOnce(&mut RedisServer),
) {
    let cluster = Cluster::start(&[redis.url(), redis.url()]);
    let lead = cluster.working_leader();
    cluster.note_loss();
    break_it(&mut redis);
    let told = |answer: &Answer| {
        let trouble = answer.trouble.as_deref().unwrap_or_default();
        trouble.contains(words) && !answer.connected && !answer.is_leader
    };
    for node in 0..2 {
        cluster.wait_for(node, words, told);
        assert_eq!(cluster.http(node).get("/livez").unwrap().status, 200);
    }
    mend(&mut redis);
    cluster.note_loss();
    let mended_at = cluster.recorder.now();
    let next = cluster.leader_after(0, mended_at, WORST + HOLD);
    assert!(next.epoch > lead.epoch);
    cluster.wait_for_write(next.epoch);
    let fine = |answer: &Answer| answer.trouble.is_none() && answer.connected;
    for node in 0..2 {
        cluster.wait_for(node, "no trouble any more", fine);
    }
    cluster.judge();
}

/// store-readonly
#[test]
fn a_read_only_replica() {
    refuses(
        RedisServer::start(),
        "read-only replica",
        |redis| ok(redis, &["REPLICAOF", "127.0.0.1", "1"]),
        |redis| ok(redis, &["REPLICAOF", "NO", "ONE"]),
    );
}

/// Too few replicas for min-replicas-to-write.
#[test]
fn too_few_replicas() {
    refuses(
        RedisServer::start(),
        "fewer replicas than its min-replicas-to-write",
        |redis| ok(redis, &["CONFIG", "SET", "min-replicas-to-write", "1"]),
        |redis| ok(redis, &["CONFIG", "SET", "min-replicas-to-write", "0"]),
    );
}

/// A password that is changed under the nodes, and changed back. Redis asks nobody who
/// is logged in again, so that the connections are ended, too.
#[test]
fn another_password() {
    let change = |redis: &RedisServer, login: &[&str], password: &str| {
        let mut raw = redis.raw();
        if !login.is_empty() {
            assert_eq!(raw.command(login).text(), "OK");
        }
        let set = ["CONFIG", "SET", "requirepass", password];
        assert_eq!(raw.command(&set).text(), "OK");
        raw.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    };
    refuses(
        RedisServer::start(),
        "wants a password",
        |redis| change(redis, &[], "new"),
        |redis| change(redis, &["AUTH", "new"], ""),
    );
}

/// Rights that are taken away and given back.
#[test]
fn no_right_to_a_command() {
    let redis = RedisServer::start();
    ok(
        &redis,
        &["ACL", "SETUSER", "app", "on", ">x", "~*", "&*", "+@all"],
    );
    let home = tempfile::tempdir().unwrap();
    let password = home.path().join("password");
    std::fs::write(&password, "x").unwrap();
    let setup = |id: &str| {
        let setup = Setup::new(id, &redis.url()).flag("--ttl", "1s");
        let setup = setup.flag("--username", "app");
        setup.flag("--password-file", password.display())
    };
    let cluster = Cluster::of(vec![setup("n0"), setup("n1")]);
    let lead = cluster.working_leader();
    // Those that stand are ended: what lacks is asked for at connect.
    ok(&redis, &["ACL", "SETUSER", "app", "-hset", "-pexpireat"]);
    redis.command(&["CLIENT", "KILL", "USER", "app"]);
    for node in 0..2 {
        cluster.wait_for(node, "what lacks", |answer| {
            let trouble = answer.trouble.as_deref().unwrap_or_default();
            trouble.contains("PEXPIREAT tenure:{default}:leader, HSET tenure:{default}:state")
                && trouble.contains("ACL SETUSER app")
                && !answer.is_leader
        });
    }
    ok(&redis, &["ACL", "SETUSER", "app", "+hset", "+pexpireat"]);
    let next = cluster.leader_after(0, cluster.recorder.now(), WORST + HOLD);
    assert!(next.epoch >= lead.epoch);
    cluster.wait_for_write(next.epoch);
    cluster.judge();
}

/// A proxy in between that ends connections on which nothing was said for a while. The
/// leader says something often enough; the followers come back, and no lease is lost.
#[test]
fn idle_connections_are_dropped() {
    let redis = RedisServer::start();
    let proxies: Vec<Proxy> = (0..3).map(|_| Proxy::start(redis.port())).collect();
    for proxy in &proxies {
        proxy.drop_idle(TTL / 2);
    }
    let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
    let cluster = Cluster::start(&urls);
    let lead = cluster.working_leader();
    cluster.all_know(lead);
    let quiet = cluster.recorder.now();
    wait_until("connections that were dropped", || {
        proxies.iter().map(Proxy::dropped).sum::<u64>() >= 6
    });
    let end = cluster.ask(lead.node);
    assert_eq!((end.is_leader, end.token), (true, Some(lead.epoch)));
    let history = cluster.recorder.history().clone();
    let since = history.answers.iter().filter(|a| a.sent > quiet);
    let wrong =
        since.filter(|a| a.is_leader != (a.node == lead.node) || a.term != Some(lead.epoch));
    assert_eq!(wrong.count(), 0, "the status flaps");
    // And wake-ups are heard.
    let asked_at = cluster.recorder.now();
    cluster.step_down(lead.node);
    cluster.leader_after(lead.epoch, asked_at, WORST);
    cluster.judge();
}

/// store-full: the memory. Renewals need none and go on; the app's writes are refused
/// with the reason, and nobody is granted the lease anew until there is room.
#[test]
fn out_of_memory() {
    let redis = RedisServer::start();
    let mut cluster = Cluster::start(&[redis.url(), redis.url()]);
    let lead = cluster.working_leader();
    ok(&redis, &["CONFIG", "SET", "maxmemory", "1"]);
    let token = lead.epoch.to_string();
    let headers = [("Fence-Token", token.as_str())];
    let put = cluster
        .http(lead.node)
        .ask("PUT", "/checkpoint", &headers, b"x")
        .unwrap();
    assert_eq!(
        (put.status, &put.json()["outcome"]),
        (503, &"not_applied".into())
    );
    assert!(
        put.json()["detail"]
            .as_str()
            .unwrap()
            .contains("used up its memory")
    );
    std::thread::sleep(TTL * 2);
    assert_eq!(cluster.ask(lead.node).token, Some(lead.epoch));
    let other = cluster.other(lead.node);
    cluster.kill(lead.node);
    cluster.wait_for(other, "used up its memory", |answer| {
        let trouble = answer.trouble.as_deref().unwrap_or_default();
        trouble.contains("used up its memory") && !answer.is_leader
    });
    ok(&redis, &["CONFIG", "SET", "maxmemory", "0"]);
    let next = cluster.leader_after(lead.epoch, cluster.recorder.now(), WORST);
    cluster.wait_for_write(next.epoch);
    cluster.judge();
}

/// store-full: the disk, as far as Redis knows of it.
#[test]
fn cannot_save() {
    let saved = |redis: &RedisServer, how: &str| {
        redis.command(&["BGSAVE"]);
        wait_until(how, || {
            redis.command(&["INFO", "persistence"]).text().contains(how)
        });
    };
    refuses(
        RedisServer::start(),
        "could not save to disk",
        |redis| {
            std::fs::create_dir_all(redis.dir().join("dump.rdb/in the way")).unwrap();
            ok(redis, &["CONFIG", "SET", "save", "3600 1"]);
            saved(redis, "rdb_last_bgsave_status:err");
        },
        |redis| {
            std::fs::remove_dir_all(redis.dir().join("dump.rdb")).unwrap();
            saved(redis, "rdb_last_bgsave_status:ok");
        },
    );
}

/// A server that is up and not yet ready: it would load for 20 s.
#[test]
fn still_loading() {
    // Compressed, the fillers would be loaded in so few bytes that the server hardly
    // looks up to refuse anybody.
    let slowly = [
        "--save",
        "",
        "--rdbcompression",
        "no",
        "--key-load-delay",
        "20000",
        "--rdbcompression",
        "no",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let redis = RedisServer::start_with(&slowly);
    let filler = "x".repeat(500);
    let mut raw = redis.raw();
    for key in 0..1000 {
        raw.command(&["SET", &format!("filler {key}"), &filler]);
    }
    refuses(
        redis,
        "loading its data",
        |redis| {
            ok(redis, &["SAVE"]);
            redis.kill();
            redis.start_again();
        },
        |redis| {
            ok(redis, &["CONFIG", "SET", "key-load-delay", "0"]);
            wait_until("loaded", || {
                let told = redis.command(&["INFO", "persistence"]);
                told.text().contains("\nloading:0")
            });
        },
    );
}

/// SCRIPT FLUSH is no trouble at all.
#[test]
fn scripts_flushed() {
    let redis = RedisServer::start();
    let cluster = Cluster::start(&[redis.url(), redis.url()]);
    let lead = cluster.leader();
    for _ in 0..5 {
        ok(&redis, &["SCRIPT", "FLUSH"]);
        cluster.wait_for_write(lead.epoch);
        std::thread::sleep(TTL / 3);
    }
    assert_eq!(cluster.ask(lead.node).token, Some(lead.epoch));
    // A busy machine may have its own trouble; this is none.
    let told = |a: &Answer| {
        a.trouble
            .as_deref()
            .is_some_and(|text| text.contains("cript"))
    };
    assert!(!cluster.recorder.history().answers.iter().any(told));
    cluster.judge();
}

/// disk-full: an epoch that cannot be remembered is not led under.
#[test]
fn the_state_directory_is_full() {
    let redis = RedisServer::start();
    let home = tempfile::tempdir().unwrap();
    // What is written beside the record, before it replaces it, meets a full device.
    let full = home.path().join("default.seen.new");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let setup = |id: &str| Setup::new(id, &redis.url()).flag("--ttl", "1s");
    let cluster = Cluster::idle(vec![
        setup("full").flag("--state-dir", home.path().display()),
        setup("fine"),
    ]);
    let mut cluster = cluster;
    cluster.launch(0);
    let told = |answer: &Answer| {
        let trouble = answer.trouble.as_deref().unwrap_or_default();
        trouble.contains("No space left") && trouble.contains("default.seen.new")
    };
    cluster.wait_for(0, "a clear error", told);
    // What it was granted and could not remember is free at once.
    let asked_at = cluster.recorder.now();
    cluster.launch(1);
    let lead = cluster.leader_after(0, asked_at, WORST);
    assert_eq!(lead.node, 1);
    cluster.wait_for_write(lead.epoch);
    assert!(
        redis
            .command(&["GET", LEADER_KEY])
            .text()
            .starts_with(&lead.epoch.to_string())
    );
    std::fs::remove_file(&full).unwrap();
    cluster.stop(1);
    let next = cluster.leader_after(lead.epoch, cluster.recorder.now(), WORST);
    assert_eq!(next.node, 0);
    cluster.wait_for_write(next.epoch);
    let remembered = std::fs::read_to_string(home.path().join("default.seen.json")).unwrap();
    assert!(remembered.contains(&next.epoch.to_string()), "{remembered}");
    cluster.judge();
}
