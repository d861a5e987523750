//! Starts this node as a member of a cluster of sidecars.

use std::sync::Arc;

use crate::backend::Store;
use crate::config::{Algorithm, Cluster, Config, Peers, Problem};
use crate::time::Clock;

/// Opens the cluster's backend. Unlike a server that is away, a disk that cannot be trusted
/// or a port that is taken is this machine's own affair, and told at once.
pub(super) async fn open(
    config: &Config,
    cluster: &Cluster,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, Problem> {
    let of = |what: &dyn std::fmt::Display| Problem::new(format!("--backend {cluster}: {what}"));
    let Some(peers) = &config.peers else {
        return Err(of(&"no members are configured; list them with --peer"));
    };
    match cluster.algorithm {
        #[cfg(feature = "raft")]
        Algorithm::Raft => {
            let options = raft_options(config, cluster, peers).await?;
            let node = crate::raft::RaftNode::start(options, Arc::clone(clock)).await;
            let node = node.map_err(|error| of(&error))?;
            let call_timeout = config.timing.call_timeout();
            Ok(Arc::new(crate::backend::raft::RaftStore::new(
                node,
                call_timeout,
            )))
        }
        #[cfg(not(feature = "raft"))]
        Algorithm::Raft => {
            let _ = (peers, clock);
            Err(of(&"this build does not serve it"))
        }
        #[cfg(feature = "quorum")]
        Algorithm::Bully | Algorithm::Ring => {
            let options = quorum_options(config, cluster, peers).await?;
            let store = crate::backend::quorum::QuorumStore::open(options, Arc::clone(clock)).await;
            Ok(Arc::new(store.map_err(|error| of(&error))?))
        }
        #[cfg(not(feature = "quorum"))]
        Algorithm::Bully | Algorithm::Ring => {
            let _ = (peers, clock);
            Err(of(&"this build does not serve it"))
        }
    }
}

#[cfg(feature = "quorum")]
async fn quorum_options(
    config: &Config,
    cluster: &Cluster,
    peers: &Peers,
) -> Result<crate::backend::quorum::QuorumOptions, Problem> {
    let state_dir = config.state_dir.clone();
    let state_dir = state_dir.ok_or_else(|| Problem::new("members need --state-dir"))?;
    Ok(crate::backend::quorum::QuorumOptions {
        algorithm: match cluster.algorithm {
            Algorithm::Ring => crate::quorum::Algorithm::Ring,
            _ => crate::quorum::Algorithm::Bully,
        },
        cluster: cluster.to_string(),
        members: peers.members.clone(),
        listen: peers.listen_address().await?,
        insecure: peers.insecure,
        tls: Some(config.credentials.clone()).filter(|files| files.ca.is_some()),
        heartbeat: peers.heartbeat,
        suspicion: peers.suspicion,
        election_timeout: peers.election_timeout,
        bootstrap: peers.bootstrap,
        state_dir,
        drift: config.timing.drift(),
        longest_lease: config.timing.ttl(),
        call_timeout: config.timing.call_timeout(),
    })
}

#[cfg(feature = "raft")]
async fn raft_options(
    config: &Config,
    cluster: &Cluster,
    peers: &Peers,
) -> Result<crate::raft::RaftOptions, Problem> {
    use crate::peers::MeshOptions;
    use crate::raft::RaftNode;
    let state_dir = config.state_dir.clone();
    let state_dir = state_dir.ok_or_else(|| Problem::new("members need --state-dir"))?;
    let own = peers.members.own();
    let identity = RaftNode::identity(&state_dir, &cluster.to_string(), own)
        .map_err(|error| Problem::new(format!("--backend {cluster}: {error}")))?;
    let mut mesh = MeshOptions::new(
        identity,
        peers.members.clone(),
        peers.listen_address().await?,
    );
    mesh.insecure_peers = peers.insecure;
    mesh.heartbeat = peers.heartbeat;
    mesh.suspect_after = peers.suspicion;
    mesh.tls = Some(config.credentials.clone()).filter(|files| files.ca.is_some());
    Ok(crate::raft::RaftOptions {
        mesh,
        state_dir,
        witness: peers.witness,
        bootstrap: peers.bootstrap,
        election_timeout: peers.election_timeout,
        drift: config.timing.drift(),
    })
}
