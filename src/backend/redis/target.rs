//! Which Redis: the address as a person writes it.

use std::fmt;
use std::str::FromStr;

/// The port that Redis listens on unless told otherwise.
const DEFAULT_PORT: u16 = 6379;

/// A Redis server's address, with what it takes to log in.
///
/// `redis://[user[:password]@]host[:port][/database]`, or `redis` alone for
/// `redis://127.0.0.1:6379/0`. In user and password `%XX` stands for any byte.
/// Neither `Display` nor `Debug` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisTarget {
    host: String,
    port: u16,
    database: u32,
    user: Option<String>,
    password: Option<String>,
}

/// Why a text is no address of a Redis that this version serves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisTargetError {
    /// A kind of Redis, or a way to it, that is not served.
    #[error(
        "this version does not serve {0}: give one writable Redis server, such as \
         redis://127.0.0.1:6379"
    )]
    NotServed(&'static str),
    /// Not the address of a Redis at all.
    #[error(
        "\"{0}\" is no Redis address: redis://[user[:password]@]host[:port][/database] was \
         expected"
    )]
    Malformed(String),
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
    /// The login is wrong; it is not shown.
    #[error(
        "the user or password in the Redis address cannot be read: write % as %25, @ as %40, / \
         as %2F and : as %3A"
    )]
    Login,
}

impl RedisTarget {
    /// The host's name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of the database.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.database
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

impl FromStr for RedisTarget {
    type Err = RedisTargetError;

    fn from_str(text: &str) -> Result<Self, RedisTargetError> {
        if text == "redis" {
            return "redis://127.0.0.1".parse();
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(RedisTargetError::Malformed(shown(text)));
        };
        not_served(scheme)?;
        if scheme != "redis" {
            return Err(RedisTargetError::Malformed(shown(text)));
        }
        if rest.contains(['?', '#']) {
            return Err(RedisTargetError::Part {
                part: "ending",
                value: shown(rest.split_once(['?', '#']).map_or("", |(_, ending)| ending)),
                expected: "nothing follows the database",
            });
        }
        // A password may hold a slash, by mistake; it must not end up as a host.
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (server, database) = place.split_once('/').unwrap_or((place, ""));
        if server.contains(',') {
            return Err(RedisTargetError::NotServed("several Redis servers at once"));
        }
        let (host, port) = host_and_port(server)?;
        let (user, password) = login.map_or(Ok((None, None)), user_and_password)?;
        Ok(Self {
            host,
            port,
            database: database_of(database)?,
            user,
            password,
        })
    }
}

fn not_served(scheme: &str) -> Result<(), RedisTargetError> {
    let what = match scheme {
        "rediss" | "redis+tls" | "valkeys" => "TLS to Redis",
        "unix" | "redis+unix" => "Redis over a Unix socket",
        _ if scheme.contains("sentinel") => "Redis Sentinel",
        _ if scheme.contains("cluster") => "Redis Cluster",
        _ => return Ok(()),
    };
    Err(RedisTargetError::NotServed(what))
}

fn host_and_port(server: &str) -> Result<(String, u16), RedisTargetError> {
    let (host, port) = if let Some(rest) = server.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| wrong_host(server))?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(wrong_host(server)),
        }
    } else {
        match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        }
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong_host(server));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(text) => match text.parse() {
            Ok(port) if port != 0 => port,
            _ => {
                return Err(RedisTargetError::Part {
                    part: "port",
                    value: shown(text),
                    expected: "a number from 1 to 65535 was expected",
                });
            }
        },
    };
    Ok((host.to_owned(), port))
}

fn wrong_host(server: &str) -> RedisTargetError {
    RedisTargetError::Part {
        part: "host",
        value: shown(server),
        expected: "a name, an IPv4 address, or an IPv6 address in [] was expected",
    }
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

type Login = (Option<String>, Option<String>);

fn user_and_password(login: &str) -> Result<Login, RedisTargetError> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let password = password.map(decoded).transpose()?;
    Ok((filled(Some(decoded(user)?)), filled(password)))
}

/// `%XX` to the byte it stands for.
fn decoded(text: &str) -> Result<String, RedisTargetError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(RedisTargetError::Login);
        };
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| RedisTargetError::Login)
}

/// A text as an error shows it: short, and without what may be a password.
fn shown(text: &str) -> String {
    let text = match text.rsplit_once('@') {
        Some((_, place)) => format!("***@{place}"),
        None => text.to_owned(),
    };
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// Without the password.
impl fmt::Display for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisTarget({self})")
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
        assert_eq!(target("redis").to_string(), "redis://127.0.0.1:6379");
        assert_eq!(target("redis://db").to_string(), "redis://db:6379");
        assert_eq!(target("redis://[::1]:7/3").to_string(), "redis://[::1]:7/3");
        assert_eq!(target("redis://[::1]").host(), "::1");
        let full = target("redis://us%65r:p%40ss:w%2Frd@db.example:6380/15");
        assert_eq!((full.host(), full.port()), ("db.example", 6380));
        assert_eq!(full.database(), 15);
        assert_eq!(full.user(), Some("user"));
        assert_eq!(full.password(), Some("p@ss:w/rd"));
        assert_eq!(target("redis://:secret@db").password(), Some("secret"));
        assert_eq!(target("redis://:secret@db").user(), None);
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
            "rediss://user:hunter2@db",
        ] {
            let error = bad.parse::<RedisTarget>().unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_is_not_served_is_told_by_name() {
        for (text, named) in [
            ("rediss://db", "TLS"),
            ("redis+sentinel://db/main", "Sentinel"),
            ("redis-cluster://db", "Cluster"),
            ("unix:///run/redis.sock", "Unix"),
            ("redis://a:1,b:2", "several"),
            ("redis://db:0", "port"),
            ("redis://db:99999", "port"),
            ("redis://", "host"),
            ("redis://db/one", "database"),
            ("redis://db?timeout=1", "ending"),
            ("http://db", "no Redis address"),
            ("localhost:6379", "no Redis address"),
            ("", "no Redis address"),
        ] {
            let error = text.parse::<RedisTarget>().unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
