//! What is no Redis, or none that can serve, and what is not asked of one.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use tenure::lease::{Hint, Observed, Released, StoreError};
use tenure::time::within;

use super::logged::Lines;
use super::ports::free_port;
use super::redis_server::{RedisServer, Reply};
use super::{BOUND, bid, claim, election, next, store, store_at, win};

/// Answers `answer` to whatever is sent, and closes; or stays silent.
fn stranger(answer: Option<&'static [u8]>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 512]);
            match answer {
                Some(answer) => drop(stream.write_all(answer)),
                None => kept.push(stream),
            }
        }
    });
    port
}

pub async fn refusal(url: &str) -> StoreError {
    let store = store_at(url);
    let one = election(&store, "e");
    within(BOUND, one.acquire(&bid(1)))
        .await
        .expect("no answer")
        .expect_err("it was taken")
}

#[tokio::test]
async fn what_is_no_redis_is_named() {
    let http = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".as_slice();
    for (answer, named, sure) in [
        (Some(http), "HTTP server", true),
        (Some(b"<!DOCTYPE HTML>".as_slice()), "HTTP server", true),
        (
            Some(b"\x15\x03\x01\x00\x02\x02\x16".as_slice()),
            "TLS",
            true,
        ),
        (Some(b"SSH-2.0-OpenSSH_9\r\n".as_slice()), "SSH-2.0", true),
        (Some(b"".as_slice()), "closed the connection", false),
    ] {
        let port = stranger(answer);
        let error = refusal(&format!("redis://127.0.0.1:{port}")).await;
        let text = error.to_string();
        assert!(
            text.contains(named) && text.contains(&port.to_string()),
            "{text}"
        );
        assert_eq!(
            matches!(error, StoreError::Misconfigured(_)),
            sure,
            "{text}"
        );
    }
    let silent = refusal(&format!("redis://127.0.0.1:{}", stranger(None))).await;
    assert!(matches!(silent, StoreError::Unavailable(_)), "{silent}");
    let nobody = refusal(&format!("redis://127.0.0.1:{}", free_port())).await;
    assert!(
        nobody.to_string().contains("is a Redis running"),
        "{nobody}"
    );
    let nowhere = refusal("redis://no-such-host.invalid").await;
    assert!(matches!(nowhere, StoreError::Unavailable(_)), "{nowhere}");
}

#[tokio::test]
async fn a_redis_that_cannot_serve_is_told_apart() {
    let locked = RedisServer::start();
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", locked.port());
    assert!(
        refusal(&format!("{}/99", url("")))
            .await
            .to_string()
            .contains("no such database")
    );
    locked.command(&[
        "ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all", "-eval", "-evalsha",
    ]);
    locked.command(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let error = refusal(&url("")).await;
    assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    for part in ["wants a password", "--password-file", "TENURE_BACKEND"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let error = refusal(&url(":wrong@")).await.to_string();
    assert!(
        error.contains("refuses the user or the password"),
        "{error}"
    );
    assert!(!error.contains("wrong@"), "{error}");
    let error = refusal(&url("app:s3cret@")).await.to_string();
    assert!(
        error.contains("lacks rights") && error.contains("EVAL"),
        "{error}"
    );
    let open = store_at(&url(":hunter2@"));
    win(&election(&open, "e"), 1).await;

    let nowhere = free_port().to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &nowhere]);
    let error = refusal(&replica.url()).await.to_string();
    assert!(error.contains("replica"), "{error}");
    let cluster = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let error = refusal(&cluster.url()).await.to_string();
    assert!(error.contains("Cluster"), "{error}");
}

#[tokio::test]
async fn without_the_right_to_subscribe_it_still_works() {
    let server = RedisServer::start();
    let rights = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">x",
        "~tenure:*",
        "resetchannels",
        "+@all",
    ];
    assert_eq!(server.command(&rights), Reply::Text("OK".to_owned()));
    let store = store_at(&format!("redis://app:x@127.0.0.1:{}", server.port()));
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let released = one.release(&claim(1, epoch), None).await;
    assert_eq!(released, Ok(Released::Released));
}

#[tokio::test]
async fn a_lease_or_hold_out_of_range_is_refused_before_it_is_sent() {
    let server = RedisServer::start();
    let store = store(&server);
    let one = election(&store, "e");
    for wrong in [Duration::ZERO, Duration::MAX] {
        let mut asked = bid(1);
        asked.ttl = wrong;
        let error = one.acquire(&asked).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    }
    assert_eq!(one.observe().await.unwrap(), Observed::default());
}

#[tokio::test]
async fn a_server_that_may_evict_leases_is_warned_of() {
    let (lines, _guard) = Lines::gather();
    for (policy, warned) in [("noeviction", false), ("allkeys-lru", true)] {
        let arguments = ["--maxmemory", "100mb", "--maxmemory-policy", policy];
        let server = RedisServer::start_with(&arguments);
        win(&election(&store(&server), "e"), 1).await;
        let text = lines.text();
        assert_eq!(text.contains("set maxmemory-policy"), warned, "{text}");
    }
}
