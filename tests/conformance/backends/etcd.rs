//! etcd servers of the test's own: one, or a cluster of three.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tenure::backend::Store;
use tenure::backend::etcd::{EtcdOptions, EtcdStore};
use tenure::lease::ElectionName;
use tenure::time::BootClock;
use tenure::wire::CredentialFiles;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;

use crate::etcd_server::{Etcd, Setup, Version};
use crate::fault::Way;
use crate::fixture::{Backup, Fixture, Half};
use crate::proxy::Proxy;

/// More at once only wait for each other on a small machine.
static PLACES: Semaphore = Semaphore::const_new(4);

/// `CLUSTER`: three members instead of one; `NEWER`: etcd 3.5 instead of 3.4.
pub struct Servers<const CLUSTER: bool, const NEWER: bool> {
    etcd: Arc<Mutex<Etcd>>,
    ports: Vec<u16>,
    backups: TempDir,
    _place: SemaphorePermit<'static>,
}

pub type Etcd34 = Servers<false, false>;
pub type Etcd35 = Servers<false, true>;
pub type Etcd34Cluster = Servers<true, false>;
pub type Etcd35Cluster = Servers<true, true>;

impl<const CLUSTER: bool, const NEWER: bool> Servers<CLUSTER, NEWER> {
    /// Does what blocks where it may: nodes go on meanwhile.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Etcd) -> T + Send + 'static,
    ) -> T {
        let etcd = Arc::clone(&self.etcd);
        let work = move || work(&mut etcd.lock().unwrap());
        spawn_blocking(work).await.unwrap()
    }
}

fn connect(ports: &[u16], call_timeout: Duration) -> EtcdStore {
    let places: Vec<_> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let options = EtcdOptions {
        target: format!("etcd://{}", places.join(",")).parse().unwrap(),
        credentials: CredentialFiles::default(),
        call_timeout,
    };
    EtcdStore::open(options, Arc::new(BootClock)).unwrap()
}

#[async_trait]
impl<const CLUSTER: bool, const NEWER: bool> Fixture for Servers<CLUSTER, NEWER> {
    async fn start() -> Self {
        let place = PLACES.acquire().await.unwrap();
        let version = if NEWER { Version::V3_5 } else { Version::V3_4 };
        let setup = Setup::of(version, if CLUSTER { 3 } else { 1 });
        let etcd = spawn_blocking(|| Etcd::start(setup)).await.unwrap();
        Self {
            ports: etcd.ports(),
            etcd: Arc::new(Mutex::new(etcd)),
            backups: TempDir::new().unwrap(),
            _place: place,
        }
    }

    async fn store(&self, call_timeout: Duration) -> Arc<dyn Store> {
        Arc::new(connect(&self.ports, call_timeout))
    }

    /// Through one member: a way that fails to all of them at once is no other.
    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>) {
        let server = SocketAddr::from(([127, 0, 0, 1], self.ports[0]));
        let proxy = Arc::new(Proxy::start(server).await);
        let store = connect(&[proxy.address().port()], call_timeout);
        (Arc::new(store), proxy)
    }

    async fn restart(&self, _election: &ElectionName, keep_data: bool) {
        self.with(move |etcd| {
            etcd.kill_all();
            if !keep_data {
                etcd.lose_data();
            }
            etcd.start_all_again();
        })
        .await;
    }

    async fn wipe(&self, election: &ElectionName) {
        let prefix = format!("tenure/{election}/");
        self.with(move |etcd| etcd.delete_prefix(&prefix)).await;
    }

    async fn back_up(&self, _election: &ElectionName) -> Backup {
        let backup = self.backups.path().join(format!("{:x}", fastrand::u64(..)));
        let to = backup.clone();
        self.with(move |etcd| etcd.save(&to)).await;
        Box::new(backup)
    }

    async fn restore(&self, _election: &ElectionName, backup: &Backup) {
        let from = backup.downcast_ref::<PathBuf>().unwrap().clone();
        self.with(move |etcd| etcd.restore(&from)).await;
    }

    async fn lose(&self, election: &ElectionName, half: Half) -> bool {
        let half = match half {
            Half::Leader => "leader",
            Half::State => "state",
        };
        let key = format!("tenure/{election}/{half}");
        self.with(move |etcd| etcd.delete(&key)).await;
        true
    }

    async fn connections(&self) -> Option<usize> {
        Some(self.with(|etcd| etcd.connections()).await)
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn node_ttl(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// A lease, and the transaction that binds the record to it.
    fn round_trips(&self) -> u32 {
        2
    }
}
