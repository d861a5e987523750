//! Passwords and certificates that are replaced on disk while a node leads: taken up
//! without a renewal missed, and the old ones no longer needed.

use std::path::PathBuf;
use std::time::Duration;

use super::certificates::{Authority, Files, replace};
use super::cluster::{Cluster, Lead, SOON};
#[cfg(feature = "etcd")]
use super::etcd_server::{Etcd, Setup as Servers, Version};
use super::history::At;
use super::redis_server::RedisServer;
use super::redis_tls::TlsRedis;

const TTL: Duration = Duration::from_secs(3);
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How a node tells of a connection. On etcd a password that changes ends the one in
/// use; elsewhere a second one is made first.
const CONNECTED: &str = "\"connected to ";

/// Sidecars that show a password and a certificate, and the files to rotate.
struct Nodes {
    client: Files,
    password: PathBuf,
    cluster: Cluster,
    _home: tempfile::TempDir,
}

impl Nodes {
    fn start(url: &str, authority: &Authority) -> Self {
        let home = tempfile::tempdir().unwrap();
        let client = Files::in_dir(&home.path().join("client"));
        client.trust(&[authority]);
        client.show(&authority.sign(&[]));
        let password = home.path().join("password");
        replace(&password, "password-0\n");
        let cluster = Cluster::start_with(&vec![url.to_owned(); 2], |setup| {
            setup
                .flag("--ttl", "3s")
                .flag("--renew-every", "1s")
                .flag("--username", "app")
                .flag("--password-file", password.display())
                .flag("--ca-file", client.ca.display())
                .flag("--cert-file", client.cert.display())
                .flag("--key-file", client.key.display())
        });
        Self {
            client,
            password,
            cluster,
            _home: home,
        }
    }

    /// No renewal was missed since then, nothing was told, and the epoch is the same.
    fn untroubled(&self, lead: Lead, since: At) {
        let history = self.cluster.recorder.history();
        let mut least_left = TTL;
        for answer in history.answers.iter().filter(|a| a.sent >= since) {
            assert!(
                answer.trouble.is_none() && answer.connected,
                "trouble: {answer:?}"
            );
            assert_eq!(answer.term, Some(lead.epoch), "{answer:?}");
            if answer.is_leader {
                least_left = least_left.min(answer.left.unwrap());
            }
        }
        eprintln!("the lease never had less than {least_left:?} of {TTL:?} left");
        // One renewal missed would leave less than this.
        assert!(least_left > TTL - RENEW_EVERY * 2, "{least_left:?}");
    }

    /// Changes something on the nodes' side, and waits until all have taken it up.
    fn taken_up(&self, change: impl FnOnce()) {
        let counts = || {
            let nodes = (0..self.cluster.len()).map(|index| self.cluster.node(index).log());
            nodes
                .map(|log| log.matches(CONNECTED).count())
                .collect::<Vec<_>>()
        };
        let before = counts();
        change();
        let until = self.cluster.recorder.now() + SOON;
        while counts().iter().zip(&before).any(|(now, then)| now <= then) {
            let logs = || [0, 1].map(|node| self.cluster.node(node).log()).join("\n");
            let late = self.cluster.recorder.now() >= until;
            assert!(!late, "not taken up: {}", logs());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Nodes over a Redis that speaks TLS, and everything that can be rotated there.
struct OnRedis {
    redis: TlsRedis,
    authority: Authority,
    nodes: Nodes,
}

impl OnRedis {
    fn start() -> Self {
        let authority = Authority::new("first");
        let redis = TlsRedis::start(&authority, &authority.sign(&["127.0.0.1"]), "yes");
        let user = "ACL SETUSER app on >password-0 ~tenure:* &tenure:* +@all";
        redis.server.command(&user.split(' ').collect::<Vec<_>>());
        let nodes = Nodes::start(&redis.url("127.0.0.1"), &authority);
        Self {
            redis,
            authority,
            nodes,
        }
    }

    fn rotate_password(&self, round: usize) {
        let rule = |rule: String| {
            let server: &RedisServer = &self.redis.server;
            let reply = server.command(&["ACL", "SETUSER", "app", &rule]);
            assert_eq!(reply.text(), "OK");
        };
        rule(format!(">password-{}", round + 1));
        self.nodes.taken_up(|| {
            let fresh = format!("password-{}\n", round + 1);
            replace(&self.nodes.password, &fresh);
        });
        rule(format!("<password-{round}"));
    }

    /// A new authority for both sides, in the order in which operators do it.
    fn rotate_authority(&mut self, round: usize) {
        let next = Authority::new(&format!("authority {round}"));
        self.nodes
            .taken_up(|| self.nodes.client.trust(&[&self.authority, &next]));
        self.redis.files.trust(&[&self.authority, &next]);
        self.redis.files.show(&next.sign(&["127.0.0.1"]));
        self.redis.reload();
        self.nodes
            .taken_up(|| self.nodes.client.show(&next.sign(&[])));
        self.redis.files.trust(&[&next]);
        self.redis.reload();
        self.nodes.taken_up(|| self.nodes.client.trust(&[&next]));
        self.authority = next;
    }
}

/// rotation: 0 renewals missed, one epoch, no trouble told.
#[test]
fn credentials_are_rotated_under_a_leader() {
    let mut on = OnRedis::start();
    let lead = on.nodes.cluster.working_leader();
    on.nodes.cluster.all_know(lead);
    let began = on.nodes.cluster.recorder.now();
    for round in 0..3 {
        on.rotate_password(round);
        on.rotate_authority(round);
        on.nodes.cluster.wait_for_write(lead.epoch);
    }
    on.nodes.untroubled(lead, began);
    // What was rotated away is not needed: everybody has to connect anew.
    let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
    on.redis.server.command(&kill);
    on.nodes.cluster.wait_for_write(lead.epoch);
    assert_eq!(on.nodes.cluster.ask(lead.node).token, Some(lead.epoch));
    on.nodes.cluster.judge();
}

/// What does not work is not taken up: the node goes on with what it has, says so,
/// and tries again.
#[test]
fn credentials_that_do_not_work_cost_nothing() {
    let OnRedis { redis, nodes, .. } = OnRedis::start();
    let lead = nodes.cluster.working_leader();
    let until = nodes.cluster.recorder.now() + SOON;
    let warned = |words: &str| {
        while !nodes.cluster.node(lead.node).log().contains(words) {
            let log = nodes.cluster.node(lead.node).log();
            assert!(nodes.cluster.recorder.now() < until, "{words}: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    replace(&nodes.password, "\n");
    warned("are not taken up");
    replace(&nodes.password, "password-wrong\n");
    warned("do not work yet");
    assert_eq!(nodes.cluster.ask(lead.node).token, Some(lead.epoch));
    // The server learns it only now: no second change of the file is needed.
    nodes.taken_up(|| {
        let rule = ["ACL", "SETUSER", "app", ">password-wrong"];
        redis.server.command(&rule);
    });
    assert_eq!(nodes.cluster.ask(lead.node).token, Some(lead.epoch));
    for node in 0..2 {
        assert!(!nodes.cluster.node(node).log().contains("password-wrong"));
    }
    nodes.cluster.judge();
}

/// The same on etcd, which has one password a user, and reads its own certificate anew
/// at each handshake, but not the authority that it trusts.
#[cfg(feature = "etcd")]
#[test]
fn credentials_are_rotated_under_a_leader_on_etcd() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new("first");
    let files = Files::in_dir(home.path());
    files.trust(&[&authority]);
    files.show(&authority.sign(&["127.0.0.1"]));
    let path = |path: &std::path::Path| path.display().to_string();
    let (ca, cert, key) = (path(&files.ca), path(&files.cert), path(&files.key));
    let arguments = [
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-cert-auth",
        // Logging in is to cost a busy machine little.
        "--bcrypt-cost",
        "4",
    ];
    let setup = Servers::of(Version::V3_5, 1).with(&arguments);
    let etcd = Etcd::start(setup.over_tls());
    for command in [
        "user add root:hunter2",
        "user grant-role root root",
        "user add app:password-0",
        "role add tenure",
        "role grant-permission tenure --prefix=true readwrite tenure/",
        "user grant-role app tenure",
        "auth enable",
    ] {
        etcd.etcdctl(0, &command.split(' ').collect::<Vec<_>>());
    }
    let nodes = Nodes::start(
        &format!("etcds://127.0.0.1:{}", etcd.tls_port()),
        &authority,
    );
    let lead = nodes.cluster.working_leader();
    nodes.cluster.all_know(lead);
    let began = nodes.cluster.recorder.now();
    for round in 1..=3 {
        nodes.taken_up(|| nodes.client.show(&authority.sign(&[])));
        nodes.taken_up(|| {
            let fresh = format!("password-{round}\n");
            // The file first, while the connection in use stays: from the change on, the
            // server takes the old password from nobody.
            replace(&nodes.password, &fresh);
            let change = "--user root:hunter2 user passwd app --interactive=false";
            etcd.etcdctl_reading(0, &change.split(' ').collect::<Vec<_>>(), &fresh);
        });
        files.show(&authority.sign(&["127.0.0.1"]));
        nodes.cluster.wait_for_write(lead.epoch);
    }
    nodes.untroubled(lead, began);
    nodes.cluster.judge();
}
