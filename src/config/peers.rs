//! `--peer`, `--node` and what else only the sidecars among themselves need: raft, bully
//! and ring.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use super::{Problem, Reader, Target, positive, switch};
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
        let place = address.trim();
        self::address(place)?;
        Ok(Self {
            id: id.trim().parse().map_err(Problem::of)?,
            address: place.to_owned(),
        })
    }
}

fn address(text: &str) -> Result<Endpoint, Problem> {
    match Endpoint::parse(text, 0) {
        Ok(endpoint) if endpoint.port > 0 => Ok(endpoint),
        Ok(_) => Err(Problem::new("write it as HOST:PORT")),
        Err(error) => Err(Problem::new(format!("{error}; write it as HOST:PORT"))),
    }
}

/// What was said of peers, each value right by itself. It is read whatever the store is,
/// so that what is wrong in it is told beside what is wrong with the store.
struct Said {
    own: Option<MemberId>,
    /// `None` where there is no list, or a wrong one.
    listed: Option<Vec<Peer>>,
    listen: Option<Endpoint>,
    witness: bool,
    insecure: bool,
    heartbeat: Duration,
    suspicion: Duration,
    election_timeout: Duration,
    bootstrap: bool,
}

impl Reader<'_> {
    /// `None` where the store is no cluster of peers, or where something is wrong.
    pub(super) fn peers(&mut self, target: Option<&Target>) -> Option<Peers> {
        let before = self.problems.len();
        let said = self.said_of_peers();
        let Some(cluster) = target?.cluster() else {
            self.useless(&OF_PEERS, "--backend raft, bully or ring");
            return None;
        };
        self.need_state_dir(cluster);
        self.need_names(cluster);
        let members = self.members(said.own, said.listed);
        let listen = match self.raw.get("peer-listen") {
            Some(_) => said.listen,
            None => members
                .as_ref()
                .and_then(|members| members.address(members.own()).cloned()),
        };
        if said.witness && cluster.algorithm != Algorithm::Raft {
            let why = format!("{cluster} has no witnesses, only raft has; leave it out");
            self.say_of("witness", &why);
        }
        if let Some(listen) = listen
            .as_ref()
            .filter(|_| !said.insecure && !self.any_tls_file())
        {
            self.need_protection(listen);
        }
        self.watching(said.heartbeat, said.suspicion);
        if self.problems.len() > before {
            return None;
        }
        Some(Peers {
            members: members?,
            listen: listen?,
            witness: said.witness,
            insecure: said.insecure,
            heartbeat: said.heartbeat,
            suspicion: said.suspicion,
            election_timeout: said.election_timeout,
            bootstrap: said.bootstrap,
        })
    }

    fn said_of_peers(&mut self) -> Said {
        Said {
            listed: self.listed(),
            own: self.read("node", |text| text.parse().map_err(Problem::of)),
            listen: self.read("peer-listen", address),
            witness: self.read("witness", switch).unwrap_or(false),
            insecure: self.read("insecure-peers", switch).unwrap_or(false),
            heartbeat: self.read("heartbeat", positive).unwrap_or(HEARTBEAT),
            suspicion: self.read("suspicion", positive).unwrap_or(SUSPICION),
            election_timeout: self
                .read("election-timeout", positive)
                .unwrap_or(ELECTION_TIMEOUT),
            bootstrap: self.read("bootstrap", switch).unwrap_or(false),
        }
    }

    /// The members as they are listed.
    fn listed(&mut self) -> Option<Vec<Peer>> {
        let listed = self.raw.get("peer")?;
        let mut all = Vec::new();
        for text in &listed.values {
            match text.parse() {
                Ok(peer) => all.push(peer),
                Err(problem) => {
                    let place = listed.place();
                    let text = format!("{place} {text}: {problem}");
                    self.problems.push(Problem::new(text));
                    self.wrong.push(listed.setting.name);
                }
            }
        }
        (all.len() == listed.values.len()).then_some(all)
    }

    fn need_state_dir(&mut self, cluster: &Cluster) {
        if self.raw.get("state-dir").is_none() {
            self.problems.push(Problem::new(format!(
                "--backend {cluster}: what a member promises the others must outlive a restart; \
                 give --state-dir, a directory of this node's own on a durable disk"
            )));
        }
    }

    fn need_names(&mut self, cluster: &Cluster) {
        if self.raw.get("node").is_none() {
            self.problems.push(Problem::new(format!(
                "--backend {cluster}: say which member this node is, with --node ID"
            )));
        }
        if self.raw.get("peer").is_none() {
            self.problems.push(Problem::new(format!(
                "--backend {cluster}: list all members, this node among them, with --peer \
                 ID=HOST:PORT each"
            )));
        }
    }

    fn members(&mut self, own: Option<MemberId>, listed: Option<Vec<Peer>>) -> Option<Members> {
        let all = listed?.into_iter().map(|peer| (peer.id, peer.address));
        let members = Members::new(own?, all);
        let listed = self.raw.get("peer")?;
        let keep = |error| {
            self.problems
                .push(Problem::new(format!("{listed}: {error}")))
        };
        members.map_err(keep).ok()
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
        if ["heartbeat", "suspicion"]
            .iter()
            .any(|name| self.wrong.contains(name))
        {
            return;
        }
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
