//! Three members in this process, each with a disk and a port of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tenure::backend::raft::RaftStore;
use tenure::backend::{Backend, Guarantees, Hints, Store};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Drift, ElectionName,
    Hint, NodeId, Observed, Released, Renewed, StoreError,
};
use tenure::peers::{Identity, MemberId, Members, MeshOptions, Missing};
use tenure::raft::{RaftNode, RaftOptions};
use tenure::time::{BootClock, pause};
use tokio::sync::{Mutex, watch};
use tokio_stream::wrappers::WatchStream;

use crate::bench::PATIENT;
use crate::fault::Way;
use crate::faulty::Faulty;
use crate::fixture::{Backup, Fixture, Half};
use crate::ports::free_ports;

const IDS: [&str; 3] = ["a", "b", "c"];
/// Of an election among the members: Raft's own timeouts are 150 to 300 ms.
const ELECTION: Duration = Duration::from_secs(3);

type Nodes = Vec<Arc<RaftNode>>;

pub struct Raft {
    home: TempDir,
    ports: Vec<u16>,
    nodes: watch::Sender<Nodes>,
    /// Whose turn it is to be another candidate's member.
    next: Mutex<usize>,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

impl Raft {
    fn dir(&self, id: &str) -> PathBuf {
        self.home.path().join(id)
    }

    async fn one(&self, index: usize) -> Arc<RaftNode> {
        let id: MemberId = IDS[index].parse().unwrap();
        let list = IDS.iter().zip(&self.ports);
        let list = list.map(|(id, port)| (id.parse().unwrap(), format!("127.0.0.1:{port}")));
        let state_dir = self.dir(IDS[index]);
        let listen = ([127, 0, 0, 1], self.ports[index]).into();
        let identity = Identity::open(&state_dir, "suite", id, Missing::Create).unwrap();
        let members = Members::new(id, list).unwrap();
        let options = RaftOptions {
            mesh: MeshOptions::new(identity, members, listen),
            state_dir,
            witness: false,
            bootstrap: true,
            election_timeout: ELECTION,
            drift: Drift::ONE_PERCENT,
        };
        let mut tries = 0;
        // What was stopped lets go of its file and its port a moment later.
        loop {
            match RaftNode::start(options.clone(), Arc::new(BootClock)).await {
                Ok(node) => return node,
                Err(error) => assert!(tries < 500, "{error}"),
            }
            tries += 1;
            pause(Duration::from_millis(10)).await;
        }
    }

    async fn all(&self) {
        let mut nodes = Vec::new();
        for index in 0..IDS.len() {
            nodes.push(self.one(index).await);
        }
        self.nodes.send_replace(nodes);
        let store = self.store(PATIENT).await;
        let any = store.election(&"started".parse().unwrap());
        any.observe().await.unwrap();
    }

    async fn none(&self) {
        let nodes = self.nodes.send_replace(Vec::new());
        for node in &nodes {
            node.stop().await;
        }
    }

    fn lose_disks(&self) {
        for id in IDS {
            std::fs::remove_dir_all(self.dir(id)).unwrap();
        }
    }
}

#[async_trait]
impl Fixture for Raft {
    async fn start() -> Self {
        let raft = Self {
            home: TempDir::new().unwrap(),
            ports: free_ports(IDS.len()),
            nodes: watch::channel(Vec::new()).0,
            next: Mutex::default(),
        };
        raft.all().await;
        raft
    }

    async fn store(&self, call_timeout: Duration) -> Arc<dyn Store> {
        let mut next = self.next.lock().await;
        *next += 1;
        Arc::new(Via {
            nodes: self.nodes.clone(),
            index: *next % IDS.len(),
            call_timeout,
        })
    }

    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>) {
        Faulty::around(self.store(call_timeout).await)
    }

    async fn restart(&self, _election: &ElectionName, keep_data: bool) {
        self.none().await;
        if !keep_data {
            self.lose_disks();
        }
        self.all().await;
    }

    async fn wipe(&self, election: &ElectionName) {
        self.restart(election, false).await;
    }

    async fn back_up(&self, _election: &ElectionName) -> Backup {
        self.none().await;
        let aside = TempDir::new().unwrap();
        for id in IDS {
            copy(&self.dir(id), &aside.path().join(id));
        }
        self.all().await;
        Box::new(aside)
    }

    async fn restore(&self, _election: &ElectionName, backup: &Backup) {
        self.none().await;
        self.lose_disks();
        let aside = backup.downcast_ref::<TempDir>().unwrap();
        for id in IDS {
            copy(&aside.path().join(id), &self.dir(id));
        }
        self.all().await;
    }

    /// Longer than it takes to stop all members and to start them again.
    fn short_ttl(&self) -> Duration {
        Duration::from_millis(1500)
    }

    async fn lose(&self, _election: &ElectionName, _half: Half) -> bool {
        false
    }
}

/// One member, whichever start of it is at work.
#[derive(Clone)]
struct Via {
    nodes: watch::Sender<Nodes>,
    index: usize,
    call_timeout: Duration,
}

impl Via {
    fn now(&self) -> Result<RaftStore, StoreError> {
        let node = self.nodes.borrow().get(self.index).cloned();
        let node = node.ok_or_else(|| StoreError::Unavailable("stopped".to_owned()))?;
        Ok(RaftStore::new(node, self.call_timeout))
    }
}

impl Store for Via {
    fn guarantees(&self) -> Guarantees {
        self.now().unwrap().guarantees()
    }

    fn address(&self) -> String {
        self.now().unwrap().address()
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(ViaElection {
            via: self.clone(),
            name: name.clone(),
        })
    }
}

struct ViaElection {
    via: Via,
    name: ElectionName,
}

impl ViaElection {
    fn now(&self) -> Result<Arc<dyn Backend>, StoreError> {
        Ok(self.via.now()?.election(&self.name))
    }
}

#[async_trait]
impl Backend for ViaElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        self.now()?.acquire(bid).await
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        self.now()?.renew(claim).await
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        self.now()?.release(claim, prefer).await
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        self.now()?.observe().await
    }

    fn changes(&self) -> Hints {
        let (via, name) = (self.via.clone(), self.name.clone());
        let starts = WatchStream::new(via.nodes.subscribe()).enumerate();
        let hints = starts.flat_map(move |(start, nodes)| {
            let gap = stream::iter((start > 0).then_some(Hint::Gap));
            let Some(node) = nodes.get(via.index).cloned() else {
                return gap.boxed();
            };
            let store = RaftStore::new(node, via.call_timeout);
            let mut ended = via.nodes.subscribe();
            let over = async move {
                let _ = ended.changed().await;
            };
            let hints = store.election(&name).changes();
            gap.chain(hints.take_until(Box::pin(over))).boxed()
        });
        hints.boxed()
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        self.now()?.read_checkpoint().await
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        self.now()?.write_checkpoint(write).await
    }
}
