//! What a release leaves alive, and who goes on with it.

use std::time::Duration;

use serde_json::Value;
use tenure::lease::{Acquired, Released, Renewed};

use super::etcd_server::{Etcd, Version};
use super::meddling::{is_alive, lease_of};
use super::{bid, claim, election, store, until, win};

const LEADER: &str = "tenure/e/leader";

fn granted(etcd: &Etcd) -> u64 {
    etcd.handled(0, "LeaseGrant")
}

/// The successor goes on with the etcd lease, at a whole TTL, and asks etcd for none.
#[tokio::test]
async fn a_handover_goes_on_with_the_lease() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = Etcd::single(version);
        let (one, two) = (store(&etcd), store(&etcd));
        let (leader, other) = (election(&one, "e"), election(&two, "e"));
        let epoch = win(&leader, 1).await;
        let lease = lease_of(&etcd, LEADER);
        let before = granted(&etcd);
        let released = leader.release(&claim(1, epoch), None).await;
        assert_eq!(released, Ok(Released::Released));
        let Ok(Acquired::Won { epoch: next, left }) = other.acquire(&bid(2)).await else {
            panic!("not won");
        };
        assert!(next > epoch);
        assert_eq!(left, bid(2).ttl);
        assert_eq!(lease_of(&etcd, LEADER), lease);
        assert_eq!(granted(&etcd), before);
        let kept = other.renew(&claim(2, next)).await;
        assert!(matches!(kept, Ok(Renewed::Kept { .. })), "{kept:?}");
        // Who gave it back cannot go on with it, nor end it.
        let lost = leader.renew(&claim(1, epoch)).await;
        assert!(matches!(lost, Ok(Renewed::Lost(Some(_)))), "{lost:?}");
        let again = leader.release(&claim(1, epoch), None).await;
        assert_eq!(again, Ok(Released::NotHeld));
        assert!(is_alive(&etcd, &lease));
        // Nor does the loser of the race for it.
        let held = leader.acquire(&bid(3)).await;
        assert!(matches!(held, Ok(Acquired::Held { .. })), "{held:?}");
        assert!(is_alive(&etcd, &lease));
    }
}

/// Of many that go for it at once one wins, and the lease outlives the others' attempts.
#[tokio::test]
async fn many_heirs_are_one_leader() {
    let etcd = Etcd::single(Version::V3_5);
    let first = election(&store(&etcd), "e");
    let epoch = win(&first, 1).await;
    first.release(&claim(1, epoch), None).await.unwrap();
    let bids = (2..8).map(|session| {
        let election = election(&store(&etcd), "e");
        async move { (session, election.acquire(&bid(session)).await) }
    });
    let answers = futures_util::future::join_all(bids).await;
    let won = answers.iter().filter_map(|(session, answer)| match answer {
        Ok(Acquired::Won { epoch, .. }) => Some((*session, *epoch)),
        _ => None,
    });
    let won: Vec<_> = won.collect();
    let [(session, next)] = won[..] else {
        panic!("{answers:?}");
    };
    assert!(next > epoch);
    assert!(is_alive(&etcd, &lease_of(&etcd, LEADER)));
    let kept = first.renew(&claim(session, next)).await;
    assert!(matches!(kept, Ok(Renewed::Kept { .. })), "{kept:?}");
}

/// A lease that ended meanwhile is replaced at once, and so is one of another TTL.
#[tokio::test]
async fn what_does_not_fit_is_not_inherited() {
    let etcd = Etcd::single(Version::V3_5);
    let (one, two) = (store(&etcd), store(&etcd));
    let (leader, other) = (election(&one, "e"), election(&two, "e"));
    let epoch = win(&leader, 1).await;
    let lease = lease_of(&etcd, LEADER);
    leader.release(&claim(1, epoch), None).await.unwrap();
    let hex = format!("{:x}", lease.parse::<i64>().unwrap());
    etcd.etcdctl(0, &["lease", "revoke", &hex]);
    let next = win(&other, 2).await;
    let fresh = lease_of(&etcd, LEADER);
    assert!(next > epoch && fresh != lease && is_alive(&etcd, &fresh));

    other.release(&claim(2, next), None).await.unwrap();
    let mut longer = bid(3);
    longer.ttl += Duration::from_secs(7);
    let Ok(Acquired::Won { left, .. }) = leader.acquire(&longer).await else {
        panic!("not won");
    };
    assert_eq!(left, longer.ttl);
    assert_ne!(lease_of(&etcd, LEADER), fresh);
}

/// Where etcd has changed its leader since the grant, a fresh lease is asked for.
#[tokio::test]
async fn a_lease_of_an_earlier_term_is_not_inherited() {
    let mut etcd = Etcd::single(Version::V3_5);
    let leader = election(&store(&etcd), "e");
    let epoch = win(&leader, 1).await;
    let lease = lease_of(&etcd, LEADER);
    let state = |etcd: &Etcd| -> Value {
        serde_json::from_str(&etcd.get("tenure/e/state").unwrap()).unwrap()
    };
    let term = state(&etcd)["raft_term"].as_u64().unwrap();
    leader.release(&claim(1, epoch), None).await.unwrap();
    assert!(state(&etcd)["handed_over"].is_i64());
    // The only member elects itself anew.
    etcd.kill(0);
    etcd.start_again(0);
    let other = election(&store(&etcd), "e");
    let asks = bid(2);
    let won = until(
        || other.acquire(&asks),
        |answer| matches!(answer, Ok(Acquired::Won { .. })),
    );
    assert!(won.await.is_ok());
    assert_ne!(lease_of(&etcd, LEADER), lease);
    let stored = state(&etcd);
    assert!(stored["raft_term"].as_u64().unwrap() > term, "{stored}");
    assert!(stored["handed_over"].is_null(), "{stored}");
}
