//! Prolonging a lease.

use std::time::Duration;

use tenure::lease::{Drift, Epoch, Renewed, Timing};
use tenure::time::pause;

use crate::bench::{Bench, CALL, LONG, now};
use crate::fault::Fault;

/// Longer than any standstill that a loaded machine makes, most of the time.
const RENEWED: Duration = Duration::from_secs(1);

pub async fn t10_a_renewal_extends(bench: &Bench) {
    let ttl = RENEWED.max(bench.fixture.short_ttl());
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    let one = one.lasting(ttl);
    // A machine that stood still for most of a lease proves nothing: once more then.
    for _ in 0..10 {
        let grant = one.win_in_time(None).await;
        pause(ttl / 4).await;
        let sent_at = now();
        match one.renew(grant.epoch).await {
            Renewed::Kept { left } => assert_eq!(left, ttl),
            Renewed::Lost(_) => {
                assert!(now() >= grant.ends_at(), "a live lease was not renewed");
                continue;
            }
        }
        let ends_at = Drift::ONE_PERCENT.shorten(ttl) - Duration::from_millis(2);
        let (holder, left) = two.held().await;
        let gone = now().since(sent_at) + Duration::from_millis(5);
        assert_eq!(holder.epoch, grant.epoch);
        let most = bench.fixture.binds_for(ttl);
        assert!(left <= most && left + gone >= ttl, "{left:?} {gone:?}");
        let taken = two.win_in_time(None).await;
        assert!(taken.answered_at >= sent_at + ends_at, "{taken:?}");
        return;
    }
    panic!("this machine stood still ten times");
}

pub async fn t11_a_renewal_by_another_is_lost(bench: &Bench) {
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    // So that there is an epoch before it, however a store counts them.
    one.begins_and_ends().await;
    let grant = one.win().await;
    let waited = Duration::from_millis(50);
    pause(waited).await;
    let other_epoch = |by: i64| Epoch::new(grant.epoch.get().saturating_add_signed(by)).unwrap();
    let wrong = [
        (&two, grant.epoch),
        (&one, other_epoch(-1)),
        (&one, other_epoch(1)),
        (&two, other_epoch(1)),
    ];
    for (candidate, epoch) in wrong {
        match candidate.renew(epoch).await {
            Renewed::Lost(Some(holder)) => {
                assert_eq!(
                    (holder.epoch, holder.session),
                    (grant.epoch, one.session.clone())
                );
            }
            other => panic!("{} renewed {epoch}: {other:?}", candidate.node()),
        }
    }
    let (holder, left) = two.observe().await.holder.unwrap();
    assert_eq!(holder.epoch, grant.epoch);
    let rounding = Duration::from_millis(2);
    let binds = bench.fixture.binds_for(LONG);
    let most = Drift::ONE_PERCENT.lengthen(LONG - waited) + rounding;
    assert!(left <= most.min(binds), "{left:?} were left");
    assert!(
        left <= binds - waited / 2,
        "a wrong renewal prolonged it to {left:?}"
    );
    assert_eq!(one.renew(grant.epoch).await, Renewed::Kept { left: LONG });
}

pub async fn t12_a_renewal_after_expiry_is_lost(bench: &Bench) {
    let one = bench.candidate("one").await;
    let one = one.lasting(bench.fixture.short_ttl());
    let epoch = one.win().await.epoch;
    one.sees_free().await;
    for _ in 0..2 {
        assert_eq!(one.renew(epoch).await, Renewed::Lost(None));
        let observed = one.observe().await;
        assert_eq!((observed.epoch, observed.holder), (Some(epoch), None));
    }
    let two = bench.candidate("two").await;
    let taken = two.win().await.epoch;
    match one.renew(epoch).await {
        Renewed::Lost(Some(holder)) => assert_eq!(holder.epoch, taken),
        other => panic!("{other:?}"),
    }
    let other = bench.other_election("node");
    no_node_leads_twice_under_one_epoch(&other).await;
    other.judge();
}

/// A node that led until its own deadline finds its lease still standing in the store,
/// and must not go on under it.
async fn no_node_leads_twice_under_one_epoch(bench: &Bench) {
    let ttl = bench.fixture.node_ttl() * 2;
    let stop_budget = ttl / 3;
    let timing = Timing::new(ttl, ttl / 8, CALL, stop_budget, Drift::ONE_PERCENT).unwrap();
    let (store, way) = bench.fixture.faulty_store(CALL).await;
    let node = bench.node_on(&*store, "one", timing, None);
    let first = node.until_leads().await;
    way.set(Fault::BlackHole);
    node.until_lost().await;
    way.set(Fault::None);
    let second = node.until_leads().await;
    assert!(second > first, "{second} after {first}");
    node.stop().await;
}
