//! The sidecars among themselves, where there is no store: who the members are, and the
//! way from one to another. It knows nothing of leases; `raft`, `bully` and `ring` run on it.

mod detector;
mod dialer;
pub mod frame;
pub mod handshake;
mod identity;
mod link;
mod listener;
mod member;
mod members;
mod mesh;
mod options;
mod secure;
pub mod sockets;
mod strangers;
mod wireframe;

pub use detector::{Detector, Verdict};
pub use identity::{DiskId, Identity, IdentityError, Missing};
pub use member::{MemberError, MemberId};
pub use members::{MOST_MEMBERS, Members, MembersError};
pub use mesh::{CallError, Event, Mesh, PeerStatus, ReplyHandle, Verdicts};
pub use options::{MeshError, MeshOptions};
