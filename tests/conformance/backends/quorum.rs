//! Five members in this process, each with a disk of its own. A candidate is a sidecar of
//! one of them, in turn.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tenure::backend::quorum::{QuorumOptions, QuorumStore};
use tenure::backend::{Backend, Guarantees, Hints, PeerCount, Store};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Drift, ElectionName,
    NodeId, Observed, Released, Renewed, StoreError,
};
use tenure::peers::{MemberId, Members};
use tenure::quorum::Algorithm;
use tenure::time::{BootClock, Clock as _, pause};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::bench::LONG;
use crate::fault::Way;
use crate::faulty::Faulty;
use crate::fixture::{Backup, Fixture, Half};
use crate::node::BOUND;
use crate::ports::free_ports;

const MEMBERS: usize = 5;

/// Who asks for a free lease.
pub trait Kind: Send + Sync + 'static {
    const ALGORITHM: Algorithm;
}

pub struct AsBully;
impl Kind for AsBully {
    const ALGORITHM: Algorithm = Algorithm::Bully;
}

pub struct AsRing;
impl Kind for AsRing {
    const ALGORITHM: Algorithm = Algorithm::Ring;
}

pub type Bully = Quorum<AsBully>;
pub type Ring = Quorum<AsRing>;

pub struct Quorum<K> {
    places: Vec<Arc<Place>>,
    turns: Arc<Mutex<HashMap<ElectionName, usize>>>,
    /// The members' own: a candidate's may end before they do.
    runtime: Handle,
    _end: oneshot::Sender<()>,
    kind: PhantomData<K>,
}

/// Where a member runs, or does not.
struct Place {
    options: QuorumOptions,
    _disk: TempDir,
    member: RwLock<Option<Arc<QuorumStore>>>,
}

impl Place {
    fn new(algorithm: Algorithm, own: usize, ports: &[u16]) -> Self {
        let id = |at: usize| -> MemberId { format!("m{at}").parse().unwrap() };
        let list = ports.iter().enumerate();
        let list = list.map(|(at, port)| (id(at), format!("127.0.0.1:{port}")));
        let disk = TempDir::new().unwrap();
        let options = QuorumOptions {
            algorithm,
            cluster: "test".to_owned(),
            members: Members::new(id(own), list).unwrap(),
            listen: format!("127.0.0.1:{}", ports[own]).parse().unwrap(),
            insecure: false,
            tls: None,
            heartbeat: Duration::from_millis(200),
            suspicion: Duration::from_secs(1),
            election_timeout: Duration::from_secs(5),
            bootstrap: true,
            state_dir: disk.path().to_owned(),
            drift: Drift::ONE_PERCENT,
            longest_lease: LONG,
            // A hundred elections begin at once, on one machine's disk.
            call_timeout: Duration::from_secs(5),
        };
        Self {
            options,
            _disk: disk,
            member: RwLock::new(None),
        }
    }

    /// Its earlier start may still hold the disk or the port for a moment.
    async fn start(&self) {
        let until = BootClock.now() + BOUND;
        loop {
            match QuorumStore::open(self.options.clone(), Arc::new(BootClock)).await {
                Ok(store) => {
                    *self.member.write().unwrap() = Some(Arc::new(store));
                    return;
                }
                Err(error) => assert!(BootClock.now() < until, "{error}"),
            }
            pause(Duration::from_millis(5)).await;
        }
    }

    fn stop(&self) {
        self.member.write().unwrap().take();
    }

    fn present(&self) -> Option<Arc<QuorumStore>> {
        self.member.read().unwrap().clone()
    }
}

/// A thread with a runtime, until the other side is dropped.
fn own_runtime(ended: oneshot::Receiver<()>) -> Handle {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || {
        let _ = runtime.block_on(ended);
        runtime.shutdown_background();
    });
    handle
}

impl<K: Kind> Quorum<K> {
    async fn on_own_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.runtime.spawn(work).await.unwrap()
    }

    async fn start_all(&self) {
        let places = self.places.clone();
        self.on_own_runtime(async move {
            for place in &places {
                place.start().await;
            }
            let until = BootClock.now() + BOUND;
            let name: ElectionName = "met".parse().unwrap();
            for place in &places {
                let backend = place.present().unwrap().election(&name);
                while backend.peers().unwrap().connected < MEMBERS - 1 {
                    assert!(BootClock.now() < until, "the members do not meet");
                    pause(Duration::from_millis(5)).await;
                }
            }
        })
        .await;
    }
}

impl<K> Drop for Quorum<K> {
    fn drop(&mut self) {
        self.places.iter().for_each(|place| place.stop());
    }
}

#[async_trait]
impl<K: Kind> Fixture for Quorum<K> {
    async fn start() -> Self {
        let ports = free_ports(MEMBERS);
        let place = |own| Arc::new(Place::new(K::ALGORITHM, own, &ports));
        let (end, ended) = oneshot::channel();
        let fixture = Self {
            places: (0..MEMBERS).map(place).collect(),
            turns: Arc::default(),
            runtime: own_runtime(ended),
            _end: end,
            kind: PhantomData,
        };
        fixture.start_all().await;
        fixture
    }

    async fn store(&self, _call_timeout: Duration) -> Arc<dyn Store> {
        Arc::new(Sidecar {
            places: self.places.clone(),
            turns: Arc::clone(&self.turns),
            own: Mutex::default(),
        })
    }

    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>) {
        Faulty::around(self.store(call_timeout).await)
    }

    async fn restart(&self, _election: &ElectionName, keep_data: bool) {
        assert!(keep_data, "members do not outlive all of their disks");
        self.places.iter().for_each(|place| place.stop());
        self.start_all().await;
    }

    async fn wipe(&self, _election: &ElectionName) {
        unimplemented!("members do not outlive all of their disks");
    }

    async fn back_up(&self, _election: &ElectionName) -> Backup {
        unimplemented!("members do not outlive older copies of their disks");
    }

    async fn restore(&self, _election: &ElectionName, _backup: &Backup) {
        unimplemented!("members do not outlive older copies of their disks");
    }

    async fn lose(&self, _election: &ElectionName, _half: Half) -> bool {
        false
    }

    fn written_ttl(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn outlives_its_data(&self) -> bool {
        false
    }

    fn keeps_releases(&self) -> bool {
        false
    }

    fn binds_for(&self, ttl: Duration) -> Duration {
        Drift::ONE_PERCENT.lengthen(ttl) + Duration::from_millis(2)
    }
}

/// A sidecar: in each election that of the next member, so that no two share one sooner
/// than they must. Members may be started anew meanwhile.
struct Sidecar {
    places: Vec<Arc<Place>>,
    turns: Arc<Mutex<HashMap<ElectionName, usize>>>,
    own: Mutex<HashMap<ElectionName, usize>>,
}

impl Sidecar {
    fn place(&self, name: &ElectionName) -> Arc<Place> {
        let mut own = self.own.lock().unwrap();
        let at = *own.entry(name.clone()).or_insert_with(|| {
            let mut turns = self.turns.lock().unwrap();
            let turn = turns.entry(name.clone()).or_default();
            *turn += 1;
            *turn % MEMBERS
        });
        Arc::clone(&self.places[at])
    }
}

impl Store for Sidecar {
    fn guarantees(&self) -> Guarantees {
        self.places[0].present().unwrap().guarantees()
    }

    fn address(&self) -> String {
        self.places[0].present().unwrap().address()
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(Election {
            place: self.place(name),
            name: name.clone(),
        })
    }
}

struct Election {
    place: Arc<Place>,
    name: ElectionName,
}

impl Election {
    fn inner(&self) -> Result<Arc<dyn Backend>, StoreError> {
        let store = self.place.present();
        let store = store.ok_or_else(|| StoreError::Unavailable("not started".to_owned()))?;
        Ok(store.election(&self.name))
    }
}

#[async_trait]
impl Backend for Election {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        self.inner()?.acquire(bid).await
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        self.inner()?.renew(claim).await
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        self.inner()?.release(claim, prefer).await
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        self.inner()?.observe().await
    }

    fn changes(&self) -> Hints {
        match self.inner() {
            Ok(inner) => inner.changes(),
            Err(_) => futures_util::stream::pending().boxed(),
        }
    }

    fn peers(&self) -> Option<PeerCount> {
        self.inner().ok()?.peers()
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        self.inner()?.read_checkpoint().await
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        self.inner()?.write_checkpoint(write).await
    }
}
