//! Members that speak TLS to each other.

use tenure::backend::Store;
use tenure::backend::raft::RaftStore;
use tenure::wire::CredentialFiles;

use crate::certificates::{Authority, Files};
use crate::cluster::Cluster;
use crate::members::{BOUND, options, raft_leader, start, stop};

const IDS: [&str; 3] = ["a", "b", "c"];

#[tokio::test]
async fn members_elect_a_leader_of_the_log_over_tls() {
    let cluster = Cluster::new(&IDS);
    let authority = Authority::new("peers");
    let mut nodes = Vec::new();
    for own in IDS {
        let files = Files::in_dir(&cluster.disks.path().join(format!("{own}-tls")));
        files.trust(&[&authority]);
        files.show(&authority.sign(&["127.0.0.1"]));
        let mut mesh = cluster.options(own);
        mesh.tls = Some(CredentialFiles {
            ca: Some(files.ca.clone()),
            cert: Some(files.cert.clone()),
            key: Some(files.key.clone()),
            ..CredentialFiles::default()
        });
        nodes.push(start(options(mesh, cluster.disks.path().join(own))).await);
    }
    let leader = raft_leader(&nodes[0]).await;
    for node in &nodes {
        assert_eq!(raft_leader(node).await, leader);
        let store = RaftStore::new(node.clone(), BOUND);
        let election = store.election(&"orders".parse().unwrap());
        election.observe().await.unwrap();
    }
    stop(&nodes).await;
}
