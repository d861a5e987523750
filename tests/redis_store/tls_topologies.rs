//! Sentinel and Cluster where every connection is TLS with certificates on both sides:
//! also the address that a Sentinel or a node names is spoken to in TLS only.

use tenure::backend::{Backend, Store as _};
use tenure::lease::{Hint, Renewed};

use super::certificates::{Authority, Files};
use super::ports::free_port;
use super::redis_server::{RedisServer, Reply};
use super::sentinel_set::{NAME, caught_up, heard, wait_for};
use super::tls::{Client, open, refusal};
use super::{TTL, claim, next, until, win};

/// Servers that show the same certificate, and wish for one.
struct Domain {
    authority: Authority,
    files: Files,
    _home: tempfile::TempDir,
}

/// A server, and the port at which it speaks TLS. The other port is for the test.
struct Secured {
    server: RedisServer,
    port: u16,
}

impl Domain {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::new("ours");
        let files = Files::in_dir(home.path());
        files.trust(&[&authority]);
        files.show(&authority.sign(&["127.0.0.1"]));
        Self {
            authority,
            files,
            _home: home,
        }
    }

    /// The settings of a server that speaks TLS at `port` to clients and replicas.
    fn settings(&self, port: u16) -> Vec<(&'static str, String)> {
        let path = |path: &std::path::Path| path.display().to_string();
        vec![
            ("tls-port", port.to_string()),
            ("tls-ca-cert-file", path(&self.files.ca)),
            ("tls-cert-file", path(&self.files.cert)),
            ("tls-key-file", path(&self.files.key)),
            ("tls-auth-clients", "yes".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ]
    }

    fn server(&self, more: &[(&'static str, String)]) -> Secured {
        let (server, port) = RedisServer::start_on_two(|port| {
            let settings = self.settings(port).into_iter().chain(more.iter().cloned());
            settings
                .flat_map(|(name, value)| [format!("--{name}"), value])
                .collect()
        });
        Secured { server, port }
    }

    fn replica(&self, master: &Secured) -> Secured {
        let replica = self.server(&[("repl-diskless-sync-delay", "0".to_owned())]);
        let port = master.port.to_string();
        replica.server.command(&["REPLICAOF", "127.0.0.1", &port]);
        caught_up(&replica.server);
        replica
    }

    fn sentinel(&self, master: &Secured) -> Secured {
        let port = free_port();
        let mut lines: String = self
            .settings(port)
            .iter()
            .map(|(name, value)| format!("{name} {value}\n"))
            .collect();
        lines += &format!("sentinel monitor {NAME} 127.0.0.1 {} 1\n", master.port);
        let server = RedisServer::start_sentinel(&lines);
        Secured { server, port }
    }
}

async fn renewed(one: &dyn Backend, epoch: tenure::lease::Epoch) {
    let claim = claim(1, epoch);
    let kept = until(|| one.renew(&claim), Result::is_ok).await;
    assert_eq!(kept, Ok(Renewed::Kept { left: TTL }));
}

#[tokio::test]
async fn a_failover_that_a_sentinel_tells_over_tls() {
    let domain = Domain::new();
    let master = domain.server(&[("repl-diskless-sync-delay", "0".to_owned())]);
    let replica = domain.replica(&master);
    heard(&master.server, 1);
    let sentinel = domain.sentinel(&master);
    let (_client, credentials) = Client::showing(&domain.authority, &domain.authority.sign(&[]));
    let url = format!("rediss+sentinel://127.0.0.1:{}/{NAME}", sentinel.port);

    // Without the authority neither a Sentinel nor a server is believed.
    let stranger = refusal(&url, tenure::wire::CredentialFiles::default()).await;
    assert!(stranger.to_string().contains("--ca-file"), "{stranger}");

    let store = open(&url, credentials);
    let one = store.election(&"e".parse().unwrap());
    let epoch = win(&one, 1).await;
    wait_for("a failover that is taken on", || {
        let ordered = sentinel.server.command(&["SENTINEL", "FAILOVER", NAME]);
        (ordered == Reply::Text("OK".to_owned())).then_some(())
    });
    // With the promotion a Sentinel ends the connections of all clients, this one too.
    let promoted = || {
        let role = replica.server.raw().try_command(&["ROLE"]);
        role.is_ok_and(|role| role.list()[0].text() == "master")
    };
    until(|| async { promoted() }, |promoted| *promoted).await;
    let at_replica = || {
        let clients = replica.server.command(&["CLIENT", "LIST"]);
        clients.text().contains("resp=3")
    };
    until(|| async { at_replica() }, |there| *there).await;
    renewed(&*one, epoch).await;
    let held = replica
        .server
        .command(&["HGET", "tenure:{e}:state", "epoch"]);
    assert_eq!(held.text(), epoch.to_string());
}

#[tokio::test]
async fn a_slot_that_moves_between_nodes_that_speak_tls() {
    let domain = Domain::new();
    let bus = [free_port(), free_port()];
    let nodes: Vec<Secured> = bus
        .iter()
        .map(|bus| {
            domain.server(&[
                ("cluster-enabled", "yes".to_owned()),
                ("cluster-port", bus.to_string()),
                ("tls-cluster", "yes".to_owned()),
            ])
        })
        .collect();
    let ok = |node: usize, words: &[&str]| {
        let answer = nodes[node].server.command(words);
        assert_eq!(answer, Reply::Text("OK".to_owned()), "{words:?}");
    };
    for node in 0..2 {
        let number = (node + 1).to_string();
        ok(node, &["CLUSTER", "SET-CONFIG-EPOCH", &number]);
    }
    ok(0, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let (port, bus) = (nodes[1].port.to_string(), bus[1].to_string());
    ok(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    for node in &nodes {
        wait_for("a cluster that is whole", || {
            let told = node.server.command(&["CLUSTER", "INFO"]);
            let text = told.text();
            let whole = text.contains("cluster_state:ok") && text.contains("known_nodes:2");
            whole.then_some(())
        });
    }
    let id = |node: usize| {
        nodes[node]
            .server
            .command(&["CLUSTER", "MYID"])
            .text()
            .to_owned()
    };
    let slot = nodes[0]
        .server
        .command(&["CLUSTER", "KEYSLOT", "tenure:{e}:leader"]);
    let slot = slot.number().to_string();

    let (_client, credentials) = Client::showing(&domain.authority, &domain.authority.sign(&[]));
    let url = format!("rediss+cluster://127.0.0.1:{}", nodes[0].port);
    let store = open(&url, credentials);
    let one = store.election(&"e".parse().unwrap());
    let epoch = win(&one, 1).await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));

    // The keys move as one with the slot: a node's own MIGRATE speaks TLS, too.
    ok(1, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(0)]);
    ok(0, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(1)]);
    let keys = nodes[0]
        .server
        .command(&["CLUSTER", "GETKEYSINSLOT", &slot, "9"]);
    let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    words.extend(keys.list().iter().map(Reply::text));
    ok(0, &words);
    // Sent on with an address at which only TLS is spoken.
    renewed(&*one, epoch).await;
    for node in [1, 0] {
        ok(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &id(1)]);
    }
    renewed(&*one, epoch).await;
    assert_eq!(next(&mut hints).await, Hint::Gap);
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    one.release(&claim(1, epoch), None).await.unwrap();
    assert!(matches!(next(&mut hints).await, Hint::Ended { epoch: ended, .. } if ended == epoch));
    let at_new = nodes[1].server.command(&["EXISTS", "tenure:{e}:state"]);
    assert_eq!(at_new.number(), 1);
}
