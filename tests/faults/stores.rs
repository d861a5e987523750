//! Stores of the tests' own.

use super::proxy::Proxy;
use super::redis_server::RedisServer;

pub enum Store {
    Redis(RedisServer),
    File(tempfile::TempDir),
}

impl Store {
    /// One that has every write on disk before it answers.
    pub fn redis() -> Self {
        Self::Redis(RedisServer::start_durable())
    }

    pub fn file() -> Self {
        Self::File(tempfile::tempdir().unwrap())
    }

    /// The address for each of so many nodes.
    pub fn urls(&self, nodes: usize) -> Vec<String> {
        let url = match self {
            Self::Redis(server) => server.url(),
            Self::File(home) => format!("file://{}", home.path().display()),
        };
        vec![url; nodes]
    }
}

/// A Redis, and a proxy before it for each node.
pub struct Net {
    pub redis: RedisServer,
    pub proxies: Vec<Proxy>,
}

impl Net {
    pub fn new(nodes: usize) -> Self {
        Self::of(RedisServer::start_durable(), nodes)
    }

    pub fn of(redis: RedisServer, nodes: usize) -> Self {
        let proxies = (0..nodes).map(|_| Proxy::start(redis.port())).collect();
        Self { redis, proxies }
    }

    pub fn urls(&self) -> Vec<String> {
        self.proxies.iter().map(Proxy::url).collect()
    }

    /// The lease as it is stored, `epoch:session`.
    pub fn lease(&self) -> String {
        let lease = self.redis.command(&["GET", LEADER_KEY]);
        lease.text().to_owned()
    }
}

pub const LEADER_KEY: &str = "tenure:{default}:leader";
pub const STATE_KEY: &str = "tenure:{default}:state";
