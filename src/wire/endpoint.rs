//! Where one server listens.

use std::fmt;

/// A host and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// From 1 on.
    pub port: u16,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No host, or none that can be one.
    #[error("\"{0}\" is no host: a name, an IPv4 address, or an IPv6 address in [] was expected")]
    Host(String),
    /// No port.
    #[error("\"{0}\" is no port: a number from 1 to 65535 was expected")]
    Port(String),
}

impl Endpoint {
    /// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.
    ///
    /// # Errors
    /// Names the part that is wrong.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Host(shown(text));
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(wrong()),
            }
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let port = match port {
            None => default_port,
            Some(text) => match text.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(EndpointError::Port(shown(text))),
            },
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// As it stands in a URL.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A text as an error shows it: short, on one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
