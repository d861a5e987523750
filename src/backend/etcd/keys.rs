//! The names under which one election stands in etcd.

use crate::lease::ElectionName;

/// One election's keys. An election's name holds no slash, so no election's keys are
/// inside another's.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// `epoch:session` of who leads; gone with the holder's etcd lease.
    pub leader: String,
    /// The same text, gone with the same etcd lease: while it stands without the leader
    /// key, somebody deleted that one, and a leader may go on inside its lease.
    pub lease: String,
    /// Gone with an etcd lease of its own; no grant while it stands.
    pub hold: String,
    /// The newest tenure, in JSON; never gone by itself.
    pub state: String,
    /// Revision and bytes; never gone by itself.
    pub checkpoint: String,
}

impl Keys {
    pub(super) fn of(name: &ElectionName) -> Self {
        let key = |part| format!("tenure/{name}/{part}");
        Self {
            leader: key("leader"),
            lease: key("lease"),
            hold: key("hold"),
            state: key("state"),
            checkpoint: key("checkpoint"),
        }
    }

    /// The range `[from, to)` that holds everything about the lease, and not the
    /// checkpoint: it sorts before the others, and is too big to be told to everybody.
    pub(super) fn of_lease(&self) -> (&str, String) {
        (&self.hold, format!("{}\0", self.state))
    }

    /// The range `[from, to)` that holds everything.
    pub(super) fn all(&self) -> (&str, String) {
        (&self.checkpoint, format!("{}\0", self.state))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_read_without_the_checkpoint() {
        let keys = Keys::of(&"e".parse().unwrap());
        let within = |(from, to): (&str, String), key: &String| from <= &**key && *key < to;
        for key in [&keys.leader, &keys.lease, &keys.hold, &keys.state] {
            assert!(
                within(keys.of_lease(), key) && within(keys.all(), key),
                "{key}"
            );
        }
        assert!(!within(keys.of_lease(), &keys.checkpoint));
        assert!(within(keys.all(), &keys.checkpoint));
    }
}
