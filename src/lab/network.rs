//! How the nodes reach their store, or each other: straight, or through proxies of the
//! lab's own where some are to be cut off, which so needs no root.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::net::TcpStream;

use super::Halt;
use super::members::Members;
use super::options::{Backend, Fault, Options};
use super::proxy::Proxy;

/// The ways between the nodes and what they need.
pub(super) struct Network {
    pub backend: Backend,
    ways: Ways,
    _home: Option<Home>,
}

enum Ways {
    Straight,
    /// To the store, one a node.
    Proxies(Vec<Proxy>),
    Members(Members),
}

/// A directory that goes with the lab.
struct Home(PathBuf);

impl Home {
    fn make(election: &str) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tenure-{election}"));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Network {
    /// Looks for the store, or makes one, and puts the proxies up.
    pub async fn start(options: &Options, election: &str) -> anyhow::Result<Self> {
        let cuts = |fault: &Fault| matches!(fault, Fault::Cut | Fault::Partition);
        let to_be_cut = options.faults.iter().any(cuts);
        let Some(backend) = options.backend.clone() else {
            let home = Home::make(election)?;
            let backend = Backend::directory(&home.0);
            return Ok(Self {
                backend: backend.map_err(|problem| anyhow::anyhow!("{problem}"))?,
                ways: Ways::Straight,
                _home: Some(home),
            });
        };
        if backend.has_members() {
            let home = Home::make(election)?;
            let members = Members::seated(options.nodes, &home.0, to_be_cut).await?;
            return Ok(Self {
                backend,
                ways: Ways::Members(members),
                _home: Some(home),
            });
        }
        let mut proxies = Vec::new();
        if let Some(server) = backend.target.server() {
            let reached = TcpStream::connect(&server).await;
            reached.with_context(|| Halt::StoreAway(server.clone()))?;
            for _ in (0..options.nodes).filter(|_| to_be_cut) {
                proxies.push(Proxy::start(server.clone()).await?);
            }
        }
        Ok(Self {
            backend,
            ways: Ways::Proxies(proxies),
            _home: None,
        })
    }

    /// A node's `TENURE_BACKEND`.
    pub fn backend_of(&self, number: usize) -> String {
        let proxy = match &self.ways {
            Ways::Proxies(proxies) => proxies.get(number),
            Ways::Straight | Ways::Members(_) => None,
        };
        self.backend.for_node(proxy.map(|proxy| proxy.address))
    }

    /// What else only this node is told.
    pub fn flags_of(&self, number: usize) -> Vec<String> {
        match &self.ways {
            Ways::Members(members) => members.flags(number),
            Ways::Straight | Ways::Proxies(_) => Vec::new(),
        }
    }

    /// Cuts these nodes off, from the store or from all other members, or heals that.
    pub fn set_cut(&self, nodes: &[usize], cut: bool) {
        match &self.ways {
            Ways::Straight => {}
            Ways::Proxies(proxies) => {
                for proxy in nodes.iter().filter_map(|node| proxies.get(*node)) {
                    proxy.set_cut(cut);
                }
            }
            Ways::Members(members) => members.set_cut(nodes, cut),
        }
    }
}
