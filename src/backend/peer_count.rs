//! How many of the other members are there.

/// The other members of a cluster of sidecars; this node is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCount {
    /// All of them.
    pub total: usize,
    /// To how many this node's connection stands.
    pub connected: usize,
    /// Whether enough are there for somebody to lead, as far as this node can tell.
    pub has_quorum: bool,
}

#[cfg(feature = "peers")]
impl PeerCount {
    /// Of a mesh in which each member counts the same.
    pub(super) fn of(mesh: &crate::peers::Mesh) -> Self {
        let peers = mesh.peers();
        let total = peers.len();
        let connected = peers.iter().filter(|peer| peer.connected).count();
        Self {
            total,
            connected,
            has_quorum: connected >= total.div_ceil(2),
        }
    }
}
