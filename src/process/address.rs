//! Where the process listens, and the node's id, which is named after it by default.

use std::io::{self, ErrorKind};
use std::net::TcpListener;

use super::socket::SocketFile;
use crate::api::Listener;
use crate::config::{Config, Listen, Problem};
use crate::lease::NodeId;

/// One address that is listened on.
pub struct Bound {
    pub listener: Listener,
    /// As `--api` takes it.
    pub url: String,
    /// Removes the file of a socket at the end.
    pub file: Option<SocketFile>,
}

/// The addresses of a sidecar.
pub struct Addresses {
    pub api: Bound,
    pub probes: Option<Bound>,
    pub id: NodeId,
}

impl Addresses {
    /// Every problem with them, together.
    pub fn bind(config: &Config) -> Result<Self, Vec<Problem>> {
        let listeners = &config.listeners;
        let api = bind("listen", &listeners.api);
        let probes = listeners.probes.as_ref();
        let probes = probes
            .map(|listen| bind("probe-listen", listen))
            .transpose();
        let (api, probes) = match (api, probes) {
            (Ok(api), Ok(probes)) => (api, probes),
            (api, probes) => {
                return Err([api.err(), probes.err()].into_iter().flatten().collect());
            }
        };
        let id = match &config.id {
            Some(id) => id.clone(),
            None => default_id(&api).map_err(|problem| vec![problem])?,
        };
        Ok(Self { api, probes, id })
    }
}

fn bind(flag: &str, listen: &Listen) -> Result<Bound, Problem> {
    let bound = match listen {
        Listen::Tcp(address) => TcpListener::bind(address).and_then(|listener| {
            let url = format!("http://{}", listener.local_addr()?);
            Ok(Bound {
                listener: Listener::Tcp(listener),
                url,
                file: None,
            })
        }),
        Listen::Unix(path) => SocketFile::listen(path).map(|(listener, file)| Bound {
            listener: Listener::Unix(listener),
            url: listen.to_string(),
            file: Some(file),
        }),
    };
    bound.map_err(|error| refused(flag, listen, &error))
}

fn refused(flag: &str, listen: &Listen, error: &io::Error) -> Problem {
    let taken = error.kind() == ErrorKind::AddrInUse;
    Problem::new(match listen {
        Listen::Tcp(address) if taken => format!(
            "--{flag} {listen}: the port is taken, perhaps by another sidecar; \
             `tenure run --{flag} {}:0` picks a free one",
            address.ip()
        ),
        Listen::Unix(_) if taken => {
            format!("--{flag} {listen}: somebody listens there, perhaps another sidecar")
        }
        _ => format!("--{flag} {listen}: {error}"),
    })
}

/// `host:port`, or `host:/path` of a Unix socket.
fn default_id(api: &Bound) -> Result<NodeId, Problem> {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let place = match api.url.strip_prefix("unix:") {
        Some(path) => path,
        None => api.url.rsplit(':').next().unwrap_or_default(),
    };
    format!("{host}:{place}")
        .parse()
        .map_err(|_| Problem::new(format!("the host's name {host:?} makes no id: give --id")))
}
