//! Two nodes that do not fit, over real sockets: each side is told why.

use std::sync::Arc;

use tenure::peers::frame::Body;
use tenure::peers::handshake::hello;
use tenure::peers::{Members, Mesh, MeshOptions};
use tenure::time::BootClock;
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{Cluster, Running, Spoken, id};
use crate::told::Told;

const TAKEN: &str = "a connection was not taken";

/// Starts `a` as `shape` makes it beside a right `b`: both must come to know `reason`, as who
/// dials and as who is dialled.
async fn both_are_told(shape: impl FnOnce(&Cluster, &mut MeshOptions), reason: &str) {
    let cluster = Cluster::new(&["a", "b"]);
    let told = Told::begin();
    let mut options = cluster.options("a");
    shape(&cluster, &mut options);
    let (a, b) = (Running::start(options).await, cluster.start("b").await);
    a.trouble("b", reason).await;
    b.trouble("a", reason).await;
    told.until(&[TAKEN, reason]).await;
    assert!(!a.peer("b").connected && !b.peer("a").connected);
}

#[tokio::test]
async fn another_clusters_node_is_refused_on_both_sides() {
    let other = |_: &Cluster, options: &mut MeshOptions| options.identity.cluster = "bills".into();
    both_are_told(other, "belongs to the cluster").await;
}

#[tokio::test]
async fn unequal_lists_of_members_are_refused_on_both_sides() {
    let longer = |cluster: &Cluster, options: &mut MeshOptions| {
        let mut list: Vec<_> = cluster
            .places
            .iter()
            .map(|(id, at)| (*id, at.to_string()))
            .collect();
        list.push((id("c"), "127.0.0.1:1".to_owned()));
        options.members = Members::new(id("a"), list).unwrap();
    };
    both_are_told(longer, "the lists of members differ").await;
}

#[tokio::test]
async fn mixed_up_addresses_are_refused_on_both_sides() {
    let cluster = Cluster::new(&["a", "b", "c"]);
    let mut options = cluster.options("a");
    let swapped = [("a", "a"), ("b", "c"), ("c", "b")];
    let list = swapped.map(|(own, at)| (id(own), cluster.place(at).to_string()));
    options.members = Members::new(id("a"), list).unwrap();
    let told = Told::begin();
    let (a, _b) = (Running::start(options).await, cluster.start("b").await);
    a.trouble("c", "node c was meant to be there, and node b is")
        .await;
    told.until(&[TAKEN, "node c was meant to be there"]).await;
}

#[tokio::test]
async fn who_answers_for_another_is_refused_by_who_dialled() {
    let cluster = Cluster::new(&["a", "b", "c"]);
    let listener = TcpListener::bind(cluster.place("b")).await.unwrap();
    let a = cluster.start("a").await;
    let mut other = Spoken::accept(&listener, &cluster.options("c")).await;
    let refused = other.hear().await.body;
    let fits = |reason: &str| reason.contains("node b was meant to be there, and node c is");
    assert!(
        matches!(&refused, Body::Refused { reason } if fits(reason)),
        "{refused:?}"
    );
    a.trouble("b", "node b was meant to be there").await;
}

#[tokio::test]
async fn a_newer_protocol_is_refused_on_both_sides() {
    use tenure::peers::frame::VERSION;
    let cluster = Cluster::new(&["a", "b"]);
    let told = Told::begin();
    let listener = TcpListener::bind(cluster.place("b")).await.unwrap();
    let a = cluster.start("a").await;
    let newer = cluster.options("b");
    // As the one who is dialled.
    let mut dialled = Spoken::on(listener.accept().await.unwrap().0);
    dialled.hear().await;
    let said = hello(&newer.identity, &newer.members, id("a"));
    dialled
        .say_as(VERSION + 1, &newer, Body::Welcome(said.clone()))
        .await;
    let refused = dialled.hear().await.body;
    assert!(
        matches!(&refused, Body::Refused { reason } if reason.contains("is newer than")),
        "{refused:?}"
    );
    a.trouble("b", "is newer than").await;
    // As the one who dials.
    let mut dials = Spoken::on(TcpStream::connect(cluster.place("a")).await.unwrap());
    dials.say_as(VERSION + 1, &newer, Body::Hello(said)).await;
    let refused = dials.hear().await.body;
    assert!(
        matches!(&refused, Body::Refused { reason } if reason.contains("is newer than")),
        "{refused:?}"
    );
    told.until(&[TAKEN, "is newer than"]).await;
}

#[tokio::test]
async fn the_first_word_must_be_a_hello() {
    let cluster = Cluster::new(&["a", "b"]);
    let _b = cluster.start("b").await;
    let options = cluster.options("a");
    let mut a = Spoken::on(TcpStream::connect(cluster.place("b")).await.unwrap());
    a.say(&options, 1, Body::Heartbeat).await;
    let refused = a.hear().await.body;
    assert!(
        matches!(&refused, Body::Refused { reason } if reason.contains("must be a hello")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_node_with_this_nodes_own_id_is_refused() {
    let cluster = Cluster::new(&["a", "b"]);
    let _a = cluster.start("a").await;
    let twin = Cluster {
        places: cluster.places.clone(),
        ..Cluster::new(&["a", "b"])
    };
    let options = twin.options("a");
    let refused = Spoken::try_connect(&options, "a").await.err().unwrap();
    assert!(refused.contains("two nodes have the id a"), "{refused}");
}

#[tokio::test]
async fn an_older_start_of_a_known_disk_is_refused() {
    let cluster = Cluster::new(&["a", "b"]);
    let _b = cluster.start("b").await;
    let (older, newer) = (cluster.options("a"), cluster.options("a"));
    let _newer = Spoken::connect(&newer, "b").await;
    let refused = Spoken::try_connect(&older, "b").await.err().unwrap();
    assert!(
        refused.contains("start 2 of node a is known already, and start 1 speaks"),
        "{refused}"
    );
}

#[tokio::test]
async fn another_disk_is_refused_until_it_is_let_in() {
    let cluster = Cluster::new(&["a", "b"]);
    let told = Told::begin();
    let (a, b) = (cluster.start("a").await, cluster.start("b").await);
    b.connected("a").await;
    let old = b.peer("a").disk.unwrap();
    drop(a);
    b.until("a", |peer| !peer.connected).await;
    // A wiped disk, under the same id.
    let wiped = Cluster {
        places: cluster.places.clone(),
        ..Cluster::new(&["a", "b"])
    };
    let options = wiped.options("a");
    let fresh = options.identity.disk.clone();
    let (mesh, events) = Mesh::start(options, Arc::new(BootClock)).await.unwrap();
    let a = Running { mesh, events };
    // At first the one that was there may still be at work.
    a.trouble("b", "its disk was wiped or exchanged").await;
    b.trouble("a", "its disk was wiped or exchanged").await;
    told.until(&[TAKEN, "its disk was wiped or exchanged"])
        .await;
    assert_eq!(b.peer("a").disk, Some(old));
    b.mesh.accept_disk(id("a"), fresh.clone());
    a.connected("b").await;
    b.connected("a").await;
    assert_eq!(b.peer("a").disk, Some(fresh));
}
