//! A Redis server of the test's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tenure::backend::Store;
use tenure::backend::redis::{RedisOptions, RedisStore};
use tenure::lease::ElectionName;
use tenure::time::BootClock;
use tenure::wire::CredentialFiles;
use tokio::task::spawn_blocking;

use crate::fault::Way;
use crate::fixture::{Backup, Fixture, Half};
use crate::proxy::Proxy;
use crate::redis_server::RedisServer;

pub struct Redis {
    server: Arc<Mutex<RedisServer>>,
    port: u16,
    backups: TempDir,
}

impl Redis {
    /// Does what blocks where it may: nodes go on meanwhile.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RedisServer) -> T + Send + 'static,
    ) -> T {
        let server = Arc::clone(&self.server);
        let work = move || work(&mut server.lock().unwrap());
        spawn_blocking(work).await.unwrap()
    }
}

fn connect(port: u16, call_timeout: Duration) -> RedisStore {
    connect_to(&format!("redis://127.0.0.1:{port}"), call_timeout)
}

pub fn connect_to(url: &str, call_timeout: Duration) -> RedisStore {
    let options = RedisOptions {
        target: url.parse().unwrap(),
        credentials: CredentialFiles::default(),
        call_timeout,
        wait: 0,
    };
    RedisStore::open(options, Arc::new(BootClock)).unwrap()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[async_trait]
impl Fixture for Redis {
    async fn start() -> Self {
        let server = spawn_blocking(RedisServer::start_durable).await.unwrap();
        Self {
            port: server.port(),
            server: Arc::new(Mutex::new(server)),
            backups: TempDir::new().unwrap(),
        }
    }

    async fn store(&self, call_timeout: Duration) -> Arc<dyn Store> {
        Arc::new(connect(self.port, call_timeout))
    }

    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>) {
        let server = SocketAddr::from(([127, 0, 0, 1], self.port));
        let proxy = Arc::new(Proxy::start(server).await);
        let store = connect(proxy.address().port(), call_timeout);
        (Arc::new(store), proxy)
    }

    async fn restart(&self, _election: &ElectionName, keep_data: bool) {
        self.with(move |server| {
            server.kill();
            if !keep_data {
                server.lose_data();
            }
            server.start_again();
        })
        .await;
    }

    async fn wipe(&self, _election: &ElectionName) {
        self.with(|server| server.command(&["FLUSHALL"])).await;
    }

    async fn back_up(&self, _election: &ElectionName) -> Backup {
        let backup = self.backups.path().join(format!("{:x}", fastrand::u64(..)));
        let to = backup.clone();
        self.with(move |server| copy(server.dir(), &to)).await;
        Box::new(backup)
    }

    async fn restore(&self, _election: &ElectionName, backup: &Backup) {
        let from = backup.downcast_ref::<PathBuf>().unwrap().clone();
        self.with(move |server| {
            server.kill();
            server.lose_data();
            copy(&from, server.dir());
            server.start_again();
        })
        .await;
    }

    async fn lose(&self, election: &ElectionName, half: Half) -> bool {
        let half = match half {
            Half::Leader => "leader",
            Half::State => "state",
        };
        let key = format!("tenure:{{{election}}}:{half}");
        self.with(move |server| server.command(&["DEL", &key]))
            .await;
        true
    }

    async fn connections(&self) -> Option<usize> {
        let list = self
            .with(|server| server.command(&["CLIENT", "LIST"]))
            .await;
        // One of them asks this.
        Some(list.text().lines().count() - 1)
    }
}
