//! The way to a store that is a server: where it listens, the TCP connection, TLS on
//! it, and what each side shows the other.
//!
//! Shared by the stores that are reached over a network; it knows nothing of their
//! protocols.

mod credentials;
#[cfg(any(feature = "etcd", feature = "redis"))]
mod dial;
mod endpoint;
mod mutual;
mod tls;
mod url;

pub use credentials::{CredentialFiles, CredentialsError};
pub use endpoint::{Endpoint, EndpointError};
pub use tls::TlsError;
pub use url::{Login, StoreUrl, UrlError};

#[cfg(any(feature = "etcd", feature = "redis"))]
pub(crate) use credentials::Loaded;
pub(crate) use credentials::{Credentials, Speech};
#[cfg(any(feature = "etcd", feature = "redis"))]
pub(crate) use dial::{Dialer, Stream, broken};
#[cfg(feature = "peers")]
pub(crate) use mutual::{meaning_for_peers, vouches};
