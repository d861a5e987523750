//! `--listen`, `--probe-listen`, `--probe-status`, `--allow-host`, `--api-token-file`:
//! where the API is served, and to whom.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::{Problem, Reader, switch};
use crate::bearer::TokenFile;

/// What the path of a Unix socket may have at most: `sun_path` less its end mark.
const MAX_SOCKET_PATH: usize = 107;

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket: whoever may open the file may ask.
    Unix(PathBuf),
}

/// The listeners of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// The API.
    pub api: Listen,
    /// The probes, for those who ask from outside.
    pub probes: Option<Listen>,
    /// The probes' listener shows the status too.
    pub probe_status: bool,
    /// Hosts beside loopback ones.
    pub allow_hosts: Vec<String>,
    /// Holds the tokens that the API asks for.
    pub token_file: Option<PathBuf>,
}

impl FromStr for Listen {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        let literal = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        literal.parse().map(Self::Tcp).map_err(|_| {
            Problem::new(
                "it is no address; write it as 127.0.0.1:4040, with port 0 for a free one, or \
                 as unix:/run/tenure.sock",
            )
        })
    }
}

fn unix(path: &str) -> Result<Listen, Problem> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(Problem::new(
            "a socket is named by its whole path, as unix:/run/tenure.sock",
        ));
    }
    if path.len() > MAX_SOCKET_PATH {
        let text = format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes");
        return Err(Problem::new(text));
    }
    Ok(Listen::Unix(PathBuf::from(path)))
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// Nobody from another machine reaches it.
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl Reader<'_> {
    pub(super) fn listeners(&mut self) -> Listeners {
        let token_file = self.token_file();
        let guarded = self.raw.get("api-token-file").is_some();
        let api = self.read("listen", |text| {
            let listen: Listen = text.parse()?;
            if !listen.is_local() && !guarded {
                return Err(Problem::new(
                    "whoever reaches the API can step the leader down: use 127.0.0.1 or [::1], \
                     or give --api-token-file; for probes and metrics there is --probe-listen",
                ));
            }
            Ok(listen)
        });
        let probes = self.read("probe-listen", str::parse);
        let probe_status = self.read("probe-status", switch).unwrap_or(false);
        if probe_status && self.raw.get("probe-listen").is_none() {
            self.useless(&["probe-status"], "--probe-listen");
        }
        let api = api.unwrap_or(Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 4040))));
        let free = matches!(api, Listen::Tcp(address) if address.port() == 0);
        if probes.as_ref() == Some(&api) && !free {
            let text = format!("--probe-listen {api}: the API listens there; give another");
            self.problems.push(Problem::new(text));
        }
        Listeners {
            api,
            probes,
            probe_status,
            allow_hosts: self.allow_hosts(),
            token_file,
        }
    }

    /// What cannot be read or holds no token is told now, not at the first request.
    fn token_file(&mut self) -> Option<PathBuf> {
        self.read("api-token-file", |text| match text {
            "" => Err(Problem::new("name a file")),
            path => match TokenFile::open(path.into()) {
                Ok(_) => Ok(PathBuf::from(path)),
                Err(error) => Err(Problem::of(error)),
            },
        })
    }

    fn allow_hosts(&mut self) -> Vec<String> {
        let Some(given) = self.raw.get("allow-host") else {
            return Vec::new();
        };
        for host in &given.values {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            let name = !host.is_empty() && host.bytes().all(letter);
            if !name && host.parse::<IpAddr>().is_err() {
                self.problems.push(Problem::new(format!(
                    "{} {host}: it is no host name; write it as in a URL, without scheme and \
                     port, such as sidecar.internal",
                    given.place()
                )));
            }
        }
        given.values.clone()
    }
}
