//! Stores of the tests' own.

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
