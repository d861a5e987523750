//! Redis over TLS: who is trusted, what is shown, and what is said where it does not
//! fit.

use std::sync::Arc;

use tenure::backend::Store as _;
use tenure::backend::redis::{RedisOptions, RedisStore};
use tenure::lease::{Hint, Released, StoreError};
use tenure::time::BootClock;
use tenure::wire::CredentialFiles;

use super::certificates::{Authority, Files, Signed};
use super::redis_server::RedisServer;
use super::redis_tls::TlsRedis;
use super::{CALL, bid, claim, next, until, win};

pub fn open(url: &str, credentials: CredentialFiles) -> RedisStore {
    let options = RedisOptions {
        target: url.parse().unwrap(),
        credentials,
        call_timeout: CALL,
        wait: 0,
    };
    RedisStore::open(options, Arc::new(BootClock)).unwrap()
}

/// Why it is not taken, once an attempt has failed.
pub async fn refusal(url: &str, credentials: CredentialFiles) -> StoreError {
    let election = open(url, credentials).election(&"e".parse().unwrap());
    let ask = || async { election.acquire(&bid(1)).await.expect_err("it was taken") };
    until(ask, |error| !error.to_string().contains("still connecting")).await
}

pub struct Client {
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

    pub fn showing(authority: &Authority, shown: &Signed) -> (Self, CredentialFiles) {
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
    let authority = Authority::new("ours");
    let redis = TlsRedis::start(&authority, &authority.sign(&["127.0.0.1"]), "yes");
    let (_client, credentials) = Client::showing(&authority, &authority.sign(&[]));
    let store = open(&redis.url("127.0.0.1"), credentials);
    let one = store.election(&"e".parse().unwrap());
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let epoch = win(&one, 1).await;
    assert_eq!(next(&mut hints).await, Hint::Began(epoch));
    let released = one.release(&claim(1, epoch), None).await;
    assert_eq!(released, Ok(Released::Released));
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_spoken_to() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = ours.sign(&["127.0.0.1"]);
    let wrong = [
        (theirs.sign(&["127.0.0.1"]), "--ca-file"),
        (ours.sign(&["db.example"]), "db.example"),
        (ours.sign_expired(&["127.0.0.1"]), "expired"),
    ];
    let client = Client::trusting(&ours);
    for (shown, named) in wrong {
        let redis = TlsRedis::start(&ours, &shown, "no");
        let url = redis.url("127.0.0.1");
        let error = refusal(&url, client.credentials()).await;
        assert!(matches!(error, StoreError::Misconfigured(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(named) && text.contains(&url), "{text}");
    }
    // The system's authorities do not know ours, and a name is not an address.
    let redis = TlsRedis::start(&ours, &good, "no");
    let error = refusal(&redis.url("localhost"), client.credentials()).await;
    assert!(
        error.to_string().contains("not for the name localhost"),
        "{error}"
    );
    let store = open(&redis.url("127.0.0.1"), client.credentials());
    win(&store.election(&"e".parse().unwrap()), 1).await;
}

#[tokio::test]
async fn a_client_that_shows_nothing_or_a_strangers_certificate_is_told_so() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let redis = TlsRedis::start(&ours, &ours.sign(&["127.0.0.1"]), "yes");
    let url = redis.url("127.0.0.1");
    let nothing = Client::trusting(&ours);
    let error = refusal(&url, nothing.credentials()).await;
    assert!(error.to_string().contains("--cert-file"), "{error}");
    for shown in [theirs.sign(&[]), ours.sign_expired(&[])] {
        let (_client, credentials) = Client::showing(&ours, &shown);
        let error = refusal(&url, credentials).await;
        let text = error.to_string();
        assert!(
            text.contains("--cert-file") && text.contains("refuses this node's"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn tls_where_there_is_none_and_none_where_there_is() {
    let ours = Authority::new("ours");
    let client = Client::trusting(&ours);
    let plain = RedisServer::start();
    let url = plain.url().replace("redis://", "rediss://");
    let error = refusal(&url, client.credentials()).await;
    assert!(
        error.to_string().contains("does not speak TLS")
            || error.to_string().contains("speak TLS on that port"),
        "{error}"
    );
    let redis = TlsRedis::start(&ours, &ours.sign(&["127.0.0.1"]), "no");
    let url = redis.url("127.0.0.1").replace("rediss://", "redis://");
    let error = refusal(&url, CredentialFiles::default()).await;
    assert!(error.to_string().contains("rediss://"), "{error}");
}
