//! etcd over TLS: who is trusted, what is shown, and what is said where it does not fit.

use std::path::Path;
use std::sync::Arc;

use tenure::backend::Store as _;
use tenure::backend::etcd::{EtcdOptions, EtcdStore};
use tenure::lease::{Hint, Released, Renewed, StoreError};
use tenure::time::{BootClock, pause, within};
use tenure::wire::CredentialFiles;

use super::certificates::{Authority, Files, Signed};
use super::etcd_server::{Etcd, Setup, Version};
use super::{CALL, bid, claim, next, until, win};

/// An etcd with a port in the clear, for the test, and one that speaks TLS.
struct TlsEtcd {
    etcd: Etcd,
    port: u16,
    _home: tempfile::TempDir,
}

impl TlsEtcd {
    /// `clients`: whether they must show a certificate of `authority`, which vouches for
    /// the server, too.
    fn start(version: Version, authority: &Authority, shown: &Signed, clients: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let files = Files::in_dir(home.path());
        files.trust(&[authority]);
        files.show(shown);
        let path = |path: &Path| path.display().to_string();
        let (ca, cert, key) = (path(&files.ca), path(&files.cert), path(&files.key));
        let mut arguments = vec!["--cert-file", &cert, "--key-file", &key];
        if clients {
            arguments.extend(["--trusted-ca-file", &ca, "--client-cert-auth"]);
        }
        let setup = Setup::of(version, 1).with(&arguments).over_tls();
        let etcd = Etcd::start(setup);
        Self {
            port: etcd.tls_port(),
            etcd,
            _home: home,
        }
    }

    fn url(&self, host: &str) -> String {
        format!("etcds://{host}:{}", self.port)
    }
}

fn open(url: &str, credentials: CredentialFiles) -> EtcdStore {
    let options = EtcdOptions {
        target: url.parse().unwrap(),
        credentials,
        call_timeout: CALL,
    };
    EtcdStore::open(options, Arc::new(BootClock)).unwrap()
}

/// Why it is not taken, once an attempt has failed.
async fn refusal(url: &str, credentials: CredentialFiles) -> StoreError {
    let election = open(url, credentials).election(&"e".parse().unwrap());
    let ask = || async { election.acquire(&bid(1)).await.expect_err("it was taken") };
    until(ask, |error| !error.to_string().contains("still connecting")).await
}

struct Client {
    files: Files,
    _home: tempfile::TempDir,
}

impl Client {
    fn trusting(authority: &Authority) -> Self {
        let home = tempfile::tempdir().unwrap();
        let files = Files::in_dir(home.path());
        files.trust(&[authority]);
        Self { files, _home: home }
    }

    fn showing(authority: &Authority, shown: &Signed) -> (Self, CredentialFiles) {
        let client = Self::trusting(authority);
        client.files.show(shown);
        let credentials = CredentialFiles {
            cert: Some(client.files.cert.clone()),
            key: Some(client.files.key.clone()),
            ..client.credentials()
        };
        (client, credentials)
    }

    fn credentials(&self) -> CredentialFiles {
        CredentialFiles {
            ca: Some(self.files.ca.clone()),
            ..CredentialFiles::default()
        }
    }
}

#[tokio::test]
async fn a_tenure_over_tls_with_certificates_on_both_sides() {
    for version in [Version::V3_4, Version::V3_5] {
        let authority = Authority::new("ours");
        let etcd = TlsEtcd::start(version, &authority, &authority.sign(&["127.0.0.1"]), true);
        let (_client, credentials) = Client::showing(&authority, &authority.sign(&[]));
        let store = open(&etcd.url("127.0.0.1"), credentials);
        let one = store.election(&"e".parse().unwrap());
        let mut hints = one.changes();
        assert!(matches!(next(&mut hints).await, Hint::Present(_)));
        let epoch = win(&one, 1).await;
        assert_eq!(next(&mut hints).await, Hint::Began(epoch));
        let released = one.release(&claim(1, epoch), None).await;
        assert_eq!(released, Ok(Released::Released));
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_spoken_to() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let wrong = [
        (theirs.sign(&["127.0.0.1"]), "--ca-file"),
        (ours.sign(&["db.example"]), "db.example"),
    ];
    let client = Client::trusting(&ours);
    for (shown, named) in wrong {
        let etcd = TlsEtcd::start(Version::V3_5, &ours, &shown, false);
        let url = etcd.url("127.0.0.1");
        let error = refusal(&url, client.credentials()).await;
        assert!(matches!(error, StoreError::Misconfigured(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(named) && text.contains(&url), "{text}");
    }
}

#[tokio::test]
async fn a_client_that_shows_nothing_or_a_strangers_certificate_is_told_so() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let etcd = TlsEtcd::start(Version::V3_5, &ours, &ours.sign(&["127.0.0.1"]), true);
    let url = etcd.url("127.0.0.1");
    let nothing = Client::trusting(&ours);
    let error = refusal(&url, nothing.credentials()).await;
    assert!(error.to_string().contains("--cert-file"), "{error}");
    let (_client, credentials) = Client::showing(&ours, &theirs.sign(&[]));
    let error = refusal(&url, credentials).await;
    let text = error.to_string();
    assert!(
        text.contains("--cert-file") && text.contains("refuses this node's"),
        "{text}"
    );
}

#[tokio::test]
async fn tls_where_there_is_none_and_none_where_there_is() {
    let ours = Authority::new("ours");
    let client = Client::trusting(&ours);
    let plain = Etcd::single(Version::V3_5);
    let url = plain.url().replace("etcd://", "etcds://");
    let error = refusal(&url, client.credentials()).await;
    assert!(error.to_string().contains("speak TLS"), "{error}");
    let etcd = TlsEtcd::start(Version::V3_5, &ours, &ours.sign(&["127.0.0.1"]), false);
    let url = etcd.url("127.0.0.1").replace("etcds://", "etcd://");
    let error = refusal(&url, CredentialFiles::default()).await;
    assert!(error.to_string().contains("etcds://"), "{error}");
}

/// The new certificate is taken up by a second connection before the first one rests.
#[tokio::test]
async fn a_rotation_misses_no_renewal() {
    let ours = Authority::new("ours");
    let etcd = TlsEtcd::start(Version::V3_5, &ours, &ours.sign(&["127.0.0.1"]), true);
    let (client, credentials) = Client::showing(&ours, &ours.sign(&[]));
    let store = open(&etcd.url("127.0.0.1"), credentials);
    let one = store.election(&"e".parse().unwrap());
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let epoch = win(&one, 1).await;
    client.files.show(&ours.sign(&[]));
    // The watch moves when the old connection rests; until then, and after, every
    // renewal is answered.
    let mut heard = Vec::new();
    while !matches!(heard.as_slice(), [.., Hint::Gap, Hint::Present(_)]) {
        let renewed = one.renew(&claim(1, epoch)).await;
        assert!(matches!(renewed, Ok(Renewed::Kept { .. })), "{renewed:?}");
        if let Some(hint) = within(CALL / 40, next(&mut hints)).await {
            heard.push(hint);
        }
        pause(CALL / 100).await;
    }
    drop(etcd.etcd);
}
