//! A Redis with two replicas and three Sentinels of the test's own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tenure::backend::Store;
use tenure::lease::ElectionName;
use tokio::task::spawn_blocking;

use super::redis::{connect_to, copy};
use crate::fault::Way;
use crate::fixture::{Backup, Fixture, Half};
use crate::proxy::Proxies;
use crate::redis_server::RedisServer;
use crate::sentinel_set::{SentinelSet, Shape, url_of};

pub struct Sentinel {
    set: Arc<Mutex<SentinelSet>>,
    servers: Vec<u16>,
    sentinels: Vec<u16>,
    backups: TempDir,
}

impl Sentinel {
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SentinelSet) -> T + Send + 'static,
    ) -> T {
        let set = Arc::clone(&self.set);
        let work = move || work(&mut set.lock().unwrap());
        spawn_blocking(work).await.unwrap()
    }

    /// At the master; the replicas follow.
    async fn command(&self, words: &[&str]) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        self.with(move |set| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let master = set.master();
            set.servers[master].command(&words);
        })
        .await;
    }
}

#[async_trait]
impl Fixture for Sentinel {
    async fn start() -> Self {
        // No failover unless a test asks for one: a restart is over sooner.
        let shape = Shape {
            durable: true,
            down_after: Duration::from_secs(20),
            ..Shape::default()
        };
        let set = spawn_blocking(move || SentinelSet::of(shape))
            .await
            .unwrap();
        let ports = |servers: &[RedisServer]| servers.iter().map(RedisServer::port).collect();
        Self {
            servers: ports(&set.servers),
            sentinels: ports(&set.sentinels),
            set: Arc::new(Mutex::new(set)),
            backups: TempDir::new().unwrap(),
        }
    }

    async fn store(&self, call_timeout: Duration) -> Arc<dyn Store> {
        Arc::new(connect_to(&url_of(&self.sentinels), call_timeout))
    }

    /// A node that is cut off misses the Sentinels, too.
    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>) {
        let all: Vec<u16> = self
            .sentinels
            .iter()
            .chain(&self.servers)
            .copied()
            .collect();
        let proxies = Proxies::start(&all).await;
        let sentinels = &proxies.ports()[..self.sentinels.len()];
        let store = connect_to(&url_of(sentinels), call_timeout);
        (Arc::new(store), Arc::new(proxies))
    }

    /// All servers at once. A Sentinel promotes nobody meanwhile: a master that comes
    /// back empty is followed by its replicas.
    async fn restart(&self, _election: &ElectionName, keep_data: bool) {
        self.with(move |set| {
            set.restart_all(|servers, _| {
                if !keep_data {
                    servers.iter().for_each(RedisServer::lose_data);
                }
            });
        })
        .await;
    }

    async fn wipe(&self, _election: &ElectionName) {
        self.command(&["FLUSHALL"]).await;
    }

    async fn back_up(&self, _election: &ElectionName) -> Backup {
        let backup = self.backups.path().join(format!("{:x}", fastrand::u64(..)));
        let to = backup.clone();
        self.with(move |set| copy(set.servers[set.master()].dir(), &to))
            .await;
        Box::new(backup)
    }

    async fn restore(&self, _election: &ElectionName, backup: &Backup) {
        let from = backup.downcast_ref::<PathBuf>().unwrap().clone();
        self.with(move |set| {
            set.restart_all(|servers, master| {
                servers.iter().for_each(RedisServer::lose_data);
                copy(&from, servers[master].dir());
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
        self.command(&["DEL", &key]).await;
        true
    }

    /// To the master; Sentinels and replicas have some of their own.
    async fn connections(&self) -> Option<usize> {
        let list = self
            .with(|set| {
                let master = set.master();
                set.servers[master].command(&["CLIENT", "LIST"])
            })
            .await;
        let ours = |line: &&str| line.contains("resp=3");
        Some(list.text().lines().filter(ours).count())
    }
}
