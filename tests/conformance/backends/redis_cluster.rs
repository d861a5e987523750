//! A Redis Cluster of the test's own: three masters, each with a replica.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tenure::backend::Store;
use tenure::lease::ElectionName;
use tokio::task::spawn_blocking;

use super::redis::{connect_to, copy};
use crate::cluster_server::{RedisCluster, Shape, url_of};
use crate::fault::Way;
use crate::fixture::{Backup, Fixture, Half};
use crate::proxy::Proxies;
use crate::redis_server::RedisServer;

pub struct Cluster {
    cluster: Arc<Mutex<RedisCluster>>,
    ports: Vec<u16>,
    backups: TempDir,
}

impl Cluster {
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RedisCluster) -> T + Send + 'static,
    ) -> T {
        let cluster = Arc::clone(&self.cluster);
        let work = move || work(&mut cluster.lock().unwrap());
        spawn_blocking(work).await.unwrap()
    }
}

/// What a node has on disk, but for who it is.
fn lose_data(node: &RedisServer) {
    for entry in std::fs::read_dir(node.dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else if path.file_name().unwrap() != "nodes.conf" {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// The directory of that node in a copy of all.
fn part(backup: &Path, node: usize) -> PathBuf {
    backup.join(node.to_string())
}

#[async_trait]
impl Fixture for Cluster {
    async fn start() -> Self {
        // No failover unless a test asks for one: a restart is over sooner.
        let shape = Shape {
            durable: true,
            node_timeout: Duration::from_secs(20),
            ..Shape::default()
        };
        let cluster = spawn_blocking(move || RedisCluster::of(shape))
            .await
            .unwrap();
        Self {
            ports: cluster.nodes.iter().map(RedisServer::port).collect(),
            cluster: Arc::new(Mutex::new(cluster)),
            backups: TempDir::new().unwrap(),
        }
    }

    async fn store(&self, call_timeout: Duration) -> Arc<dyn Store> {
        Arc::new(connect_to(&url_of(&self.ports), call_timeout))
    }

    /// The way to every node.
    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>) {
        let proxies = Proxies::start(&self.ports).await;
        let store = connect_to(&url_of(&proxies.ports()), call_timeout);
        (Arc::new(store), Arc::new(proxies))
    }

    /// All nodes at once; each stays who it is.
    async fn restart(&self, _election: &ElectionName, keep_data: bool) {
        self.with(move |cluster| {
            cluster.restart_all(|nodes| {
                if !keep_data {
                    nodes.iter().for_each(lose_data);
                }
            });
        })
        .await;
    }

    async fn wipe(&self, _election: &ElectionName) {
        self.with(|cluster| {
            for master in cluster.masters() {
                cluster.nodes[master].command(&["FLUSHALL"]);
            }
        })
        .await;
    }

    async fn back_up(&self, _election: &ElectionName) -> Backup {
        let backup = self.backups.path().join(format!("{:x}", fastrand::u64(..)));
        let to = backup.clone();
        self.with(move |cluster| {
            for (at, node) in cluster.nodes.iter().enumerate() {
                copy(node.dir(), &part(&to, at));
            }
        })
        .await;
        Box::new(backup)
    }

    async fn restore(&self, _election: &ElectionName, backup: &Backup) {
        let from = backup.downcast_ref::<PathBuf>().unwrap().clone();
        self.with(move |cluster| {
            cluster.restart_all(|nodes| {
                for (at, node) in nodes.iter().enumerate() {
                    node.lose_data();
                    copy(&part(&from, at), node.dir());
                }
            });
        })
        .await;
    }

    async fn lose(&self, election: &ElectionName, half: Half) -> bool {
        let half = match half {
            Half::Leader => "leader",
            Half::State => "state",
        };
        let key = format!("tenure:{{{election}}}:{half}");
        self.with(move |cluster| {
            let owner = cluster.owner(cluster.slot_of(&key));
            cluster.nodes[owner].command(&["DEL", &key]);
        })
        .await;
        true
    }

    async fn connections(&self) -> Option<usize> {
        let lists = self
            .with(|cluster| {
                let nodes = cluster.nodes.iter();
                nodes
                    .map(|node| node.command(&["CLIENT", "LIST"]))
                    .collect::<Vec<_>>()
            })
            .await;
        let ours = |line: &&str| line.contains("resp=3");
        let count = |list: &crate::redis_server::Reply| list.text().lines().filter(ours).count();
        Some(lists.iter().map(count).sum())
    }

    /// One for commands and one for hints, to each master.
    fn connections_of_a_store(&self) -> usize {
        6
    }
}
