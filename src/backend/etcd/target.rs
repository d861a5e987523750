//! Which etcd: the address as a person writes it.

use std::fmt;
use std::str::FromStr;

use crate::wire::{Endpoint, Login, StoreUrl, UrlError};

/// The port on which etcd listens for clients unless told otherwise.
const DEFAULT_PORT: u16 = 2379;

/// The address of an etcd cluster: some or all of its members, and a login.
///
/// | address | what |
/// |---|---|
/// | `etcd` | `etcd://127.0.0.1:2379`; `etcds` likewise |
/// | `etcd://[user[:password]@]host[:port][,host[:port]…]` | members, the first one is asked first |
///
/// `etcds` instead of `etcd` speaks TLS. Neither `Display` nor `Debug` shows the
/// password.
#[derive(Clone, Debug)]
pub struct EtcdTarget {
    url: StoreUrl,
    tls: bool,
}

/// Why a text is no address of an etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EtcdTargetError {
    /// Not the address of an etcd at all.
    #[error(
        "\"{0}\" is no etcd address: etcd://[user[:password]@]host[:port][,host[:port]] was \
         expected, or etcds:// for TLS"
    )]
    Malformed(String),
    /// It cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Something follows the members.
    #[error("\"/{0}\" at the end of the etcd address means nothing: leave it out")]
    Path(String),
    /// A password alone.
    #[error("the etcd address has a password and no user: etcd knows its users by name")]
    NoUser,
}

impl EtcdTarget {
    /// The members, in the order in which they are tried.
    #[must_use]
    pub fn servers(&self) -> &[Endpoint] {
        &self.url.servers
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The login that stands in the address.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.url.login
    }
}

impl FromStr for EtcdTarget {
    type Err = EtcdTargetError;

    fn from_str(text: &str) -> Result<Self, EtcdTargetError> {
        if matches!(text, "etcd" | "etcds") {
            return format!("{text}://127.0.0.1").parse();
        }
        let tls = match text.split_once("://") {
            Some(("etcd", _)) => false,
            Some(("etcds", _)) => true,
            _ => return Err(EtcdTargetError::Malformed(shown(text))),
        };
        let url = StoreUrl::parse(text, DEFAULT_PORT)?;
        if !url.path.is_empty() {
            return Err(EtcdTargetError::Path(shown(&url.path)));
        }
        if url.login.password.is_some() && url.login.user.is_none() {
            return Err(EtcdTargetError::NoUser);
        }
        Ok(Self { url, tls })
    }
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
impl fmt::Display for EtcdTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn target(text: &str) -> EtcdTarget {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(target("etcd").to_string(), "etcd://127.0.0.1:2379");
        assert_eq!(target("etcds").to_string(), "etcds://127.0.0.1:2379");
        assert!(target("etcds").tls() && !target("etcd").tls());
        let full = target("etcd://us%65r:p%40ss@a:1,b,[::1]:3");
        assert_eq!(full.to_string(), "etcd://user@a:1,b:2379,[::1]:3");
        assert_eq!(full.servers().len(), 3);
        assert_eq!(full.login().user.as_deref(), Some("user"));
        assert_eq!(target("etcd://a/").to_string(), "etcd://a:2379");
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        for (text, named) in [
            ("etcd://", "no host"),
            ("etcd://a,,b", "no host"),
            ("etcd://a:0", "no port"),
            ("etcd://a/prefix", "/prefix"),
            ("etcd://a?x=1", "\"?x=***\""),
            ("etcd://:hunter2@a", "no user"),
            ("http://user:hunter2@a:2379", "etcds://"),
            ("user:hunter2@a:2379", "no etcd address"),
            ("", "no etcd address"),
        ] {
            let error = text.parse::<EtcdTarget>().unwrap_err();
            assert!(error.to_string().contains(named), "{text}: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}");
        }
        let secret = target("etcd://user:hunter2@a");
        assert!(!format!("{secret} {secret:?}").contains("hunter2"));
    }
}
