//! A member that leads the log, and the lease that it gives back before it ends.

use std::time::Duration;

use futures_util::StreamExt as _;
use tenure::backend::raft::RaftStore;
use tenure::backend::{Backend, Store};
use tenure::lease::{
    Acquired, Bid, Claim, ElectionName, Epoch, Hint, Profile, Released, SessionId,
};
use tenure::time::within;
use tokio::sync::oneshot;

use crate::cluster::Cluster;
use crate::members::{BOUND, options, raft_leader, start, stop};

const IDS: [&str; 3] = ["a", "b", "c"];
/// Much longer than an election of the log.
const TTL: Duration = Duration::from_secs(60);

fn bid(bits: u128) -> Bid {
    Bid {
        session: SessionId::from_bits(bits),
        profile: Profile {
            node: format!("node-{bits}").parse().unwrap(),
            url: None,
            metadata: Vec::new(),
        },
        ttl: TTL,
        hold: TTL,
        floor: None,
        incumbent: false,
    }
}

fn won(answer: Acquired) -> Epoch {
    match answer {
        Acquired::Won { epoch, .. } => epoch,
        other => panic!("not won: {other:?}"),
    }
}

/// Bids when the lease was given back.
async fn inherit(backend: &dyn Backend, listens: oneshot::Sender<()>) -> Epoch {
    let mut hints = backend.changes();
    let mut listens = Some(listens);
    while let Some(hint) = hints.next().await {
        match hint {
            Hint::Present(_) => listens.take().unwrap().send(()).unwrap(),
            Hint::Ended { .. } => break,
            _ => {}
        }
    }
    // An answer that is lost on a busy machine is asked for again.
    loop {
        if let Ok(answer) = backend.acquire(&bid(2)).await {
            return won(answer);
        }
    }
}

#[tokio::test]
async fn an_heir_need_not_wait_for_another_leader_of_the_log() {
    let cluster = Cluster::new(&IDS);
    let mut nodes = Vec::new();
    for own in IDS {
        let disk = cluster.disks.path().join(own);
        nodes.push(start(options(cluster.options(own), disk)).await);
    }
    let leader = raft_leader(&nodes[0]).await;
    let leads = nodes.iter().position(|it| it.status().member == leader);
    let ending = nodes.remove(leads.unwrap());
    let name: ElectionName = "orders".parse().unwrap();
    let store = RaftStore::new(ending.clone(), BOUND);
    let backend = store.election(&name);
    let epoch = won(backend.acquire(&bid(1)).await.unwrap());

    let heirs = RaftStore::new(nodes[0].clone(), BOUND).election(&name);
    let (listens, listening) = oneshot::channel();
    let inherits = tokio::spawn(async move { inherit(&*heirs, listens).await });
    within(BOUND, listening).await.unwrap().unwrap();
    let claim = Claim {
        epoch,
        session: SessionId::from_bits(1),
        ttl: TTL,
        hold: TTL,
    };
    let released = backend.release(&claim, None).await.unwrap();
    assert_eq!(released, Released::Released);
    store.leave().await;
    match backend.observe().await.unwrap().holder {
        Some((holder, _)) => assert_eq!(holder.profile.node.as_str(), "node-2"),
        // A machine that stood still for a second elected another one meanwhile.
        None => assert_ne!(ending.status().raft_leader, Some(leader), "no heir yet"),
    }
    ending.stop().await;
    let inherited = within(BOUND, inherits).await.unwrap().unwrap();
    assert!(inherited > epoch);
    stop(&nodes).await;
}
