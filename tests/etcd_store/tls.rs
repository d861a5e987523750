//! etcd over TLS: who is trusted, what is shown, and what is said where it does not fit.

use std::sync::Arc;

use tenure::backend::Store as _;
use tenure::backend::etcd::{EtcdOptions, EtcdStore};
use tenure::backend::wire::CredentialFiles;
use tenure::lease::{Hint, Released, StoreError};
use tenure::time::BootClock;

use super::certificates::{Authority, Files, Signed};
use super::etcd_server::{Etcd, Setup, Tls, Version};
use super::{CALL, bid, claim, next, until, win};

/// A server that shows `shown`, and asks its clients for a certificate of `authority`.
fn server(version: Version, authority: &Authority, shown: &Signed) -> (Etcd, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let files = Files::in_dir(home.path());
    files.trust(&[authority]);
    files.show(shown);
    let tls = Tls {
        ca: files.ca,
        cert: files.cert,
        key: files.key,
    };
    (Etcd::start(Setup::of(version, 1).over_tls(tls)), home)
}

fn client(trusted: &Authority, shown: Option<&Signed>) -> (CredentialFiles, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let files = Files::in_dir(home.path());
    files.trust(&[trusted]);
    let mut credentials = CredentialFiles {
        ca: Some(files.ca.clone()),
        ..CredentialFiles::default()
    };
    if let Some(shown) = shown {
        files.show(shown);
        credentials.cert = Some(files.cert.clone());
        credentials.key = Some(files.key);
    }
    (credentials, home)
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

#[tokio::test]
async fn a_tenure_over_tls_with_certificates_on_both_sides() {
    for version in [Version::V3_4, Version::V3_5] {
        let ours = Authority::new("ours");
        let (etcd, _home) = server(version, &ours, &ours.sign(&["127.0.0.1"]));
        let (credentials, _files) = client(&ours, Some(&ours.sign(&[])));
        let store = open(&etcd.url(), credentials);
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
async fn what_does_not_fit_is_named() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = ours.sign(&[]);
    for (shown, named) in [
        (ours.sign(&["127.0.0.1", "localhost"]), None),
        (ours.sign(&["127.0.0.1", "db.example"]), Some("db.example")),
    ] {
        let (etcd, _home) = server(Version::V3_5, &ours, &shown);
        let url = etcd.url();
        let by_name = url.replace("127.0.0.1", "localhost");
        let (credentials, _files) = client(&ours, Some(&good));
        match named {
            None => drop(
                win(
                    &open(&by_name, credentials).election(&"e".parse().unwrap()),
                    1,
                )
                .await,
            ),
            Some(named) => {
                let text = refusal(&by_name, credentials).await.to_string();
                assert!(text.contains("not for the name localhost"), "{text}");
                assert!(text.contains(named), "{text}");
            }
        }
        // A server that nobody vouches for.
        let (credentials, _files) = client(&theirs, Some(&good));
        let error = refusal(&url, credentials).await;
        assert!(matches!(error, StoreError::Misconfigured(_)), "{error}");
        assert!(error.to_string().contains("--ca-file"), "{error}");
        // A client that shows nothing, or what the server does not trust.
        for shown in [None, Some(theirs.sign(&[])), Some(ours.sign_expired(&[]))] {
            let (credentials, _files) = client(&ours, shown.as_ref());
            let text = refusal(&url, credentials).await.to_string();
            assert!(text.contains("--cert-file"), "{text}");
        }
        // In the clear.
        let plain = url.replace("etcds://", "etcd://");
        let text = refusal(&plain, CredentialFiles::default())
            .await
            .to_string();
        assert!(text.contains("etcds://"), "{text}");
    }
    let open = Etcd::single(Version::V3_4);
    let url = open.url().replace("etcd://", "etcds://");
    let (credentials, _files) = client(&ours, Some(&good));
    let text = refusal(&url, credentials).await.to_string();
    assert!(text.contains("does it speak TLS"), "{text}");
}
