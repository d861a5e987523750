//! `--backend`: which store, and where.

use std::fmt;
#[cfg(feature = "file")]
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{DEFAULT_TTL, Problem};

/// A store that can be opened.
#[derive(Clone, Debug)]
pub enum Target {
    /// A directory.
    #[cfg(feature = "file")]
    File(PathBuf),
    /// An etcd cluster.
    #[cfg(feature = "etcd")]
    Etcd(crate::backend::etcd::EtcdTarget),
    /// A Redis server.
    #[cfg(feature = "redis")]
    Redis(crate::backend::redis::RedisTarget),
    /// The sidecars among themselves.
    #[cfg(feature = "peers")]
    Peers(super::Cluster),
}

/// The schemes of the sidecars among themselves, served by this build or not.
const PEERS: &[&str] = &["raft", "bully", "ring"];

impl Target {
    /// The directory of this user.
    pub(super) fn default_file() -> Result<Self, Problem> {
        Self::file(None)
    }

    #[cfg(feature = "file")]
    fn file(path: Option<&str>) -> Result<Self, Problem> {
        match path {
            None | Some("") => Ok(Self::File(crate::backend::file::default_directory())),
            Some(path) if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
            // Not shown: whoever takes file for another scheme has a password there.
            Some(_) => Err(Problem::new(
                "the directory is not absolute; write it as file:///dir",
            )),
        }
    }

    #[cfg(not(feature = "file"))]
    fn file(_: Option<&str>) -> Result<Self, Problem> {
        Err(Problem::new(
            "this build has no file backend; name another with --backend",
        ))
    }

    #[cfg(feature = "etcd")]
    fn etcd(text: &str) -> Result<Self, Problem> {
        text.parse().map(Self::Etcd).map_err(Problem::of)
    }

    #[cfg(not(feature = "etcd"))]
    fn etcd(_: &str) -> Result<Self, Problem> {
        Err(Problem::new("this build has no etcd backend"))
    }

    #[cfg(feature = "redis")]
    fn redis(text: &str) -> Result<Self, Problem> {
        text.parse().map(Self::Redis).map_err(Problem::of)
    }

    #[cfg(not(feature = "redis"))]
    fn redis(_: &str) -> Result<Self, Problem> {
        Err(Problem::new("this build has no redis backend"))
    }

    #[cfg(feature = "peers")]
    fn peers(scheme: &str, name: &str) -> Option<Result<Self, Problem>> {
        let algorithm = super::Algorithm::of(scheme).filter(|it| it.served())?;
        Some(super::Cluster::new(algorithm, name).map(Self::Peers))
    }

    #[cfg(not(feature = "peers"))]
    fn peers(_: &str, _: &str) -> Option<Result<Self, Problem>> {
        None
    }

    /// What was named is of this design, and not of this build.
    fn not_served(scheme: &str) -> Problem {
        let mut served = Vec::new();
        for (name, here) in [
            ("file", cfg!(feature = "file")),
            ("redis", cfg!(feature = "redis")),
            ("etcd", cfg!(feature = "etcd")),
            ("raft", cfg!(feature = "raft")),
            ("bully", cfg!(feature = "quorum")),
            ("ring", cfg!(feature = "quorum")),
        ] {
            served.extend(here.then_some(name));
        }
        Problem::new(format!(
            "this version does not serve {scheme}; it serves {}",
            served.join(", ")
        ))
    }
}

impl Target {
    /// A directory store.
    ///
    /// # Errors
    /// Where this build has none.
    pub fn directory(path: &std::path::Path) -> Result<Self, Problem> {
        Self::file(path.to_str())
    }

    /// How late the store notices that a lease has run out, as its guarantees say.
    #[must_use]
    pub fn expiry_step(&self) -> Duration {
        match self {
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => crate::backend::etcd::EXPIRY_STEP,
            #[cfg(feature = "raft")]
            Self::Peers(cluster) if cluster.algorithm == super::Algorithm::Raft => {
                crate::backend::raft::EXPIRY_STEP
            }
            #[cfg(feature = "quorum")]
            Self::Peers(_) => crate::backend::quorum::EXPIRY_STEP,
            #[allow(unreachable_patterns)]
            _ => Duration::from_millis(1),
        }
    }

    /// The lease where `--ttl` is not given.
    pub(super) fn default_ttl(&self) -> Duration {
        match self {
            #[cfg(feature = "peers")]
            Self::Peers(_) => super::peers::TTL,
            #[allow(unreachable_patterns)]
            _ => DEFAULT_TTL,
        }
    }

    /// The cluster of sidecars, where it is one.
    #[cfg(feature = "peers")]
    #[must_use]
    pub fn cluster(&self) -> Option<&super::Cluster> {
        match self {
            Self::Peers(cluster) => Some(cluster),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// Whether it is reached over a network.
    #[must_use]
    pub fn has_servers(&self) -> bool {
        match self {
            #[cfg(feature = "file")]
            Self::File(_) => false,
            #[allow(unreachable_patterns)]
            _ => true,
        }
    }

    /// Whether it is a Redis, of any kind.
    pub(super) fn is_redis(&self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(_) => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// `host:port` of the store's one server; `None` where it has none, or several that
    /// stand in for each other.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        match self {
            #[cfg(feature = "file")]
            Self::File(_) => None,
            #[cfg(feature = "etcd")]
            Self::Etcd(target) => target.servers().first().map(ToString::to_string),
            #[cfg(feature = "redis")]
            Self::Redis(target) => {
                let alone = *target.topology() == crate::backend::redis::Topology::Alone;
                let server = target.servers().first().filter(|_| alone);
                server.map(ToString::to_string)
            }
            #[cfg(feature = "peers")]
            Self::Peers(_) => None,
        }
    }

    /// The login that stands in the address; `None` where the store takes none.
    #[cfg(feature = "wire")]
    pub(super) fn login(&self) -> Option<&crate::wire::Login> {
        match self {
            #[cfg(feature = "file")]
            Self::File(_) => None,
            #[cfg(feature = "etcd")]
            Self::Etcd(target) => Some(target.login()),
            #[cfg(feature = "redis")]
            Self::Redis(target) => Some(target.login()),
            #[cfg(feature = "peers")]
            Self::Peers(_) => None,
        }
    }

    /// Whether the store is spoken to over TLS.
    #[cfg(feature = "wire")]
    pub(super) fn speaks_tls(&self) -> bool {
        match self {
            #[cfg(feature = "file")]
            Self::File(_) => false,
            #[cfg(feature = "etcd")]
            Self::Etcd(target) => target.tls(),
            #[cfg(feature = "redis")]
            Self::Redis(target) => target.tls(),
            #[cfg(feature = "peers")]
            Self::Peers(_) => false,
        }
    }

    /// How an address of that kind asks for TLS.
    #[cfg(feature = "wire")]
    pub(super) fn tls_advice(&self) -> &'static str {
        match self {
            #[cfg(feature = "file")]
            Self::File(_) => "leave it out",
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => "write etcds:// for TLS, or leave it out",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "write rediss:// for TLS, or leave it out",
            #[cfg(feature = "peers")]
            Self::Peers(_) => "leave it out",
        }
    }
}

impl FromStr for Target {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, Some(rest)),
            None => (text, None),
        };
        match scheme {
            "file" => Self::file(rest),
            "etcd" | "etcds" => Self::etcd(text),
            "redis" | "rediss" => Self::redis(text),
            redis if redis.starts_with("redis+") || redis.starts_with("rediss+") => {
                Self::redis(text)
            }
            scheme if PEERS.contains(&scheme) => Self::peers(scheme, rest.unwrap_or_default())
                .unwrap_or_else(|| Err(Self::not_served(scheme))),
            _ => Err(Problem::new(
                "it is no backend; write file, file:///dir, redis://host:6379, etcd://host:2379, \
                 raft, bully or ring",
            )),
        }
    }
}

/// The store's address, without secrets.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "file")]
            Self::File(path) => write!(f, "file://{}", path.display()),
            #[cfg(feature = "etcd")]
            Self::Etcd(target) => target.fmt(f),
            #[cfg(feature = "redis")]
            Self::Redis(target) => target.fmt(f),
            #[cfg(feature = "peers")]
            Self::Peers(cluster) => cluster.fmt(f),
        }
    }
}
