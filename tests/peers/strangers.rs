//! Who connects and is no peer, over real sockets.

use std::net::SocketAddr;

use serde_json::json;
use tenure::peers::frame::{Body, Decoder, Frame, VERSION};
use tenure::peers::handshake::hello;
use tenure::time::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{BOUND, Cluster, Spoken, id};
use crate::told::Told;

const TAKEN: &str = "a connection was not taken";

/// What a node answers to these bytes, until it closes the connection.
async fn answered(place: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(place).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let (mut decoder, mut all) = (Decoder::default(), Vec::new());
    // It may be reset, where bytes were left unread; what came before counts.
    let _ = within(BOUND, stream.read_to_end(&mut all))
        .await
        .expect("it is closed");
    decoder.feed(&all);
    match decoder.next_frame() {
        Ok(Some(Frame {
            body: Body::Refused { reason },
            ..
        })) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn strangers_are_told_why_and_do_no_harm() {
    let cluster = Cluster::new(&["a", "b"]);
    let (mut a, b) = (cluster.start("a").await, cluster.start("b").await);
    let place = a.mesh.address();
    let huge = answered(place, &2_000_000_000u32.to_be_bytes()).await;
    assert!(huge.contains("2000000000 bytes"), "{huge}");
    assert!(
        answered(place, b"GET / HTTP/1.1\r\n\r\n")
            .await
            .contains("no peer")
    );
    assert!(
        answered(place, &[0, 0, 0, 2, b'{', b'}'])
            .await
            .contains("cannot be read")
    );
    assert!(
        answered(place, &[0, 0, 1, 0, b'{'])
            .await
            .contains("in the middle")
    );
    let newer = format!(r#"{{"v":{}}}"#, VERSION + 1);
    let newer = [
        &[0, 0, 0, u8::try_from(newer.len()).unwrap()],
        newer.as_bytes(),
    ]
    .concat();
    assert!(answered(place, &newer).await.contains("is newer than"));
    b.mesh.send(id("a"), json!("still here")).unwrap();
    assert_eq!(a.message().await.2, json!("still here"));
}

#[tokio::test]
async fn what_answers_and_is_no_peer_is_told_of() {
    for (bytes, told) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "is no peer"),
        (&2_000_000_000u32.to_be_bytes()[..], "2000000000 bytes"),
        (&[0, 0, 0, 2, b'{', b'}'][..], "cannot be read"),
        (&[0, 0, 1, 0, b'{'][..], "in the middle"),
        (&[][..], "was closed"),
    ] {
        let cluster = Cluster::new(&["a", "b"]);
        let listener = TcpListener::bind(cluster.place("b")).await.unwrap();
        let a = cluster.start("a").await;
        let mut taken = Spoken::on(listener.accept().await.unwrap().0);
        assert!(matches!(taken.hear().await.body, Body::Hello(_)));
        taken.stream.write_all(bytes).await.unwrap();
        drop(taken);
        a.trouble("b", told).await;
    }
}

#[tokio::test]
async fn frames_that_come_byte_by_byte_are_frames() {
    let cluster = Cluster::new(&["a", "b"]);
    let mut b = cluster.start("b").await;
    let options = cluster.options("a");
    let mut a = Spoken::on(TcpStream::connect(cluster.place("b")).await.unwrap());
    a.stream.set_nodelay(true).unwrap();
    let said = hello(&options.identity, &options.members, id("b"));
    let message = Body::Message {
        body: json!("piecemeal"),
    };
    for (seq, body) in [(0, Body::Hello(said)), (1, message)] {
        let bytes = a.frame(&options, seq, body).encode().unwrap();
        for byte in bytes {
            a.stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(b.message().await.2, json!("piecemeal"));
    assert!(matches!(a.hear().await.body, Body::Welcome(_)));
    assert!(matches!(
        a.hear().await,
        Frame {
            seq: 1,
            body: Body::Ack,
            ..
        }
    ));
}

#[tokio::test]
async fn a_noisy_stranger_hides_no_other_in_the_log() {
    let cluster = Cluster::new(&["a", "b"]);
    let told = Told::begin();
    let _a = cluster.start("a").await;
    for _ in 0..20 {
        let mut noisy = Spoken::from("127.0.0.2", cluster.place("a")).await;
        noisy
            .stream
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        assert!(matches!(noisy.hear().await.body, Body::Refused { .. }));
    }
    let mut options = cluster.options("b");
    options.identity.cluster = format!("bills\nERROR forged {}", "x".repeat(5000));
    let said = hello(&options.identity, &options.members, id("a"));
    let other = Spoken::from("127.0.0.3", cluster.place("a")).await;
    let refused = other.introduced(&options, Body::Hello(said)).await.err();
    assert!(refused.unwrap().contains("belongs to the cluster"));
    told.until(&[TAKEN, "from=127.0.0.3", "belongs to the cluster"])
        .await;
    assert_eq!(told.count(&[TAKEN, "from=127.0.0.2"]), 1, "{}", told.all());
    let all = told.all();
    assert!(
        !all.lines().any(|line| line.starts_with("ERROR forged")),
        "{all}"
    );
    assert!(all.lines().all(|line| line.len() < 1500), "{all}");
}

#[tokio::test]
async fn strangers_who_say_nothing_do_not_keep_peers_out() {
    let cluster = Cluster::new(&["a", "b"]);
    let told = Told::begin();
    let _a = cluster.start("a").await;
    let mut silent = Vec::new();
    while told.count(&[TAKEN, "from=127.0.0.2", "too many connections"]) == 0 {
        assert!(silent.len() < 1000, "all are let in");
        silent.push(Spoken::from("127.0.0.2", cluster.place("a")).await);
        tokio::task::yield_now().await;
    }
    let b = cluster.options("b");
    assert!(Spoken::try_connect(&b, "a").await.is_ok());
    let first = within(BOUND, silent[0].next()).await;
    assert_eq!(first.expect("it is closed"), None);
    told.until(&[TAKEN, "said nothing whole"]).await;
}
