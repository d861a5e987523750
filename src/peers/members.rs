//! Who the members are, and where each one listens: the same list on every node.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::MemberId;
use crate::wire::{Endpoint, EndpointError};

/// The most members of a cluster: every node holds a connection to every other one.
pub const MOST_MEMBERS: usize = 32;

/// Who the members are. It does not change while a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    own: MemberId,
    all: BTreeMap<MemberId, Endpoint>,
}

/// Why a list of members cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Nobody, or more than can be.
    #[error("a cluster has 1 to {MOST_MEMBERS} members, not {0}")]
    Count(usize),
    /// One id for two.
    #[error("member {0} is listed twice: give each node an id of its own")]
    SameId(MemberId),
    /// One address for two.
    #[error("members {0} and {1} have the same address {2}: each node listens on its own")]
    SameAddress(MemberId, MemberId, Endpoint),
    /// This node is not in the list.
    #[error("this node, {0}, is not in the list of members: list it, with its own address, too")]
    OwnMissing(MemberId),
    /// No address.
    #[error("member {0}: {1}; HOST:PORT was expected")]
    Address(MemberId, EndpointError),
}

impl Members {
    /// The members as the node `own` is told of them: each with its `HOST:PORT`.
    ///
    /// # Errors
    /// The first thing that is wrong with the list.
    pub fn new<A: AsRef<str>>(
        own: MemberId,
        list: impl IntoIterator<Item = (MemberId, A)>,
    ) -> Result<Self, MembersError> {
        let mut all: BTreeMap<MemberId, Endpoint> = BTreeMap::new();
        let mut count = 0;
        for (id, address) in list {
            count += 1;
            // A port is a must: 0 stands for none, and no endpoint has it.
            let endpoint = Endpoint::parse(address.as_ref(), 0)
                .and_then(|endpoint| match endpoint.port {
                    0 => Err(EndpointError::Port(String::new())),
                    _ => Ok(endpoint),
                })
                .map_err(|error| MembersError::Address(id, error))?;
            if let Some((other, _)) = all.iter().find(|(_, place)| **place == endpoint) {
                return Err(if *other == id {
                    MembersError::SameId(id)
                } else {
                    MembersError::SameAddress(*other, id, endpoint)
                });
            }
            if all.insert(id, endpoint).is_some() {
                return Err(MembersError::SameId(id));
            }
        }
        if count == 0 || count > MOST_MEMBERS {
            return Err(MembersError::Count(count));
        }
        if !all.contains_key(&own) {
            return Err(MembersError::OwnMissing(own));
        }
        Ok(Self { own, all })
    }

    /// This node.
    #[must_use]
    pub fn own(&self) -> MemberId {
        self.own
    }

    /// Where a member listens; `None` for who is no member.
    #[must_use]
    pub fn address(&self, id: MemberId) -> Option<&Endpoint> {
        self.all.get(&id)
    }

    /// All, in the order of their rank.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> {
        self.all.keys().copied()
    }

    /// All but this node, in the order of their rank.
    pub fn peers(&self) -> impl Iterator<Item = (MemberId, &Endpoint)> {
        let others = self.all.iter().filter(|(id, _)| **id != self.own);
        others.map(|(id, endpoint)| (*id, endpoint))
    }

    /// What two nodes compare: the ids alone, because a node may be reached under
    /// different names from different sides.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for id in self.all.keys() {
            // No id holds a line break, so no two lists give one text.
            hash.update(id.as_str());
            hash.update("\n");
        }
        hash.finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The ids, as a message names them.
impl std::fmt::Display for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.all.keys().map(MemberId::as_str).collect();
        f.write_str(&ids.join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn list(own: &str, members: &[(&str, &str)]) -> Result<Members, MembersError> {
        let members = members
            .iter()
            .map(|(id, address)| (id.parse().unwrap(), *address));
        Members::new(own.parse().unwrap(), members)
    }

    #[test]
    fn a_list_that_cannot_be_is_refused_with_the_reason() {
        let said = |own, members: &[_]| list(own, members).unwrap_err().to_string();
        assert!(said("a", &[]).contains("not 0"));
        assert!(said("a", &[("b", "h:1")]).contains("this node, a, is not in"));
        assert!(said("a", &[("a", "h:1"), ("a", "h:2")]).contains("a is listed twice"));
        assert!(said("a", &[("a", "h:1"), ("a", "h:1")]).contains("a is listed twice"));
        assert!(said("a", &[("a", "h:1"), ("b", "h:1")]).contains("same address h:1"));
        for address in ["h", "h:0", ":1", "h:99999", "h:1:2"] {
            assert!(
                said("a", &[("a", address)]).contains("HOST:PORT"),
                "{address}"
            );
        }
        let ids: Vec<String> = (0..=MOST_MEMBERS).map(|n| n.to_string()).collect();
        let many: Vec<_> = ids.iter().map(|id| format!("h{id}:1")).collect();
        let many: Vec<_> = ids
            .iter()
            .zip(&many)
            .map(|(id, at)| (id.as_str(), at.as_str()))
            .collect();
        assert!(said("1", &many).contains("not 33"));
    }

    #[test]
    fn the_digest_tells_lists_apart_and_not_the_addresses() {
        let one = list("a", &[("a", "h:1"), ("b", "h:2")]).unwrap();
        let same = list("b", &[("b", "x:2"), ("a", "x:1")]).unwrap();
        let other = list("a", &[("a", "h:1"), ("c", "h:2")]).unwrap();
        assert_eq!(one.digest(), same.digest());
        assert_ne!(one.digest(), other.digest());
    }
}
