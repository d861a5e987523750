//! Cuts between meshes over real sockets, through proxies.

use std::time::Duration;

use serde_json::json;
use tenure::peers::Event;
use tenure::time::pause;

use crate::cluster::{Running, id};
use crate::ways::Ways;

#[tokio::test]
async fn who_hears_nothing_suspects_and_nothing_is_lost_or_doubled_over_a_cut_of_one_way() {
    let ways = Ways::new(&["a", "b", "c"]).await;
    let mut a = Running::start(ways.options("a")).await;
    let mut b = Running::start(ways.options("b")).await;
    let c = Running::start(ways.options("c")).await;
    for (from, to) in [
        (&a, "b"),
        (&a, "c"),
        (&b, "a"),
        (&b, "c"),
        (&c, "a"),
        (&c, "b"),
    ] {
        from.connected(to).await;
    }
    ways.cut("a", "b");
    for n in 0..50 {
        a.mesh.send(id("b"), json!(n)).unwrap();
        b.mesh.send(id("a"), json!(n)).unwrap();
        pause(Duration::from_millis(5)).await;
    }
    b.until("a", |peer| peer.suspected).await;
    // Who was late for all of them, on a busy machine, is soon well again; the cut still stands.
    c.until("a", |peer| !peer.suspected).await;
    c.until("b", |peer| !peer.suspected).await;
    ways.heal("a", "b");
    for n in 0..50 {
        assert_eq!(b.message().await.2, json!(n));
        assert_eq!(a.message().await.2, json!(n));
    }
    b.until("a", |peer| !peer.suspected && peer.connected).await;
    a.until("b", |peer| !peer.suspected && peer.connected).await;
    assert_eq!((a.peer("b").dropped, b.peer("a").dropped), (0, 0));
}

#[tokio::test]
async fn connections_that_break_again_and_again_lose_and_double_nothing() {
    let ways = Ways::new(&["a", "b"]).await;
    let a = Running::start(ways.options("a")).await;
    let mut b = Running::start(ways.options("b")).await;
    let mut sent = 0;
    for _ in 0..8 {
        a.connected("b").await;
        for _ in 0..20 {
            a.mesh.send(id("b"), json!(sent)).unwrap();
            sent += 1;
        }
        let wanted = sent - 10;
        b.next(|event| matches!(event, Event::Message { body, .. } if *body == json!(wanted)))
            .await;
        ways.reset("a", "b");
        for n in wanted + 1..sent {
            assert_eq!(b.message().await.2, json!(n));
        }
    }
}
