//! Passwords and certificates that are replaced on disk while a node leads: taken up
//! without a renewal missed, and the old ones no longer needed.

use std::time::Duration;

use super::certificates::{Authority, Files, replace};
use super::cluster::{Cluster, SOON};
use super::redis_server::RedisServer;
use super::redis_tls::TlsRedis;

const TTL: Duration = Duration::from_secs(3);
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How a node tells that it has taken something up.
const TAKEN_UP: &str = "with changed credentials";

/// Sidecars over TLS with a password, and everything that can be rotated.
struct Rotating {
    redis: TlsRedis,
    authority: Authority,
    client: Files,
    password: String,
    cluster: Cluster,
    _home: tempfile::TempDir,
}

impl Rotating {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let client = Files::in_dir(&home.path().join("client"));
        let authority = Authority::new("first");
        client.trust(&[&authority]);
        client.show(&authority.sign(&[]));
        let password = home.path().join("password");
        replace(&password, "password-0\n");
        let redis = TlsRedis::start(&authority, &authority.sign(&["127.0.0.1"]), "yes");
        let user = "ACL SETUSER app on >password-0 ~tenure:* &tenure:* +@all";
        redis.server.command(&user.split(' ').collect::<Vec<_>>());
        let urls = vec![redis.url("127.0.0.1"); 2];
        let cluster = Cluster::start_with(&urls, |setup| {
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
            redis,
            authority,
            client,
            password: password.display().to_string(),
            cluster,
            _home: home,
        }
    }

    /// Changes something on the nodes' side, and waits until all have taken it up.
    fn taken_up(&self, change: impl FnOnce()) {
        let counts = || {
            let nodes = (0..self.cluster.len()).map(|index| self.cluster.node(index).log());
            nodes
                .map(|log| log.matches(TAKEN_UP).count())
                .collect::<Vec<_>>()
        };
        let before = counts();
        change();
        let until = self.cluster.recorder.now() + SOON;
        while counts().iter().zip(&before).any(|(now, then)| now <= then) {
            let log = self.cluster.node(0).log();
            assert!(self.cluster.recorder.now() < until, "not taken up: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn rotate_password(&self, round: usize) {
        let rule = |rule: String| {
            let server: &RedisServer = &self.redis.server;
            let reply = server.command(&["ACL", "SETUSER", "app", &rule]);
            assert_eq!(reply.text(), "OK");
        };
        rule(format!(">password-{}", round + 1));
        self.taken_up(|| {
            let fresh = format!("password-{}\n", round + 1);
            replace(self.password.as_ref(), &fresh);
        });
        rule(format!("<password-{round}"));
    }

    /// A new authority for both sides, in the order in which operators do it.
    fn rotate_authority(&mut self, round: usize) {
        let next = Authority::new(&format!("authority {round}"));
        self.taken_up(|| self.client.trust(&[&self.authority, &next]));
        self.redis.files.trust(&[&self.authority, &next]);
        self.redis.files.show(&next.sign(&["127.0.0.1"]));
        self.redis.reload();
        self.taken_up(|| self.client.show(&next.sign(&[])));
        self.redis.files.trust(&[&next]);
        self.redis.reload();
        self.taken_up(|| self.client.trust(&[&next]));
        self.authority = next;
    }
}

/// rotation: 0 renewals missed, one epoch, no trouble told.
#[test]
fn credentials_are_rotated_under_a_leader() {
    let mut rotating = Rotating::start();
    let lead = rotating.cluster.working_leader();
    let began = rotating.cluster.recorder.now();
    for round in 0..3 {
        rotating.rotate_password(round);
        rotating.rotate_authority(round);
        rotating.cluster.wait_for_write(lead.epoch);
    }
    {
        let history = rotating.cluster.recorder.history();
        let since = history.answers.iter().filter(|a| a.sent >= began);
        let mut least_left = TTL;
        for answer in since {
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
    // What was rotated away is not needed: everybody has to connect anew.
    let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
    rotating.redis.server.command(&kill);
    rotating.cluster.wait_for_write(lead.epoch);
    assert_eq!(rotating.cluster.ask(lead.node).token, Some(lead.epoch));
    rotating.cluster.judge();
}

/// What does not work is not taken up: the node goes on with what it has, says so,
/// and tries again.
#[test]
fn credentials_that_do_not_work_cost_nothing() {
    let rotating = Rotating::start();
    let lead = rotating.cluster.working_leader();
    let until = rotating.cluster.recorder.now() + SOON;
    let warned = |words: &str| {
        while !rotating.cluster.node(lead.node).log().contains(words) {
            let log = rotating.cluster.node(lead.node).log();
            assert!(rotating.cluster.recorder.now() < until, "{words}: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    replace(rotating.password.as_ref(), "\n");
    warned("are not taken up");
    replace(rotating.password.as_ref(), "password-wrong\n");
    warned("do not work yet");
    assert_eq!(rotating.cluster.ask(lead.node).token, Some(lead.epoch));
    // The server learns it only now: no second change of the file is needed.
    rotating.taken_up(|| {
        let rule = ["ACL", "SETUSER", "app", ">password-wrong"];
        rotating.redis.server.command(&rule);
    });
    assert_eq!(rotating.cluster.ask(lead.node).token, Some(lead.epoch));
    for node in 0..2 {
        assert!(!rotating.cluster.node(node).log().contains("password-wrong"));
    }
    rotating.cluster.judge();
}
