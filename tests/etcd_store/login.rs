//! Users and passwords.

use std::time::Duration;

use tenure::lease::{Hint, Renewed, StoreError};

use super::etcd_server::{Etcd, Setup, Version};
use super::{CALL, bid, claim, election, next, store_at, store_with, until, win};

/// With a user `app` that has the rights that Tenure needs, and `other` that has none.
fn locked(version: Version) -> Etcd {
    // A token of a second: one that is not used for as long runs out.
    let etcd = Etcd::start(Setup::of(version, 1).with(token_ttl(version)));
    for command in [
        "user add root:hunter2",
        "user grant-role root root",
        "user add app:s3cret",
        "user add other:s3cret",
        "role add tenure",
        "role grant-permission tenure --prefix=true readwrite tenure/",
        "user grant-role app tenure",
        "auth enable",
    ] {
        if command == "user grant-role root root" && version == Version::V3_4 {
            etcd.etcdctl(0, &["role", "add", "root"]);
        }
        let words: Vec<_> = command.split(' ').collect();
        etcd.etcdctl(0, &words);
    }
    etcd
}

fn token_ttl(version: Version) -> &'static [&'static str] {
    match version {
        Version::V3_4 => &[],
        Version::V3_5 => &["--auth-token-ttl", "1"],
    }
}

fn url(etcd: &Etcd, login: &str) -> String {
    format!("etcd://{login}127.0.0.1:{}", etcd.port(0))
}

/// Why it is not taken, once an attempt has failed.
async fn refusal(url: &str) -> StoreError {
    let one = election(&store_at(url), "e");
    let ask = || async { one.acquire(&bid(1)).await.expect_err("it was taken") };
    until(ask, |error| !error.to_string().contains("still connecting")).await
}

#[tokio::test]
async fn a_login_that_does_not_fit_is_named() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = locked(version);
        for (login, named) in [
            ("", "wants a user and a password"),
            ("app:wrong@", "refuses the user or the password"),
            ("nobody:s3cret@", "refuses the user or the password"),
            ("other:s3cret@", "lacks a right"),
        ] {
            let error = refusal(&url(&etcd, login)).await;
            assert!(matches!(error, StoreError::Rejected(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains(named), "{login}: {text}");
            assert!(
                !text.contains("s3cret") && !text.contains("wrong"),
                "{text}"
            );
        }
    }
    let open = Etcd::single(Version::V3_4);
    let error = refusal(&url(&open, "app:s3cret@")).await.to_string();
    assert!(error.contains("authentication is off"), "{error}");
}

#[tokio::test]
async fn the_rights_that_are_told_suffice() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = locked(version);
        let store = store_at(&url(&etcd, "app:s3cret@"));
        let one = election(&store, "e");
        let mut hints = one.changes();
        assert!(matches!(next(&mut hints).await, Hint::Present(_)));
        let epoch = win(&one, 1).await;
        assert_eq!(next(&mut hints).await, Hint::Began(epoch));
        for _ in 0..2 {
            let kept = one.renew(&claim(1, epoch)).await;
            assert!(matches!(kept, Ok(Renewed::Kept { .. })), "{kept:?}");
        }
        // Deleting the leader key leads to a revocation, which needs a right, too.
        etcd_delete(&etcd, "tenure/e/leader");
        let held = election(&store, "e").acquire(&bid(2)).await;
        assert!(
            matches!(held, Ok(tenure::lease::Acquired::Hold { .. })),
            "{held:?}"
        );
    }
}

fn etcd_delete(etcd: &Etcd, key: &str) {
    etcd.etcdctl(0, &["--user", "root:hunter2", "del", key]);
}

#[tokio::test]
async fn a_token_that_ran_out_is_replaced_unseen() {
    let etcd = locked(Version::V3_5);
    let one = election(&store_at(&url(&etcd, "app:s3cret@")), "e");
    let epoch = win(&one, 1).await;
    // Longer than a token lives that nobody uses; nothing tells when it is over.
    tenure::time::pause(Duration::from_secs(4)).await;
    assert!(one.observe().await.unwrap().holder.is_some());
    tenure::time::pause(Duration::from_secs(4)).await;
    let released = one.release(&claim(1, epoch), None).await;
    assert_eq!(released, Ok(tenure::lease::Released::Released));
}

#[tokio::test]
async fn a_password_that_changes_costs_no_renewal() {
    let etcd = locked(Version::V3_4);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let store = store_with(&url(&etcd, "app@"), CALL, Some(file.clone()));
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    let mut hints = one.changes();
    assert!(matches!(next(&mut hints).await, Hint::Present(_)));
    let connections = etcd.connections();
    let change = [
        "--user",
        "root:hunter2",
        "user",
        "passwd",
        "app",
        "--interactive=false",
    ];
    etcd.etcdctl_reading(0, &change, "fresh\n");
    std::fs::write(&file, "fresh\n").unwrap();
    // The watch moves to the new connection when the old one rests.
    let mut heard = Vec::new();
    while !matches!(heard.as_slice(), [.., Hint::Gap, Hint::Present(_)]) {
        let renewed = one.renew(&claim(1, epoch)).await;
        assert!(matches!(renewed, Ok(Renewed::Kept { .. })), "{renewed:?}");
        if let Some(hint) = tenure::time::within(Duration::from_millis(50), next(&mut hints)).await
        {
            heard.push(hint);
        }
    }
    until(|| async { etcd.connections() }, |now| *now == connections).await;
}
