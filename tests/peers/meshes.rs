//! Whole meshes in one process, over real sockets on the loopback.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tenure::peers::frame::Body;
use tenure::peers::{CallError, Event, Mesh, MeshError};
use tenure::time::{BootClock, pause, within};
use tokio::net::TcpListener;

use crate::cluster::{BOUND, Cluster, Running, Spoken, id};

#[tokio::test]
async fn messages_arrive_once_and_in_order_from_each_peer() {
    let cluster = Cluster::new(&["a", "b", "c"]);
    let (a, b) = (cluster.start("a").await, cluster.start("b").await);
    let mut c = cluster.start("c").await;
    for n in 0..100 {
        a.mesh.broadcast(&json!(n)).unwrap();
        b.mesh.send(id("c"), json!(n)).unwrap();
    }
    assert!(a.mesh.send(id("z"), json!(0)).is_err(), "no member");
    let long = a.mesh.send(id("c"), json!("x".repeat(1 << 20)));
    assert!(matches!(long, Err(CallError::NotSent(_))), "{long:?}");
    let mut next = [0, 0];
    while next != [100, 100] {
        let (from, incarnation, body) = c.message().await;
        let place = &mut next[usize::from(from == id("b"))];
        assert_eq!((incarnation, body), (1, json!(*place)));
        *place += 1;
    }
}

#[tokio::test]
async fn a_call_is_answered_or_says_what_is_known() {
    let cluster = Cluster::new(&["a", "b", "c"]);
    let (a, mut b) = (cluster.start("a").await, cluster.start("b").await);
    a.connected("b").await;
    let answer = async {
        let request = b.next(|event| matches!(event, Event::Request { .. })).await;
        let Event::Request { body, reply, .. } = request else {
            unreachable!()
        };
        reply.send(json!({ "twice": [body, body] })).await;
        b
    };
    let (answered, b) = tokio::join!(a.mesh.call(id("b"), json!(7), BOUND), answer);
    assert_eq!(answered.unwrap(), json!({ "twice": [7, 7] }));
    let unanswered = a
        .mesh
        .call(id("b"), json!(8), Duration::from_millis(200))
        .await;
    assert!(
        matches!(unanswered, Err(CallError::Indeterminate(_))),
        "{unanswered:?}"
    );
    let nobody = a.mesh.call(id("c"), json!(9), BOUND).await;
    assert!(matches!(nobody, Err(CallError::NotSent(_))), "{nobody:?}");
    let (cut, ()) = tokio::join!(a.mesh.call(id("b"), json!(1), BOUND), async {
        let mut b = b;
        b.next(|event| matches!(event, Event::Request { body, .. } if *body == json!(1)))
            .await;
        drop(b);
    });
    assert!(matches!(cut, Err(CallError::Indeterminate(_))), "{cut:?}");
}

#[tokio::test]
async fn a_peer_that_restarts_is_suspected_at_once_and_recovers_as_another_start() {
    let cluster = Cluster::new(&["a", "b"]);
    let (mut a, b) = (cluster.start("a").await, cluster.start("b").await);
    a.connected("b").await;
    drop(b);
    a.next(|event| matches!(event, Event::Suspected(peer) if *peer == id("b")))
        .await;
    let b = cluster.start("b").await;
    a.next(|event| matches!(event, Event::Recovered(peer) if *peer == id("b")))
        .await;
    b.mesh.send(id("a"), json!("again")).unwrap();
    assert_eq!(a.message().await, (id("b"), 2, json!("again")));
    assert!(a.mesh.verdicts().suspected >= 1 && a.mesh.verdicts().recovered >= 1);
}

#[tokio::test]
async fn a_peer_that_never_reads_holds_up_nobody() {
    let cluster = Cluster::new(&["a", "b", "c"]);
    let stuck = TcpListener::bind(cluster.place("c")).await.unwrap();
    let held = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = stuck.accept().await {
            open.push(stream);
        }
    });
    let (mut a, mut b) = (cluster.start("a").await, cluster.start("b").await);
    for n in 0..400 {
        a.mesh.send(id("c"), json!("x".repeat(1000))).unwrap();
        a.mesh.send(id("b"), json!(n)).unwrap();
        assert_eq!(b.message().await.2, json!(n));
    }
    let dropped = a
        .mesh
        .peers()
        .iter()
        .find(|peer| peer.id == id("c"))
        .unwrap()
        .dropped;
    assert_eq!(dropped, 400 - 256, "the oldest make room");
    a.next(|event| matches!(event, Event::Suspected(peer) if *peer == id("c")))
        .await;
    held.abort();
}

#[tokio::test]
async fn what_waits_for_room_when_its_connection_ends_is_taken_from_the_next_one() {
    let cluster = Cluster::new(&["a", "b"]);
    let mut b = cluster.start("b").await;
    let options = cluster.options("a");
    let mut a = Spoken::connect(&options, "b").await;
    a.say(&options, 1, Body::Request { body: json!(1) }).await;
    let request = b.next(|event| matches!(event, Event::Request { .. })).await;
    let Event::Request { reply, .. } = request else {
        unreachable!()
    };
    let message = |seq: u64| Body::Message { body: json!(seq) };
    let last = 1100;
    for seq in 2..=last {
        a.say(&options, seq, message(seq)).await;
    }
    let full = async {
        while b.events.len() < b.events.max_capacity() {
            tokio::task::yield_now().await;
        }
    };
    within(BOUND, full).await.expect("nobody takes the events");
    // The answer finds the connection reset, which ends it while a message waits.
    a.stream.set_zero_linger().unwrap();
    drop(a);
    reply.send(json!("late")).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut a = Spoken::connect(&options, "b").await;
    let again = async {
        for seq in 2..=last {
            a.say(&options, seq, message(seq)).await;
        }
    };
    let taken = async {
        for seq in 2..=last {
            assert_eq!(b.message().await, (id("a"), 1, json!(seq)));
        }
    };
    let ((), ()) = tokio::join!(again, taken);
}

#[tokio::test]
async fn spans_that_do_not_fit_are_refused() {
    let cluster = Cluster::new(&["a", "b"]);
    for (heartbeat_ms, suspect_ms) in [(0, 3000), (1000, 1000)] {
        let mut options = cluster.options("a");
        options.heartbeat = Duration::from_millis(heartbeat_ms);
        options.suspect_after = Duration::from_millis(suspect_ms);
        let refused = Mesh::start(options, Arc::new(BootClock)).await.err();
        assert!(
            matches!(refused, Some(MeshError::Times { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_second_node_with_the_same_id_is_refused_and_told() {
    let cluster = Cluster::new(&["a", "b"]);
    let (_a, b) = (cluster.start("a").await, cluster.start("b").await);
    b.connected("a").await;
    let twin = Cluster {
        places: cluster.places.clone(),
        disks: tempfile::tempdir().unwrap(),
    };
    let mut options = twin.options("a");
    options.listen = "127.0.0.1:0".parse().unwrap();
    let (mesh, events) = Mesh::start(options, Arc::new(BootClock)).await.unwrap();
    let twin = Running { mesh, events };
    let told = async {
        loop {
            let peers = twin.mesh.peers();
            if let Some(trouble) = peers.iter().find_map(|peer| peer.trouble.clone()) {
                return trouble;
            }
            pause(Duration::from_millis(5)).await;
        }
    };
    let told = within(BOUND, told).await.expect("a reason");
    assert!(told.contains("two nodes have the id a"), "{told}");
}

#[tokio::test]
async fn off_the_loopback_only_where_it_is_said() {
    let cluster = Cluster::new(&["a", "b"]);
    let mut options = cluster.options("a");
    options.listen = "0.0.0.0:0".parse().unwrap();
    let refused = Mesh::start(options, Arc::new(BootClock))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, MeshError::Insecure(_)), "{refused}");
}
