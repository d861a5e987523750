//! The Lua scripts, and the keys of one election.

use std::sync::LazyLock;

use redis::Script;
use redis::aio::MultiplexedConnection;

use crate::lease::ElectionName;

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub(super) static $name: LazyLock<Named> = LazyLock::new(|| {
            Named::new(
                $file,
                concat!(
                    include_str!("../../../lua/record.lua"),
                    include_str!(concat!("../../../lua/", $file)),
                ),
            )
        });
    };
}

script!(
    /// `lua/acquire.lua`
    ACQUIRE,
    "acquire.lua"
);
script!(
    /// `lua/renew.lua`
    RENEW,
    "renew.lua"
);
script!(
    /// `lua/release.lua`
    RELEASE,
    "release.lua"
);
script!(
    /// `lua/observe.lua`
    OBSERVE,
    "observe.lua"
);
script!(
    /// `lua/read_checkpoint.lua`
    READ_CHECKPOINT,
    "read_checkpoint.lua"
);
script!(
    /// `lua/write_checkpoint.lua`
    WRITE_CHECKPOINT,
    "write_checkpoint.lua"
);

/// A script with its SHA-1, by which Redis knows it once it has run.
pub(super) struct Named {
    pub name: &'static str,
    pub code: &'static str,
    pub sha1: String,
}

impl Named {
    fn new(name: &'static str, code: &'static str) -> Self {
        let sha1 = Script::new(code).get_hash().to_owned();
        Self { name, code, sha1 }
    }
}

/// Makes Redis compile the scripts that it does not know, so that no release and no
/// bid pays for it (a millisecond each). Nothing rests on it: where it fails, or the
/// user may not, a script is sent whole when it is needed.
pub(super) async fn teach(mut connection: MultiplexedConnection) {
    let all: [&Named; 6] = [
        &ACQUIRE,
        &RENEW,
        &RELEASE,
        &OBSERVE,
        &READ_CHECKPOINT,
        &WRITE_CHECKPOINT,
    ];
    let mut question = redis::cmd("SCRIPT");
    question.arg("EXISTS");
    for script in all {
        question.arg(&script.sha1);
    }
    let Ok(known) = question.query_async::<Vec<bool>>(&mut connection).await else {
        return;
    };
    for (script, _) in all.iter().zip(known).filter(|(_, known)| !known) {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script.code);
        // One at a time: Redis serves others in between.
        if load.exec_async(&mut connection).await.is_err() {
            return;
        }
    }
}

/// The names of one election's keys. The braces make them one hash slot.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The lease.
    pub leader: String,
    /// The newest tenure.
    pub state: String,
    /// The checkpoint.
    pub checkpoint: String,
    /// Where changes are told.
    pub channel: String,
}

impl Keys {
    pub(super) fn of(election: &ElectionName) -> Self {
        let key = |part: &str| format!("tenure:{{{election}}}:{part}");
        Self {
            leader: key("leader"),
            state: key("state"),
            checkpoint: key("checkpoint"),
            channel: key("changes"),
        }
    }
}
