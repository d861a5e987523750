//! The Lua scripts against a real server: by their headers, one by one, and against
//! the reference register, operation by operation.

#![cfg(feature = "redis")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/ports.rs"]
mod ports;
#[path = "support/redis.rs"]
mod redis_server;

#[path = "redis_scripts/differential.rs"]
mod differential;
#[path = "redis_scripts/operator.rs"]
mod operator;
#[path = "redis_scripts/parts.rs"]
mod parts;

use redis_server::{Raw, RedisServer, Reply};

macro_rules! script {
    ($file:literal) => {
        concat!(
            include_str!("../lua/record.lua"),
            include_str!(concat!("../lua/", $file))
        )
    };
}

pub const ACQUIRE: &str = script!("acquire.lua");
pub const RENEW: &str = script!("renew.lua");
pub const RELEASE: &str = script!("release.lua");
pub const OBSERVE: &str = script!("observe.lua");
pub const READ_CHECKPOINT: &str = script!("read_checkpoint.lua");
pub const WRITE_CHECKPOINT: &str = script!("write_checkpoint.lua");

pub const LEADER: &str = "tenure:{e}:leader";
pub const STATE: &str = "tenure:{e}:state";
pub const CHECKPOINT: &str = "tenure:{e}:checkpoint";
pub const CHANNEL: &str = "tenure:{e}:changes";

/// A raw connection that runs scripts on the keys above.
pub struct Scripts {
    pub raw: Raw,
}

impl Scripts {
    pub fn on(server: &RedisServer) -> Self {
        Self { raw: server.raw() }
    }

    pub fn run(&mut self, script: &str, arguments: &[&[u8]]) -> Reply {
        let head: [&[u8]; 6] = [
            b"EVAL",
            script.as_bytes(),
            b"3",
            LEADER.as_bytes(),
            STATE.as_bytes(),
            CHECKPOINT.as_bytes(),
        ];
        let words: Vec<&[u8]> = head.iter().chain(arguments).copied().collect();
        self.raw.command(&words)
    }

    pub fn words(&mut self, script: &str, arguments: &[&str]) -> Reply {
        let arguments: Vec<&[u8]> = arguments.iter().map(|word| word.as_bytes()).collect();
        self.run(script, &arguments)
    }

    pub fn command(&mut self, words: &[&str]) -> Reply {
        self.raw.command(words)
    }

    /// A bid with a TTL of a minute.
    pub fn acquire(&mut self, session: &str, floor: &str, server: &str) -> Reply {
        let record = r#"{"node":"n"}"#;
        let words = [
            session, record, "60000", "60600", floor, "0", server, "PUBLISH", CHANNEL,
        ];
        self.words(ACQUIRE, &words)
    }

    /// Everything that is stored, to see that nothing changed.
    pub fn dump(&mut self) -> Vec<Reply> {
        [LEADER, STATE, CHECKPOINT]
            .iter()
            .map(|key| match self.command(&["TYPE", key]).text() {
                "hash" => self.command(&["HGETALL", key]),
                "string" => self.command(&["GET", key]),
                "list" => self.command(&["LRANGE", key, "0", "-1"]),
                other => Reply::Text(other.to_owned()),
            })
            .collect()
    }
}

pub fn session(bits: u128) -> String {
    format!("{bits:032x}")
}
