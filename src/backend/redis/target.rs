//! Which Redis: the address as a person writes it.

use std::fmt;
use std::str::FromStr;

use crate::wire::{Endpoint, Login, StoreUrl, UrlError};

/// The port that Redis listens on unless told otherwise.
const REDIS_PORT: u16 = 6379;
/// The port that a Sentinel listens on unless told otherwise.
const SENTINEL_PORT: u16 = 26379;

/// How the address leads to the server that takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// It is that server.
    Alone,
    /// Sentinels that know its present address.
    Sentinel {
        /// What they call it.
        master: String,
    },
    /// Some nodes of a Cluster; which one takes writes depends on the election.
    Cluster,
}

/// The address of Redis, with what it takes to log in.
///
/// | address | what |
/// |---|---|
/// | `redis` | `redis://127.0.0.1:6379`; `rediss`, `redis+cluster` likewise |
/// | `redis://[user[:password]@]host[:port][/database]` | one server |
/// | `redis+sentinel://[…@]host[:port][,host…]/name[/database]` | Sentinels, and the name of the master they watch |
/// | `redis+cluster://[…@]host[:port][,host…]` | nodes of a Cluster |
///
/// `rediss` instead of `redis` speaks TLS, in all three. Neither `Display` nor `Debug`
/// shows the password.
#[derive(Clone, Debug)]
pub struct RedisTarget {
    url: StoreUrl,
    topology: Topology,
    tls: bool,
    database: u32,
}

/// Why a text is no address of a Redis that this version serves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisTargetError {
    /// A kind of Redis, or a way to it, that is not served.
    #[error(
        "this version does not serve {0}: give redis://, redis+sentinel:// or redis+cluster://"
    )]
    NotServed(&'static str),
    /// Not the address of a Redis at all.
    #[error(
        "\"{0}\" is no Redis address: redis://[user[:password]@]host[:port][/database] was \
         expected"
    )]
    Malformed(String),
    /// It cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Several servers where one is meant.
    #[error(
        "several Redis servers at once were given: name one, or say what joins them with \
         redis+sentinel:// or redis+cluster://"
    )]
    Several,
    /// One part of it is wrong.
    #[error("the Redis address has a wrong {part}, \"{value}\": {expected}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
}

impl RedisTarget {
    /// Where to begin: the server itself, Sentinels, or nodes of the Cluster.
    #[must_use]
    pub fn servers(&self) -> &[Endpoint] {
        &self.url.servers
    }

    /// How these lead to the server that takes writes.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The number of the database.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.database
    }

    /// The login that stands in the address.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.url.login
    }
}

impl FromStr for RedisTarget {
    type Err = RedisTargetError;

    fn from_str(text: &str) -> Result<Self, RedisTargetError> {
        if matches!(
            text,
            "redis" | "rediss" | "redis+cluster" | "rediss+cluster"
        ) {
            return format!("{text}://127.0.0.1").parse();
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(RedisTargetError::Malformed(shown(text)));
        };
        let (tls, topology) = scheme_means(scheme)?;
        let port = if topology == Some("sentinel") {
            SENTINEL_PORT
        } else {
            REDIS_PORT
        };
        let url = StoreUrl::parse(text, port)?;
        let (topology, database) = match topology {
            None if url.servers.len() > 1 => return Err(RedisTargetError::Several),
            None => (Topology::Alone, database_of(&url.path)?),
            Some("sentinel") => sentinel(&url.path)?,
            Some(_) => cluster(&url.path)?,
        };
        Ok(Self {
            url,
            topology,
            tls,
            database,
        })
    }
}

/// Whether TLS is spoken, and what is joined by what.
fn scheme_means(scheme: &str) -> Result<(bool, Option<&'static str>), RedisTargetError> {
    match scheme {
        "redis" => Ok((false, None)),
        "rediss" => Ok((true, None)),
        "redis+sentinel" => Ok((false, Some("sentinel"))),
        "rediss+sentinel" => Ok((true, Some("sentinel"))),
        "redis+cluster" => Ok((false, Some("cluster"))),
        "rediss+cluster" => Ok((true, Some("cluster"))),
        "unix" | "redis+unix" => Err(RedisTargetError::NotServed("Redis over a Unix socket")),
        other => Err(RedisTargetError::Malformed(format!("{other}://"))),
    }
}

/// What is no URL is shown, unless it may hold a password.
fn shown(text: &str) -> String {
    let text = if text.contains('@') { "***@" } else { text };
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

fn sentinel(path: &str) -> Result<(Topology, u32), RedisTargetError> {
    let (master, database) = path.split_once('/').unwrap_or((path, ""));
    if master.is_empty() {
        return Err(RedisTargetError::Part {
            part: "master's name",
            value: String::new(),
            expected: "write the name under which the Sentinels watch it, as in \
                       redis+sentinel://host/mymaster",
        });
    }
    let master = master.to_owned();
    Ok((Topology::Sentinel { master }, database_of(database)?))
}

fn cluster(path: &str) -> Result<(Topology, u32), RedisTargetError> {
    if database_of(path)? != 0 {
        return Err(RedisTargetError::Part {
            part: "database",
            value: shown(path),
            expected: "a Cluster has only database 0",
        });
    }
    Ok((Topology::Cluster, 0))
}

fn database_of(text: &str) -> Result<u32, RedisTargetError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| RedisTargetError::Part {
        part: "database",
        value: shown(text),
        expected: "a number such as 0 was expected",
    })
}

/// Without the password.
impl fmt::Display for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn target(text: &str) -> RedisTarget {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_read_part_by_part() {
        for (text, shown) in [
            ("redis", "redis://127.0.0.1:6379"),
            ("rediss", "rediss://127.0.0.1:6379"),
            ("redis+cluster", "redis+cluster://127.0.0.1:6379"),
            ("redis://db", "redis://db:6379"),
            ("redis://[::1]:7/3", "redis://[::1]:7/3"),
            ("rediss://db", "rediss://db:6379"),
            (
                "redis+sentinel://a,b:1/main",
                "redis+sentinel://a:26379,b:1/main",
            ),
            ("rediss+cluster://a,b:1", "rediss+cluster://a:6379,b:1"),
        ] {
            assert_eq!(target(text).to_string(), shown);
        }
        let full = target("redis://user:secret@db.example:6380/15");
        assert_eq!(full.to_string(), "redis://user@db.example:6380/15");
        assert_eq!((full.database(), full.tls()), (15, false));
        assert_eq!(full.topology(), &Topology::Alone);
        assert!(target("rediss://db").tls());
        let watched = target("rediss+sentinel://a,b/main/3");
        let master = "main".to_owned();
        assert_eq!(watched.topology(), &Topology::Sentinel { master });
        assert_eq!((watched.database(), watched.tls()), (3, true));
        assert_eq!(watched.servers().len(), 2);
        assert_eq!(target("redis+cluster://a/0").topology(), &Topology::Cluster);
    }

    #[test]
    fn a_password_is_never_shown() {
        let target = target("redis://user:hunter2@db");
        assert_eq!(target.to_string(), "redis://user@db:6379");
        assert!(!format!("{target:?}").contains("hunter2"));
        for bad in [
            "redis://user:hunter2@db:x",
            "redis://user:hunter2@",
            "redis://user:hunter2@db/x",
            "redis://user:hunter2%@db",
            "redis://user:hunter2@db?a=b",
            "http://user:hunter2@db",
            "redis:/user:hunter2@db",
            "redis://user:hunter2@a,b",
            "redis+cluster://user:hunter2@db/1",
        ] {
            let error = bad.parse::<RedisTarget>().unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_is_not_served_is_told_by_name() {
        for (text, named) in [
            ("unix:///run/redis.sock", "Unix"),
            ("redis://a:1,b:2", "several"),
            ("redis://db:0", "port"),
            ("redis://db:99999", "port"),
            ("redis://", "host"),
            ("redis://db/one", "database"),
            ("redis+cluster://db/1", "only database 0"),
            ("redis+sentinel://db", "master's name"),
            ("redis+sentinel://db/main/one", "database"),
            ("redis://db?timeout=1", "\"?timeout=***\""),
            ("http://db", "no Redis address"),
            ("localhost:6379", "no Redis address"),
            ("", "no Redis address"),
        ] {
            let error = text.parse::<RedisTarget>().unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
