//! What is no etcd, or none that can serve.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::json;
use tenure::lease::{Acquired, CheckpointWrite, Renewed, SessionId, StoreError};
use tenure::time::within;

use super::etcd_server::{Etcd, Version};
use super::ports::free_port;
use super::{BOUND, bid, claim, election, store, store_at, until, win};

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

async fn refusal(url: &str) -> StoreError {
    let store = store_at(url);
    let one = election(&store, "e");
    // The first answer may be that it is still connecting.
    let asked = bid(1);
    let told = until(
        || one.acquire(&asked),
        |answer| !matches!(answer, Err(error) if error.to_string().contains("still connecting")),
    );
    within(BOUND, told)
        .await
        .expect("no answer")
        .expect_err("it was taken")
}

#[tokio::test]
async fn what_is_no_etcd_is_named() {
    let http = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".as_slice();
    let https =
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for (answer, named) in [
        (http, "HTTP server"),
        (https.as_slice(), "etcds://"),
        (b"-ERR unknown command 'PRI'\r\n", "a Redis"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "etcds://"),
        (b"SSH-2.0-OpenSSH_9\r\n", "SSH-2.0"),
    ] {
        let port = stranger(Some(answer));
        let error = refusal(&format!("etcd://127.0.0.1:{port}")).await;
        let text = error.to_string();
        assert!(
            text.contains(named) && text.contains(&port.to_string()),
            "{text}"
        );
        assert!(matches!(error, StoreError::Misconfigured(_)), "{text}");
    }
    let silent = refusal(&format!("etcd://127.0.0.1:{}", stranger(None))).await;
    assert!(matches!(silent, StoreError::Unavailable(_)), "{silent}");
    assert!(silent.to_string().contains("does not answer"), "{silent}");
    let nobody = refusal(&format!("etcd://127.0.0.1:{}", free_port())).await;
    assert!(
        nobody.to_string().contains("is an etcd running"),
        "{nobody}"
    );
    let nowhere = refusal("etcd://no-such-host.invalid").await;
    assert!(matches!(nowhere, StoreError::Unavailable(_)), "{nowhere}");
}

#[tokio::test]
async fn a_full_etcd_says_so_keeps_leases_and_recovers() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = Etcd::single(version);
        let store = store(&etcd);
        let (one, two) = (election(&store, "e"), election(&store, "other"));
        let epoch = win(&one, 1).await;
        let alarm = |action: &str| {
            let body = json!({ "action": action, "memberID": member(&etcd), "alarm": "NOSPACE" });
            etcd.ask("/v3/maintenance/alarm", &body);
        };
        alarm("ACTIVATE");
        let told = two.acquire(&bid(2)).await.unwrap_err();
        assert!(told.to_string().contains("alarm disarm"), "{told}");
        assert!(!told.may_have_happened(), "{told}");
        let kept = one.renew(&claim(1, epoch)).await;
        assert!(matches!(kept, Ok(Renewed::Kept { .. })), "{kept:?}");
        alarm("DEACTIVATE");
        win(&two, 2).await;
    }
}

fn member(etcd: &Etcd) -> String {
    let status = etcd.ask("/v3/maintenance/status", &json!({}));
    status["header"]["member_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_so() {
    let etcd = super::Etcd::start(
        super::etcd_server::Setup::of(Version::V3_5, 1).with(&["--max-request-bytes", "10000"]),
    );
    let one = election(&store(&etcd), "e");
    let epoch = win(&one, 1).await;
    let write = CheckpointWrite {
        epoch,
        session: SessionId::from_bits(1),
        expected: None,
        bytes: vec![7; 20_000],
    };
    let told = one.write_checkpoint(&write).await.unwrap_err();
    assert!(told.to_string().contains("--max-request-bytes"), "{told}");
    assert!(matches!(told, StoreError::Rejected(_)), "{told}");
}

#[tokio::test]
async fn a_broken_record_is_told_with_its_repair() {
    let etcd = Etcd::single(Version::V3_4);
    let one = election(&store(&etcd), "e");
    win(&one, 1).await;
    for (key, text) in [("tenure/e/state", "{nonsense"), ("tenure/e/leader", "x")] {
        etcd.put(key, text);
        let told = one.acquire(&bid(2)).await.unwrap_err();
        assert!(matches!(told, StoreError::Corrupt(_)), "{told}");
        assert!(
            told.to_string().contains(&format!("etcdctl del {key}")),
            "{told}"
        );
        etcd.delete_prefix("tenure/");
    }
    assert!(matches!(
        one.acquire(&bid(2)).await,
        Ok(Acquired::Won { .. })
    ));
}
