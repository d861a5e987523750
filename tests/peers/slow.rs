//! Slow, silent and stubborn peers, over real sockets.

use std::time::Duration;

use serde_json::json;
use tenure::peers::Event;
use tenure::peers::frame::Body;
use tenure::time::{pause, within};
use tokio::net::TcpListener;

use crate::cluster::{BOUND, Cluster, Running, Spoken, id};

#[tokio::test]
async fn who_accepts_and_never_speaks_is_told_of() {
    let cluster = Cluster::new(&["a", "b"]);
    let _silent = TcpListener::bind(cluster.place("b")).await.unwrap();
    let mut a = cluster.start("a").await;
    a.trouble("b", "it accepts connections and does not answer")
        .await;
    a.next(|event| matches!(event, Event::Suspected(peer) if *peer == id("b")))
        .await;
}

#[tokio::test]
async fn a_peer_that_speaks_though_its_port_refuses_is_not_suspected_again_and_again() {
    let cluster = Cluster::new(&["a", "b"]);
    let (a, dialled) = Running::counted(cluster.options("a")).await;
    let options = cluster.options("b");
    let mut b = Spoken::connect(&options, "a").await;
    let (before, tried) = (a.mesh.verdicts(), dialled.tried(cluster.place("b")));
    let mut seq = 0;
    let speaks = async {
        while dialled.tried(cluster.place("b")) < tried + 4 {
            seq += 1;
            b.say(&options, seq, Body::Heartbeat).await;
            b.hear().await;
            pause(Duration::from_millis(20)).await;
        }
    };
    within(BOUND, speaks).await.expect("it is dialled");
    assert!(a.peer("b").trouble.unwrap().contains("refused"));
    assert_eq!(a.mesh.verdicts(), before);
    assert!(!a.peer("b").suspected);
    drop(b);
    a.until("b", |peer| peer.suspected).await;
}

/// A message of so many bytes.
fn long(bytes: usize) -> serde_json::Value {
    json!("x".repeat(bytes))
}

#[tokio::test]
async fn a_message_that_the_link_never_carries_is_given_up_and_the_next_one_goes() {
    let cluster = Cluster::new(&["a", "b"]);
    let listener = TcpListener::bind(cluster.place("b")).await.unwrap();
    let a = cluster.start("a").await;
    a.mesh.send(id("b"), long(100_000)).unwrap();
    a.mesh.send(id("b"), json!("short")).unwrap();
    let options = cluster.options("b");
    let carried = async {
        let mut tried = 0;
        loop {
            // None is acknowledged: what comes after a long frame does not come either.
            let mut b = Spoken::accept(&listener, &options).await;
            let mut first = None;
            while let Some(frame) = b.next().await {
                if let (Body::Message { body }, None) = (frame.body, &first) {
                    tried += u32::from(body != json!("short"));
                    first = Some(body);
                }
            }
            if first == Some(json!("short")) {
                return tried;
            }
        }
    };
    assert_eq!(within(BOUND, carried).await, Some(3));
    assert_eq!(a.peer("b").dropped, 1);
}

#[tokio::test]
async fn a_long_frame_has_the_time_that_a_slow_link_needs() {
    let cluster = Cluster::new(&["a", "b"]);
    let listener = TcpListener::bind(cluster.place("b")).await.unwrap();
    let (a, dialled) = Running::counted(cluster.options("a")).await;
    let options = cluster.options("b");
    let mut b = Spoken::accept(&listener, &options).await;
    a.mesh.send(id("b"), long(900_000)).unwrap();
    let acknowledged = async {
        loop {
            let frame = b.hear().await;
            let message = matches!(frame.body, Body::Message { .. });
            if message {
                // More than a short one has, which are 300 ms.
                pause(Duration::from_millis(400)).await;
            }
            b.say(&options, frame.seq, Body::Ack).await;
            if message {
                return;
            }
        }
    };
    within(BOUND, acknowledged).await.expect("the long frame");
    for _ in 0..3 {
        let beat = b.hear().await;
        assert!(matches!(beat.body, Body::Heartbeat), "{beat:?}");
        b.say(&options, beat.seq, Body::Ack).await;
    }
    assert_eq!(
        dialled.made(cluster.place("b")),
        1,
        "the connection was made anew"
    );
}
