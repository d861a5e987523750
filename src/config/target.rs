//! `--backend`: which store, and where.

use std::fmt;
#[cfg(feature = "file")]
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Problem;

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
}

/// The schemes of the design that other versions or builds serve.
const KNOWN: &[&str] = &[
    "file",
    "redis",
    "rediss",
    "redis+sentinel",
    "redis+cluster",
    "raft",
    "bully",
    "ring",
];

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
            Some(path) => Err(Problem::new(format!(
                "the directory \"{path}\" is not absolute; write it as file:///dir"
            ))),
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
            #[allow(unreachable_patterns)]
            _ => Duration::from_millis(1),
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
        }
    }

    /// The login that stands in the address; `None` where the store takes none.
    #[cfg(feature = "wire")]
    pub(super) fn login(&self) -> Option<&crate::backend::wire::Login> {
        match self {
            #[cfg(feature = "file")]
            Self::File(_) => None,
            #[cfg(feature = "etcd")]
            Self::Etcd(target) => Some(target.login()),
            #[cfg(feature = "redis")]
            Self::Redis(target) => Some(target.login()),
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
            known if KNOWN.contains(&known) => Err(Problem::new(format!(
                "this version does not serve {known}; it serves file, redis and etcd"
            ))),
            _ => Err(Problem::new(
                "it is no backend; write file, file:///dir, redis://host:6379 or etcd://host:2379",
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
        }
    }
}
