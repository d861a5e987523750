//! A Redis user with the least rights that work: what the message says is what works,
//! and whatever lacks is named.

use std::sync::Arc;

use tenure::backend::Backend;
use tenure::lease::{
    CheckpointRead, CheckpointWrite, CheckpointWritten, Hint, Released, Renewed, SessionId,
    StoreError,
};

use super::cluster_server::RedisCluster;
use super::logged::Lines;
use super::redis_server::{Raw, RedisServer, Reply};
use super::refusals::refusal;
use super::sentinel_set::SentinelSet;
use super::{TTL, claim, election, next, store_at, store_that_waits, until, win};

const NEW_USER: [&str; 6] = ["ACL", "SETUSER", "app", "reset", "on", ">x"];

/// A new user with these rights.
fn set_user(server: &RedisServer, rights: &[&str]) {
    let words: Vec<&str> = NEW_USER.iter().chain(rights).copied().collect();
    assert_eq!(
        server.command(&words),
        Reply::Text("OK".to_owned()),
        "{rights:?}"
    );
}

fn url(server: &RedisServer) -> String {
    format!("redis://app:x@127.0.0.1:{}", server.port())
}

/// The rights in the line that a message tells.
fn told(message: &str) -> Vec<String> {
    let (_, line) = message
        .split_once("ACL SETUSER app ")
        .expect("a line to type");
    line.split_whitespace().map(str::to_owned).collect()
}

fn words(rights: &[String]) -> Vec<&str> {
    rights.iter().map(String::as_str).collect()
}

/// Everything that a store is asked for.
async fn a_whole_tenure(one: &Arc<dyn Backend>) {
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let epoch = win(one, 1).await;
    assert_eq!(next(&mut hints).await, Hint::Began(epoch));
    let kept = one.renew(&claim(1, epoch)).await;
    assert_eq!(kept, Ok(Renewed::Kept { left: TTL }));
    let write = CheckpointWrite {
        epoch,
        session: SessionId::from_bits(1),
        expected: None,
        bytes: vec![1],
    };
    let written = one.write_checkpoint(&write).await;
    assert!(
        matches!(written, Ok(CheckpointWritten::Written(_))),
        "{written:?}"
    );
    let read = one.read_checkpoint().await;
    assert!(matches!(read, Ok(CheckpointRead::Present(_))), "{read:?}");
    let released = one.release(&claim(1, epoch), None).await;
    assert_eq!(released, Ok(Released::Released));
    assert!(matches!(next(&mut hints).await, Hint::Ended { .. }));
}

/// The line that is told to a user who may hardly do anything.
async fn least(server: &RedisServer) -> Vec<String> {
    set_user(server, &["+eval", "+info"]);
    let error = refusal(&url(server)).await;
    assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    told(&error.to_string())
}

#[tokio::test]
async fn the_line_that_is_told_suffices_and_allows_nothing_else() {
    let server = RedisServer::start();
    let rights = least(&server).await;
    let page = include_str!("../../docs/stores.md");
    let line = format!("ACL SETUSER tenure on >PASSWORD {}", rights.join(" "));
    assert!(page.contains(&line), "docs/stores.md lacks: {line}");
    let (lines, _guard) = Lines::gather();
    set_user(&server, &words(&rights));
    let store = store_at(&url(&server));
    a_whole_tenure(&election(&store, "e")).await;
    assert!(!lines.text().contains("WARN"), "{}", lines.text());

    let mut raw = Raw::connect(server.port()).unwrap();
    raw.command(&["AUTH", "app", "x"]);
    for forbidden in [
        &["GET", "other"][..],
        &["SET", "other", "x"],
        &["FLUSHALL"],
        &["KEYS", "*"],
        &["CONFIG", "SET", "save", ""],
        &["SCRIPT", "FLUSH"],
        &["PUBLISH", "other", "x"],
        &["ACL", "LIST"],
        &["SHUTDOWN"],
    ] {
        let answer = raw.command(forbidden);
        assert!(
            answer.error().starts_with("NOPERM"),
            "{forbidden:?}: {answer:?}"
        );
    }
}

/// Each right, left out: what lacks is refused, or warned of where it can be missed.
#[tokio::test]
async fn each_right_that_lacks_is_named() {
    let server = RedisServer::start();
    let rights = least(&server).await;
    for (at, left_out) in rights.iter().enumerate() {
        let mut others = words(&rights);
        others.remove(at);
        set_user(&server, &others);
        let named = match left_out.as_str() {
            "~tenure:*" => "GET tenure:{e}:leader".to_owned(),
            "&tenure:*" => "PUBLISH tenure:{e}:changes".to_owned(),
            command => command
                .trim_start_matches('+')
                .replace('|', " ")
                .to_uppercase(),
        };
        let (lines, _guard) = Lines::gather();
        let store = store_at(&url(&server));
        let one = election(&store, "e");
        let answer = one.observe().await;
        let text = match &answer {
            Ok(_) => lines.text(),
            Err(error) => error.to_string(),
        };
        let optional = named.starts_with("SCRIPT")
            || named.starts_with("PUBLISH")
            || named.ends_with("SUBSCRIBE");
        assert_eq!(answer.is_ok(), optional, "{left_out}: {answer:?}");
        assert!(
            text.to_uppercase().contains(&named.to_uppercase()),
            "{left_out}: {text}"
        );
        if let Err(error) = answer {
            assert!(matches!(error, StoreError::Rejected(_)), "{error}");
            assert!(text.contains("ACL SETUSER"), "{text}");
            // Granted, it is taken up without a restart.
            set_user(&server, &words(&rights));
            until(|| one.observe(), Result::is_ok).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_line_suffices_in_a_cluster() {
    let cluster = RedisCluster::start();
    for node in &cluster.nodes {
        set_user(node, &["+eval", "+info"]);
    }
    let url = cluster.url().replace("://", "://app:x@");
    // Whoever may not ask who has which slots is told so at once.
    let error = refusal(&url).await.to_string();
    assert!(error.contains("cluster|slots"), "{error}");
    for node in &cluster.nodes {
        set_user(node, &["+eval", "+info", "+cluster|slots", "+cluster|info"]);
    }
    let rights = told(&refusal(&url).await.to_string());
    assert!(rights.contains(&"+asking".to_owned()), "{rights:?}");
    for node in &cluster.nodes {
        set_user(node, &words(&rights));
    }
    let store = store_at(&url);
    for name in ["a", "b", "c", "d"] {
        a_whole_tenure(&election(&store, name)).await;
    }
}

#[tokio::test]
async fn the_line_suffices_behind_sentinels_with_redis_wait() {
    let set = SentinelSet::start();
    for server in &set.servers {
        set_user(server, &["+eval", "+info"]);
    }
    let url = set.url().replace("://", "://app:x@");
    let store = store_that_waits(&url, 1);
    let error = election(&store, "e").observe().await.unwrap_err();
    let rights = told(&error.to_string());
    assert!(rights.contains(&"+wait".to_owned()), "{rights:?}");
    for server in &set.servers {
        set_user(server, &words(&rights));
    }
    let store = store_that_waits(&url, 1);
    a_whole_tenure(&election(&store, "e")).await;
}
