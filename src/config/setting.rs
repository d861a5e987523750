//! The settings of `tenure run`: one table, from which flags, environment names,
//! file keys and `config check` all come.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag without `--`, and the key in the file.
    pub name: &'static str,
    /// What stands for its value in the help; empty for a switch.
    pub value: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// It may be given several times, and comma-separated in the environment.
    pub repeats: bool,
}

impl Setting {
    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        variable(self.name)
    }

    /// Whether it is a switch, true or false.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
}

/// The environment variable of a flag: `TENURE_` and the name in capitals.
#[must_use]
pub fn variable(name: &str) -> String {
    format!("TENURE_{}", name.replace('-', "_").to_uppercase())
}

const fn one(name: &'static str, value: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        value,
        help,
        repeats: false,
    }
}

const fn many(name: &'static str, value: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        value,
        help,
        repeats: true,
    }
}

/// Every setting, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    one(
        "backend",
        "URL",
        "Where the lease is kept: file (default; a directory of this user), file:///dir, redis, \
         redis://[user[:pass]@]host[:6379][/db], redis+sentinel://host,host/master, \
         redis+cluster://host,host, etcd, etcd://[user[:pass]@]host[:2379][,host]; rediss and etcds \
         speak TLS; raft, bully, ring: no store, the sidecars agree among themselves (see --peer)",
    ),
    many(
        "election",
        "NAME",
        "The election to take part in, 1 to 128 of A-Z a-z 0-9 . _ - (default: default); may be \
         repeated",
    ),
    one(
        "id",
        "ID",
        "This node's label (default: host:port of the API); each node its own",
    ),
    one(
        "url",
        "URL",
        "Where clients reach this node's app; the other nodes pass it on",
    ),
    one(
        "ttl",
        "DURATION",
        "The lease: how long a crashed leader blocks the others (default: 15s; 3s with peers)",
    ),
    one(
        "renew-every",
        "DURATION",
        "From one renewal to the next (default: ttl/3)",
    ),
    one(
        "call-timeout",
        "DURATION",
        "The longest that one call to the store may take (default: ttl/6)",
    ),
    one(
        "drift",
        "PERCENT",
        "How far the rate of any clock may be off (default: 1%)",
    ),
    one(
        "stop-budget",
        "DURATION",
        "Time inside the lease that is kept for stopping the app (default: 0s; ttl/4 with a hook \
         or a command)",
    ),
    one(
        "hook",
        "URL",
        "Tell the app of each change by a POST to this URL, on the loopback",
    ),
    one(
        "hook-secret-file",
        "FILE",
        "Sign hooks as Standard Webhooks says: a whsec_ key a line, two during a rotation; read \
         again when it changes",
    ),
    one(
        "hook-timeout",
        "DURATION",
        "The longest that one call of the hook may take (default: 2s)",
    ),
    one(
        "allow-remote-hook",
        "",
        "Call a hook that is not on the loopback",
    ),
    one(
        "app-health",
        "URL",
        "Ask here how the app is; an unhealthy one does not lead",
    ),
    one(
        "app-health-every",
        "DURATION",
        "From one question to the next (default: 1s)",
    ),
    one(
        "app-health-failures",
        "N",
        "After so many bad answers in a row the app is unhealthy (default: 3)",
    ),
    one(
        "on-unhealthy",
        "WHAT",
        "What follows when a leader's app is unhealthy: stepdown or restart (default: stepdown)",
    ),
    one(
        "priority",
        "PERCENT",
        "0 to 100: the lower, the later this node campaigns, by up to one call timeout (default: \
         100)",
    ),
    one(
        "listen",
        "ADDR",
        "The API's address: HOST:PORT (port 0 picks a free one) or unix:/run/tenure.sock; off \
         the loopback it needs --api-token-file (default: 127.0.0.1:4040)",
    ),
    one(
        "probe-listen",
        "ADDR",
        "Where /leader, /follower, /livez, /healthz, /readyz and /metrics are served to anybody, \
         under any Host: for kubelets, load balancers and Prometheus (default: off)",
    ),
    one(
        "probe-status",
        "",
        "Show the status page, /status, /events and /history on --probe-listen too, read-only",
    ),
    one(
        "api-token-file",
        "FILE",
        "Holds the tokens that clients of the API must show, one a line, read again when it \
         changes; the probes need none (default: none is asked for)",
    ),
    many(
        "allow-host",
        "NAME",
        "A Host header to accept beside loopback names; may be repeated",
    ),
    one(
        "redis-wait",
        "N",
        "How many replicas of a Redis must acknowledge a grant and a checkpoint, 0 to 9 (default: 0)",
    ),
    one(
        "max-event-readers",
        "N",
        "How many may follow /events at once, 1 to 512 (default: 256)",
    ),
    many(
        "peer",
        "ID=HOST:PORT",
        "A member of the cluster and where it listens for the others, for raft, bully and ring; \
         once for each member, this node too; the same list on every node",
    ),
    one(
        "node",
        "ID",
        "Which of the members this node is, 1 to 32 of A-Z a-z 0-9 . _ -",
    ),
    one(
        "peer-listen",
        "HOST:PORT",
        "Where this node listens for the others (default: its own --peer address)",
    ),
    one("witness", "", "This node follows and has no vote (raft)"),
    one(
        "insecure-peers",
        "",
        "Listen for the others off the loopback though nothing proves who they are",
    ),
    one(
        "heartbeat",
        "DURATION",
        "From one sign of life to the next among members (default: 1s)",
    ),
    one(
        "suspicion",
        "DURATION",
        "After so long a silence a member is suspected of being down (default: 3s)",
    ),
    one(
        "election-timeout",
        "DURATION",
        "How long an election among members may take (default: 5s)",
    ),
    one(
        "bootstrap",
        "",
        "The cluster is new: this disk holds nothing because nothing was ever promised on it. For \
         the very first start of each member alone; never to replace a lost disk",
    ),
    one(
        "state-dir",
        "DIR",
        "Where the highest epoch seen is kept across restarts, and what a member has promised \
         the others (default: only in memory; members need it)",
    ),
    one(
        "wait",
        "DURATION",
        "Exit with 75 where leadership is not had in that time (default: wait for ever)",
    ),
    one(
        "username",
        "NAME",
        "Who logs in to the store (default: what stands in --backend)",
    ),
    one(
        "password-file",
        "FILE",
        "Holds the store's password on its first line; read again when it changes",
    ),
    one(
        "ca-file",
        "FILE",
        "PEM: who vouches for the store's certificate (default: the system's authorities)",
    ),
    one(
        "cert-file",
        "FILE",
        "PEM: the certificate that this node shows the store, read again when it changes",
    ),
    one("key-file", "FILE", "PEM: the key of --cert-file"),
    one(
        "restart",
        "WHEN",
        "What follows when the command ends by itself, after leadership is handed over: never \
         (exit with its code), on-failure (default: 0 ends the sidecar, too; otherwise campaign \
         again) or always",
    ),
    one(
        "stop-signal",
        "SIGNAL",
        "What asks the command to stop, SIGKILL follows (default: TERM)",
    ),
    one(
        "drain-timeout",
        "DURATION",
        "How long the command may take to stop when leadership is given up; the lease is renewed \
         meanwhile (default: 5s)",
    ),
    one(
        "crash-loop",
        "N in DURATION",
        "So many ends of the command in that time, and this node stays out for longer, twice as \
         long each time (default: 5 in 1m)",
    ),
    one("once", "", "Exit when leadership ends"),
    one(
        "status-every",
        "DURATION",
        "Print a line of status at that interval (default: off)",
    ),
    one(
        "log-format",
        "FORMAT",
        "text or json, on stderr (default: text)",
    ),
    one(
        "log-level",
        "LEVEL",
        "off, error, warn, info, debug or trace (default: info)",
    ),
];

/// The environment variable that names the file of settings.
pub const CONFIG_VARIABLE: &str = "TENURE_CONFIG";

/// Every environment variable that configures a sidecar. Who starts another program from a
/// sidecar, or another sidecar, takes them out: they are this one's own.
pub fn variables() -> impl Iterator<Item = String> {
    let of_settings = SETTINGS.iter().map(Setting::variable);
    of_settings.chain(std::iter::once(CONFIG_VARIABLE.to_owned()))
}
