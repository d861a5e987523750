//! How a mesh works, and why there is none.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Identity, MemberId, Members};
use crate::wire::{CredentialFiles, CredentialsError};

/// How a mesh works.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    /// Who this node is.
    pub identity: Identity,
    /// Who the others are.
    pub members: Members,
    /// Where this node listens.
    pub listen: SocketAddr,
    /// Listen off the loopback though nothing protects the way.
    pub insecure_peers: bool,
    /// The files for TLS: `ca`, `cert` and `key` must all be there. Each side of a connection
    /// shows its certificate and asks for the other's. `None`: in the clear.
    pub tls: Option<CredentialFiles>,
    /// Between two signs of life; 1 s by default.
    pub heartbeat: Duration,
    /// After so long a silence a peer is suspected; 3 s by default.
    pub suspect_after: Duration,
    /// The most frames that wait for one peer.
    pub queue: usize,
}

impl MeshOptions {
    /// With the default times.
    #[must_use]
    pub fn new(identity: Identity, members: Members, listen: SocketAddr) -> Self {
        Self {
            identity,
            members,
            listen,
            insecure_peers: false,
            tls: None,
            heartbeat: Duration::from_secs(1),
            suspect_after: Duration::from_secs(3),
            queue: 256,
        }
    }
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The port is not to be had.
    #[error("cannot listen for peers on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Anybody could speak for a peer.
    #[error(
        "peers would be listened to on {0}, off the loopback, and nothing proves who they are: \
         give --ca-file, --cert-file and --key-file, listen on the loopback, or say \
         --insecure-peers where the network is trusted"
    )]
    Insecure(SocketAddr),
    /// Spans that no detector can work with.
    #[error(
        "a heartbeat every {heartbeat:?} and a suspicion after {suspect_after:?} do not fit: the \
         heartbeat must be 1 ms at least, and the suspicion longer than it"
    )]
    Times {
        /// Between two signs of life.
        heartbeat: Duration,
        /// The silence that is suspected.
        suspect_after: Duration,
    },
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Two different nodes in one set of options.
    #[error("the identity is of member {0} and the list of members is of {1}")]
    Mismatch(MemberId, MemberId),
}
