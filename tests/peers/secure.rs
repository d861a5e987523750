//! Mutual TLS between meshes, with certificates of the test's own authorities.

use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tenure::peers::{Mesh, MeshError, MeshOptions};
use tenure::time::BootClock;
use tenure::wire::CredentialFiles;
use tokio::net::{TcpListener, TcpStream};

use crate::certificates::{Authority, Files};
use crate::cluster::{Cluster, Running, id};
use crate::told::Told;

const HOST: &[&str] = &["127.0.0.1"];
const TAKEN: &str = "a connection was not taken";

fn files(cluster: &Cluster, own: &str) -> Files {
    Files::in_dir(&cluster.disks.path().join(format!("{own}-tls")))
}

/// With a certificate of `signer` for `names`, trusting `trusted`.
fn with(
    cluster: &Cluster,
    own: &str,
    signer: &Authority,
    names: &[&str],
    trusted: &[&Authority],
) -> MeshOptions {
    let files = files(cluster, own);
    files.trust(trusted);
    files.show(&signer.sign(names));
    using(cluster, own, &files)
}

fn using(cluster: &Cluster, own: &str, files: &Files) -> MeshOptions {
    let mut options = cluster.options(own);
    options.tls = Some(CredentialFiles {
        ca: Some(files.ca.clone()),
        cert: Some(files.cert.clone()),
        key: Some(files.key.clone()),
        ..CredentialFiles::default()
    });
    options
}

#[tokio::test]
async fn rotated_certificates_hold_for_new_connections_and_the_standing_ones_stay() {
    let cluster = Cluster::new(&["a", "b", "c"]);
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let options = with(&cluster, "a", &old, HOST, &[&old]);
    let (a, dialled) = Running::counted(options).await;
    let mut b = Running::start(with(&cluster, "b", &old, HOST, &[&old])).await;
    a.connected("b").await;
    a.mesh.send(id("b"), json!("before")).unwrap();
    assert_eq!(b.message().await.2, json!("before"));

    let c = Running::start(with(&cluster, "c", &new, HOST, &[&new])).await;
    a.trouble("c", "nobody who is trusted here vouches").await;
    c.trouble("a", "nobody who is trusted here vouches").await;
    for own in ["a", "b"] {
        let files = files(&cluster, own);
        files.trust(&[&old, &new]);
        files.show(&new.sign(HOST));
    }
    for (from, to) in [(&a, "c"), (&b, "c"), (&c, "a"), (&c, "b")] {
        from.connected(to).await;
    }
    a.mesh.send(id("b"), json!("after")).unwrap();
    assert_eq!(b.message().await.2, json!("after"));
    assert!(a.peer("b").connected && b.peer("a").connected);
    let to_b = dialled.made(cluster.place("b"));
    assert_eq!(to_b, 1, "the standing connection was given up");
}

#[tokio::test]
async fn with_tls_a_node_may_listen_off_the_loopback() {
    let cluster = Cluster::new(&["a", "b"]);
    let authority = Authority::new("peers");
    let mut options = with(&cluster, "a", &authority, HOST, &[&authority]);
    options.listen.set_ip([0, 0, 0, 0].into());
    let a = Running::start(options).await;
    let b = Running::start(with(&cluster, "b", &authority, HOST, &[&authority])).await;
    b.connected("a").await;
    a.connected("b").await;
}

#[tokio::test]
async fn who_speaks_in_the_clear_and_who_speaks_tls_both_hear_of_it() {
    let cluster = Cluster::new(&["a", "b"]);
    let authority = Authority::new("peers");
    let told = Told::begin();
    let clear = cluster.start("a").await;
    let tls = Running::start(with(&cluster, "b", &authority, HOST, &[&authority])).await;
    clear
        .trouble("b", "it speaks TLS, and this node does not")
        .await;
    tls.trouble("a", "it does not speak TLS, and this node does")
        .await;
    told.until(&[TAKEN, "it speaks TLS, and this node does not"])
        .await;
    told.until(&[TAKEN, "it does not speak TLS, and this node does"])
        .await;
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_told_on_both_sides() {
    let told = Told::begin();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let refused = |what: &str| format!("it refuses this node's certificate ({what})");

    // Signed by somebody else: b does not take it, a is told so.
    let cluster = Cluster::new(&["a", "b"]);
    let a = Running::start(with(&cluster, "a", &theirs, HOST, &[&ours])).await;
    let b = Running::start(with(&cluster, "b", &ours, HOST, &[&ours])).await;
    a.trouble("b", &refused("UnknownCA")).await;
    b.trouble(
        "a",
        "nobody who is trusted here vouches for its certificate",
    )
    .await;
    told.until(&[TAKEN, "nobody who is trusted here vouches"])
        .await;
    told.until(&[TAKEN, &refused("UnknownCA")]).await;
    drop((a, b));

    // For another host: neither may dial with it nor be dialled.
    let cluster = Cluster::new(&["a", "b"]);
    let a = Running::start(with(&cluster, "a", &ours, &["elsewhere.test"], &[&ours])).await;
    let b = Running::start(with(&cluster, "b", &ours, HOST, &[&ours])).await;
    let not_for = "the certificate that node a shows is not for 127.0.0.1";
    a.trouble("b", not_for).await;
    b.trouble("a", "is not for the name 127.0.0.1 (it is for")
        .await;
    told.until(&[TAKEN, not_for]).await;
    drop((a, b));

    // Out of date.
    let cluster = Cluster::new(&["a", "b"]);
    let expired = files(&cluster, "a");
    expired.trust(&[&ours]);
    expired.show(&ours.sign_expired(HOST));
    let a = Running::start(using(&cluster, "a", &expired)).await;
    let b = Running::start(with(&cluster, "b", &ours, HOST, &[&ours])).await;
    a.trouble("b", &refused("CertificateExpired")).await;
    b.trouble("a", "its certificate has expired").await;
    told.until(&[TAKEN, "its certificate has expired"]).await;
    drop((a, b));

    // For servers alone.
    let cluster = Cluster::new(&["a", "b"]);
    let servers = files(&cluster, "a");
    servers.trust(&[&ours]);
    servers.show(&ours.sign_for_servers(HOST));
    let a = Running::start(using(&cluster, "a", &servers)).await;
    let b = Running::start(with(&cluster, "b", &ours, HOST, &[&ours])).await;
    a.trouble("b", "it refuses this node's certificate (").await;
    told.until(&[TAKEN, "its certificate is for another use"])
        .await;
    b.connected("a").await;

    let key = std::fs::read_to_string(&expired.key).unwrap();
    for line in key.lines() {
        assert!(!told.all().contains(line), "a key in the log");
    }
}

#[tokio::test]
async fn a_part_of_the_files_is_not_enough() {
    let cluster = Cluster::new(&["a", "b"]);
    let authority = Authority::new("peers");
    let mut options = with(&cluster, "a", &authority, HOST, &[&authority]);
    if let Some(tls) = &mut options.tls {
        tls.ca = None;
        assert_eq!(tls.problems_between_peers().len(), 1);
    }
    let refused = Mesh::start(options, Arc::new(BootClock))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, MeshError::Credentials(_)), "{refused}");
    assert!(
        refused.to_string().contains("give all three or none"),
        "{refused}"
    );
}

#[tokio::test]
async fn who_never_begins_tls_is_told_of_and_holds_up_nobody() {
    let cluster = Cluster::new(&["a", "b", "c"]);
    let authority = Authority::new("peers");
    let told = Told::begin();
    let silent = TcpListener::bind(cluster.place("c")).await.unwrap();
    let a = Running::start(with(&cluster, "a", &authority, HOST, &[&authority])).await;
    let _says_nothing = TcpStream::connect(cluster.place("a")).await.unwrap();
    let b = Running::start(with(&cluster, "b", &authority, HOST, &[&authority])).await;
    b.connected("a").await;
    a.trouble("c", "accepts connections and does not begin TLS")
        .await;
    told.until(&[TAKEN, "it connected and did not begin TLS"])
        .await;
    drop(silent);
}

/// The first block of shell in the page.
fn documented() -> &'static str {
    let page = include_str!("../../docs/peers.md");
    let (_, rest) = page.split_once("```sh\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[tokio::test]
async fn the_documented_commands_make_certificates_that_work() {
    let cluster = Cluster::new(&["a", "b"]);
    let dir = cluster.disks.path();
    let script = documented().replace("10.0.0.1", "127.0.0.1");
    let made = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(dir)
        .output();
    let made = made.expect("sh");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let files = Files {
        ca: dir.join("ca.pem"),
        cert: dir.join("node1.pem"),
        key: dir.join("node1.key"),
    };
    let a = Running::start(using(&cluster, "a", &files)).await;
    let b = Running::start(using(&cluster, "b", &files)).await;
    a.connected("b").await;
    b.connected("a").await;
}
