//! `--peer`, `--node` and what else only the sidecars among themselves need: raft, bully
//! and ring.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use super::hook::positive;
use super::{Problem, Reader, Target, switch};
use crate::peers::{MemberId, Members};
use crate::wire::Endpoint;

/// Settings that mean nothing without a peer backend.
const OF_PEERS: [&str; 9] = [
    "peer",
    "node",
    "peer-listen",
    "witness",
    "insecure-peers",
    "heartbeat",
    "suspicion",
    "election-timeout",
    "bootstrap",
];

const HEARTBEAT: Duration = Duration::from_secs(1);
const SUSPICION: Duration = Duration::from_secs(3);
const ELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The lease among peers where `--ttl` is not given.
pub(super) const TTL: Duration = Duration::from_secs(3);

const LONGEST_CLUSTER_NAME: usize = 64;

/// How the sidecars agree among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A replicated log.
    Raft,
    /// A majority's grants; the highest live rank asks.
    Bully,
    /// A majority's grants; a token that goes round finds who asks.
    Ring,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Raft, Self::Bully, Self::Ring];

    /// The scheme of `--backend`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Bully => "bully",
            Self::Ring => "ring",
        }
    }

    /// Of a scheme.
    pub(super) fn of(scheme: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == scheme)
    }

    /// Whether this build has it.
    pub(super) fn served(self) -> bool {
        match self {
            Self::Raft => cfg!(feature = "raft"),
            Self::Bully | Self::Ring => cfg!(feature = "quorum"),
        }
    }
}

/// A cluster of sidecars, as `--backend` names it: `bully`, or `bully://NAME` where several
/// clusters must not be mixed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How it agrees.
    pub algorithm: Algorithm,
    name: String,
}

impl Cluster {
    pub(super) fn new(algorithm: Algorithm, name: &str) -> Result<Self, Problem> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !name.chars().all(allowed) || name.len() > LONGEST_CLUSTER_NAME {
            let scheme = algorithm.as_str();
            return Err(Problem::new(format!(
                "{scheme}:// is followed by the name of the cluster, up to {LONGEST_CLUSTER_NAME} \
                 of A-Z a-z 0-9 . _ -, or by nothing; where the members are is told by --peer"
            )));
        }
        let name = name.to_owned();
        Ok(Self { algorithm, name })
    }
}

/// Also what members compare, so that nobody takes another cluster's or another
/// algorithm's node for one of its own.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => f.write_str(self.algorithm.as_str()),
            name => write!(f, "{}://{name}", self.algorithm.as_str()),
        }
    }
}

/// The members, and how they watch each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// All members, and which one this node is.
    pub members: Members,
    /// Where this node listens for the others.
    pub listen: Endpoint,
    /// This node has no vote (raft alone).
    pub witness: bool,
    /// Listen off the loopback though nothing protects the way.
    pub insecure: bool,
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// After so long a silence a peer is suspected.
    pub suspicion: Duration,
    /// How long an election may take.
    pub election_timeout: Duration,
    /// This disk holds nothing because the cluster is new.
    pub bootstrap: bool,
}

impl Peers {
    /// The address to listen on, names resolved.
    ///
    /// # Errors
    /// Where the name is not known.
    pub async fn listen_address(&self) -> Result<SocketAddr, Problem> {
        let Endpoint { host, port } = &self.listen;
        let unknown = |why: &dyn fmt::Display| {
            Problem::new(format!(
                "--peer-listen {}: {why}; give an address of this machine, as in 0.0.0.0:{port}",
                self.listen
            ))
        };
        let mut found = tokio::net::lookup_host((host.as_str(), *port))
            .await
            .map_err(|error| unknown(&error))?;
        found.next().ok_or_else(|| unknown(&"it has no address"))
    }
}

/// One `--peer`.
struct Peer {
    id: MemberId,
    address: String,
}

impl FromStr for Peer {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (id, address) = text
            .split_once('=')
            .ok_or_else(|| Problem::new("write it as ID=HOST:PORT"))?;
        Ok(Self {
            id: id.trim().parse().map_err(Problem::of)?,
            address: address.trim().to_owned(),
        })
    }
}

impl Reader<'_> {
    /// `None` where the store is no cluster of peers, or where something is wrong.
    pub(super) fn peers(&mut self, target: Option<&Target>) -> Option<Peers> {
        let cluster = target?.cluster();
        let Some(cluster) = cluster else {
            self.useless(&OF_PEERS, "--backend raft, bully or ring");
            return None;
        };
        let before = self.problems.len();
        self.need_state_dir(cluster);
        let members = self.members(cluster);
        let listen = self.peer_listen(members.as_ref());
        let witness = self.read("witness", switch).unwrap_or(false);
        if witness && cluster.algorithm != Algorithm::Raft {
            let why = format!("{cluster} has no witnesses, only raft has; leave it out");
            self.say_of("witness", &why);
        }
        let insecure = self.read("insecure-peers", switch).unwrap_or(false);
        if let Some(listen) = listen
            .as_ref()
            .filter(|_| !insecure && !self.any_tls_file())
        {
            self.need_protection(listen);
        }
        let span = |reader: &mut Self, name, usual| reader.read(name, positive).unwrap_or(usual);
        let heartbeat = span(self, "heartbeat", HEARTBEAT);
        let suspicion = span(self, "suspicion", SUSPICION);
        let election_timeout = span(self, "election-timeout", ELECTION_TIMEOUT);
        self.watching(heartbeat, suspicion);
        let bootstrap = self.read("bootstrap", switch).unwrap_or(false);
        if self.problems.len() > before {
            return None;
        }
        Some(Peers {
            members: members?,
            listen: listen?,
            witness,
            insecure,
            heartbeat,
            suspicion,
            election_timeout,
            bootstrap,
        })
    }

    fn need_state_dir(&mut self, cluster: &Cluster) {
        if self.raw.get("state-dir").is_none() {
            self.problems.push(Problem::new(format!(
                "--backend {cluster}: what a member promises the others must outlive a restart; \
                 give --state-dir, a directory of this node's own on a durable disk"
            )));
        }
    }

    fn members(&mut self, cluster: &Cluster) -> Option<Members> {
        let listed = self.raw.get("peer").cloned();
        let own = self.read("node", |text| text.parse::<MemberId>().map_err(Problem::of));
        if self.raw.get("node").is_none() {
            self.problems.push(Problem::new(format!(
                "--backend {cluster}: say which member this node is, with --node ID"
            )));
        }
        let Some(listed) = listed else {
            self.problems.push(Problem::new(format!(
                "--backend {cluster}: list all members, this node among them, with --peer \
                 ID=HOST:PORT each"
            )));
            return None;
        };
        let before = self.problems.len();
        let mut all = Vec::new();
        for text in &listed.values {
            match text.parse::<Peer>() {
                Ok(peer) => all.push((peer.id, peer.address)),
                Err(problem) => {
                    let place = listed.place();
                    let text = format!("{place} {text}: {problem}");
                    self.problems.push(Problem::new(text));
                }
            }
        }
        let own = own.filter(|_| self.problems.len() == before)?;
        let members = Members::new(own, all);
        let keep = |error| {
            self.problems
                .push(Problem::new(format!("{listed}: {error}")))
        };
        members.map_err(keep).ok()
    }

    fn peer_listen(&mut self, members: Option<&Members>) -> Option<Endpoint> {
        if self.raw.get("peer-listen").is_none() {
            let members = members?;
            return members.address(members.own()).cloned();
        }
        self.read("peer-listen", |text| match Endpoint::parse(text, 0) {
            Ok(endpoint) if endpoint.port > 0 => Ok(endpoint),
            Ok(_) => Err(Problem::new("write it as HOST:PORT")),
            Err(error) => Err(Problem::of(error)),
        })
    }

    /// A name is judged when it is resolved.
    fn need_protection(&mut self, listen: &Endpoint) {
        let address: Option<IpAddr> = listen.host.parse().ok();
        if address.is_some_and(|address| !address.is_loopback()) {
            self.problems.push(Problem::new(format!(
                "--peer-listen {listen}: whoever reaches it could speak for a member; give \
                 --ca-file, --cert-file and --key-file, listen on the loopback, or say --insecure-peers where the network is trusted"
            )));
        }
    }

    fn watching(&mut self, heartbeat: Duration, suspicion: Duration) {
        let least = Duration::from_millis(1);
        if heartbeat < least {
            self.say_of("heartbeat", "it must be 1ms at least");
        }
        if suspicion <= heartbeat {
            let [heartbeat, suspicion] = [heartbeat, suspicion].map(humantime::format_duration);
            self.problems.push(Problem::new(format!(
                "--suspicion {suspicion}: it must be longer than --heartbeat {heartbeat}, or \
                 every peer is suspected between two signs of life"
            )));
        }
    }

    fn say_of(&mut self, name: &str, why: &str) {
        if let Some(given) = self.raw.get(name) {
            self.problems.push(Problem::new(format!("{given}: {why}")));
        }
    }
}
