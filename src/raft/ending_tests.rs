//! Whole members in this process, whose disks refuse a write.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::LogId as OpenLogId;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::disk::{Disk, builder};
use super::three::{BOUND, CALL, IDS, Three, orders, taken, until};
use super::types::RaftId;
use super::{Change, Outcome, RaftNode};
use crate::lease::{Claim, Renewed, StoreError};
use crate::peers::sockets::Tcp;
use crate::time::{BootClock, pause, within};

/// A disk that is full from some moment on.
#[derive(Debug)]
struct Full {
    inner: InMemoryBackend,
    full: Arc<AtomicBool>,
}

impl Full {
    fn refused(&self) -> io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Full {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.refused()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.refused()?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.refused()?;
        self.inner.write(offset, data)
    }
}

async fn started(three: &Three, index: usize, full: &Arc<AtomicBool>) -> Arc<RaftNode> {
    let options = three.options(index);
    let backend = Full {
        inner: InMemoryBackend::new(),
        full: Arc::clone(full),
    };
    let database = builder().create_with_backend(backend);
    let disk = Disk::made(database, &options.mesh.identity.disk).unwrap();
    let clock = Arc::new(BootClock);
    let node = RaftNode::start_with(disk, Arc::new(Tcp), options, clock).await;
    node.unwrap()
}

async fn renewed(node: &RaftNode, claim: &Claim) {
    let renew = async {
        loop {
            let change = Change::Renew(claim.clone());
            if let Ok(Outcome::Renewed(Renewed::Kept { .. })) =
                node.change(&orders(), change, CALL).await
            {
                return;
            }
            pause(Duration::from_millis(1)).await;
        }
    };
    assert!(within(BOUND, renew).await.is_some(), "nobody renews");
}

/// Whether the member's duties have ended.
fn over(node: &RaftNode) -> bool {
    let mut tasks = node.tasks.lock().unwrap();
    while tasks.try_join_next().is_some() {}
    // Only who answers the peers, and who would write, stay.
    tasks.len() <= 2
}

/// The disk of one of three fills up: of who leads the log, or of another one.
async fn one_fills_up(leads: bool) {
    let three = Three::new();
    let full: Vec<Arc<AtomicBool>> = IDS.iter().map(|_| Arc::default()).collect();
    let mut nodes = Vec::new();
    for (index, full) in full.iter().enumerate() {
        nodes.push(started(&three, index, full).await);
    }
    let claim = taken(&nodes[0]).await;
    let raft_leader = nodes[0].status().raft_leader.unwrap();
    let victim = IDS.iter().position(|id| (*id == raft_leader) == leads);
    let victim = victim.unwrap();
    full[victim].store(true, Ordering::SeqCst);
    let broken = nodes.remove(victim);
    // What the others write goes to its disk, too; where it leads, it is asked itself.
    let told = async {
        let renew = async {
            loop {
                let change = Change::Renew(claim.clone());
                let _ = broken.change(&orders(), change, CALL).await;
                pause(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            why = broken.ended() => why,
            () = renew => unreachable!(),
        }
    };
    let why = within(BOUND, told).await.unwrap();
    let StoreError::Unavailable(why) = why else {
        panic!("{why:?}");
    };
    let file = three.home.path().join(IDS[victim]).join("raft.redb");
    let named = file.display().to_string();
    assert!(why.contains(&named) && why.contains("restart"), "{why}");

    // Whatever it is asked from now on, it knows that it cannot answer.
    let asked = broken.observe(&orders(), BOUND).await.unwrap_err();
    assert_eq!(asked, StoreError::Unavailable(why));
    let status = broken.status();
    assert_eq!((status.raft_leader, status.has_quorum), (None, false));
    // It promises no vote, to however long a log, and however long it has heard nobody.
    *broken.member.heard.lock().unwrap() = None;
    let longest = OpenLogId {
        index: u64::MAX,
        ..OpenLogId::<RaftId>::default()
    };
    assert!(!broken.member.would_vote(Some(longest)));
    until("its duties end", || over(&broken)).await;

    // The two others are a majority, and go on without it.
    renewed(&nodes[0], &claim).await;
    for node in nodes.iter().chain([&broken]) {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_raft_leader_whose_disk_fills_up_ends_and_the_others_go_on() {
    one_fills_up(true).await;
}

#[tokio::test]
async fn a_follower_whose_disk_fills_up_ends_and_the_others_go_on() {
    one_fills_up(false).await;
}
