//! What somebody does to the keys by hand.

use std::time::Instant;

use serde_json::{Value, json};
use tenure::lease::{Acquired, HoldReason, Released, Renewed};

use super::etcd_server::{Etcd, Version};
use super::{bid, claim, election, store, until, win};

/// The etcd lease to which a key is bound.
pub fn lease_of(etcd: &Etcd, key: &str) -> String {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let answer = etcd.ask("/v3/kv/range", &json!({ "key": key }));
    answer["kvs"][0]["lease"].as_str().unwrap().to_owned()
}

pub fn is_alive(etcd: &Etcd, lease: &str) -> bool {
    let answer = etcd.ask("/v3/lease/timetolive", &json!({ "ID": lease }));
    answer["TTL"]
        .as_str()
        .is_some_and(|ttl| !ttl.starts_with('-') && ttl != "0")
}

/// A leader key that is deleted frees nothing: its holder may have been told an instant
/// ago that it goes on.
#[tokio::test]
async fn a_deleted_leader_key_makes_everybody_wait() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = Etcd::single(version);
        let (one, two) = (store(&etcd), store(&etcd));
        let (leader, other) = (election(&one, "e"), election(&two, "e"));
        let epoch = win(&leader, 1).await;
        leader.renew(&claim(1, epoch)).await.unwrap();
        let lease = lease_of(&etcd, "tenure/e/leader");
        assert!(is_alive(&etcd, &lease));
        etcd.delete("tenure/e/leader");
        let asked = Instant::now();
        let Ok(Acquired::Hold { why, retry_in }) = other.acquire(&bid(2)).await else {
            panic!("granted at once");
        };
        assert_eq!(why, HoldReason::LeaseVanished);
        assert!(retry_in >= bid(2).hold, "{retry_in:?}");
        // It cannot be told so any more, and was told the truth at once.
        assert!(!is_alive(&etcd, &lease));
        assert_eq!(
            leader.renew(&claim(1, epoch)).await,
            Ok(Renewed::Lost(None))
        );
        // Nodes without a memory obey the hold, too.
        let standing = election(&two, "e").acquire(&bid(3)).await;
        assert!(
            matches!(
                standing,
                Ok(Acquired::Hold {
                    why: HoldReason::Standing,
                    ..
                })
            ),
            "{standing:?}"
        );
        let mut asks = bid(2);
        asks.floor = Some(epoch);
        let won = until(
            || other.acquire(&asks),
            |answer| matches!(answer, Ok(Acquired::Won { .. })),
        );
        let Ok(Acquired::Won { epoch: next, .. }) = won.await else {
            unreachable!()
        };
        assert!(next > epoch);
        assert!(asked.elapsed() >= bid(2).hold, "{:?}", asked.elapsed());
        assert_eq!(etcd.get("tenure/e/hold"), None);
    }
}

/// A process that ends between marking a lease and revoking it leaves the rest to the
/// next one: the hold counts only from when that lease is dead.
#[tokio::test]
async fn a_hold_that_was_only_begun_is_finished_by_the_next() {
    let etcd = Etcd::single(Version::V3_5);
    let store = store(&etcd);
    let leader = election(&store, "e");
    let epoch = win(&leader, 1).await;
    let lease = lease_of(&etcd, "tenure/e/leader");
    let mut state: Value = serde_json::from_str(&etcd.get("tenure/e/state").unwrap()).unwrap();
    state["revoke"] = lease.parse::<i64>().unwrap().into();
    state.as_object_mut().unwrap().remove("session");
    etcd.delete("tenure/e/leader");
    etcd.delete("tenure/e/lease");
    etcd.put("tenure/e/state", &state.to_string());
    assert!(is_alive(&etcd, &lease));
    let asked = Instant::now();
    let answer = election(&store, "e").acquire(&bid(2)).await;
    assert!(matches!(answer, Ok(Acquired::Hold { .. })), "{answer:?}");
    assert!(!is_alive(&etcd, &lease));
    assert_eq!(
        leader.renew(&claim(1, epoch)).await,
        Ok(Renewed::Lost(None))
    );
    let other = election(&store, "e");
    let asks = bid(2);
    let won = until(
        || other.acquire(&asks),
        |answer| matches!(answer, Ok(Acquired::Won { .. })),
    );
    assert!(won.await.is_ok());
    assert!(asked.elapsed() >= bid(2).hold, "{:?}", asked.elapsed());
}

/// Even where the lease key alone is left, whoever remembers nothing waits.
#[tokio::test]
async fn the_lease_key_alone_tells_of_a_leader() {
    let etcd = Etcd::single(Version::V3_4);
    let store = store(&etcd);
    let leader = election(&store, "e");
    let epoch = win(&leader, 1).await;
    etcd.delete("tenure/e/leader");
    etcd.delete("tenure/e/state");
    let answer = election(&store, "e").acquire(&bid(2)).await;
    assert!(
        matches!(
            answer,
            Ok(Acquired::Hold {
                why: HoldReason::LeaseVanished,
                ..
            })
        ),
        "{answer:?}"
    );
    assert!(matches!(
        leader.renew(&claim(1, epoch)).await,
        Ok(Renewed::Lost(_))
    ));
}

/// A renewal sees what was deleted, also where a watch has not told of it.
#[tokio::test]
async fn a_renewal_of_a_record_that_is_not_whole_is_lost() {
    let etcd = Etcd::single(Version::V3_5);
    let store = store(&etcd);
    for key in ["leader", "lease", "state"] {
        let name = format!("without-{key}");
        let leader = election(&store, &name);
        let epoch = win(&leader, 1).await;
        for _ in 0..3 {
            leader.renew(&claim(1, epoch)).await.unwrap();
        }
        etcd.delete(&format!("tenure/{name}/{key}"));
        let answer = leader.renew(&claim(1, epoch)).await;
        assert_eq!(answer, Ok(Renewed::Lost(None)), "{key}");
        // The incumbent makes it whole again, under a new epoch.
        let mut again = bid(1);
        (again.floor, again.incumbent) = (Some(epoch), true);
        let Ok(Acquired::Won { epoch: next, .. }) = leader.acquire(&again).await else {
            panic!("{key}: the incumbent was not granted");
        };
        assert!(next > epoch);
        let kept = leader.renew(&claim(1, next)).await;
        assert!(matches!(kept, Ok(Renewed::Kept { .. })), "{key}: {kept:?}");
    }
}

/// What an operator revokes looks like an expiry: no hold, and a higher epoch.
#[tokio::test]
async fn a_revoked_lease_is_over() {
    let etcd = Etcd::single(Version::V3_5);
    let store = store(&etcd);
    let leader = election(&store, "e");
    let epoch = win(&leader, 1).await;
    let lease = lease_of(&etcd, "tenure/e/leader");
    let hex = format!("{:x}", lease.parse::<i64>().unwrap());
    etcd.etcdctl(0, &["lease", "revoke", &hex]);
    assert!(win(&election(&store, "e"), 2).await > epoch);
    assert!(matches!(
        leader.renew(&claim(1, epoch)).await,
        Ok(Renewed::Lost(Some(_)))
    ));
    assert_eq!(
        leader.release(&claim(1, epoch), None).await,
        Ok(Released::NotHeld)
    );
}

/// Another cluster than the one that granted the last lease is not trusted at once.
#[tokio::test]
async fn another_cluster_makes_everybody_wait() {
    let etcd = Etcd::single(Version::V3_5);
    let store = store(&etcd);
    let one = election(&store, "e");
    let epoch = win(&one, 1).await;
    one.release(&claim(1, epoch), None).await.unwrap();
    let mut state: Value = serde_json::from_str(&etcd.get("tenure/e/state").unwrap()).unwrap();
    state["cluster"] = "abc".into();
    etcd.put("tenure/e/state", &state.to_string());
    let answer = one.acquire(&bid(2)).await;
    assert!(
        matches!(
            answer,
            Ok(Acquired::Hold {
                why: HoldReason::ServerChanged,
                ..
            })
        ),
        "{answer:?}"
    );
    let asks = bid(2);
    let won = until(
        || one.acquire(&asks),
        |answer| matches!(answer, Ok(Acquired::Won { .. })),
    );
    assert!(won.await.is_ok());
}
