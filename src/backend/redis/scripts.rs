//! The Lua scripts, and the keys of one election.

use std::sync::LazyLock;

use redis::Script;

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
