//! Giving the lease back, and who is next.

use std::time::Duration;

use tenure::lease::{Drift, Hint, NodeId, Released, Renewed, Timing};

use crate::bench::{Bench, LONG, hears, now, sure};
use crate::node::Node;

pub async fn t14_release_by_another_changes_nothing(bench: &Bench) {
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    let old = one.win().await.epoch;
    assert_eq!(one.release(old).await, Released::Released);
    let epoch = one.win().await.epoch;
    let later = tenure::lease::Epoch::new(epoch.get() + 1).unwrap();
    for (candidate, epoch) in [(&two, epoch), (&one, old), (&one, later), (&two, later)] {
        let answer = candidate.release(epoch).await;
        assert_eq!(answer, Released::NotHeld, "{} {epoch}", candidate.node());
    }
    let (holder, _) = two.observe().await.holder.unwrap();
    assert_eq!((holder.epoch, &holder.session), (epoch, &one.session));
    two.held().await;
    assert_eq!(one.renew(epoch).await, Renewed::Kept { left: LONG });
}

pub async fn t15_releasing_twice_is_safe(bench: &Bench) {
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    let epoch = one.win().await.epoch;
    // The answer to the first may have been lost: the second says the same.
    for _ in 0..3 {
        assert_eq!(one.release(epoch).await, Released::Released);
    }
    assert_eq!(one.observe().await.epoch, Some(epoch));
    let taken = two.win().await.epoch;
    assert_eq!(one.release(epoch).await, Released::NotHeld);
    let (holder, _) = one.observe().await.holder.unwrap();
    assert_eq!(holder.epoch, taken);
    assert_eq!(two.renew(taken).await, Renewed::Kept { left: LONG });
}

pub async fn t16_release_wakes_a_follower(bench: &Bench) {
    let one = bench.candidate("one").await;
    let follower = bench.node("follower", bench.calm()).await;
    let epoch = follower.until_leads().await;
    follower.stop().await;

    let mut best = Duration::MAX;
    for _ in 0..5 {
        let grant = one.win_in_time(None).await;
        assert!(grant.epoch > epoch);
        let follower = bench.node("follower", bench.calm()).await;
        follower.until_follows().await;
        // Its wake-ups flow once it hears of anything.
        let (mut hints, _) = one.listen().await;
        let released_at = now();
        assert_eq!(one.release(grant.epoch).await, Released::Released);
        // Where the next one was as quick, its beginning may be told instead.
        hears(&mut hints, "the release", |hint| match hint {
            Hint::Ended { epoch, prefer } => *epoch == grant.epoch && prefer.is_none(),
            Hint::Began(epoch) => *epoch > grant.epoch,
            Hint::Present(_) | Hint::Gap => false,
        })
        .await;
        follower.until_leads().await;
        let lead = bench.recorder.leads().pop().unwrap();
        best = best.min(lead.from.since(released_at));
        follower.stop().await;
    }
    let store = bench.fixture.store(LONG).await;
    assert!(store.guarantees().wakes_followers);
    // The lease of a minute and its renewals of 20 s are the poll intervals; on a
    // network that is not there, a wake-up takes milliseconds.
    assert!(
        best < Duration::from_millis(250),
        "the fastest took {best:?}"
    );
}

/// What those wait who let another go first.
const CALL: Duration = Duration::from_millis(700);

pub async fn t27_a_dead_successor_costs_two_calls(bench: &Bench) {
    let (dead, stopped) = (
        bench.other_election("dead"),
        bench.other_election("stopped"),
    );
    tokio::join!(
        prefer_one_that_does_not_come(&dead, false),
        prefer_one_that_does_not_come(&stopped, true),
        prefer_one_that_comes(bench)
    );
    dead.judge();
    stopped.judge();
}

fn timing(call: Duration) -> Timing {
    Timing::new(LONG, LONG / 3, call, Duration::ZERO, Drift::ONE_PERCENT).unwrap()
}

async fn followers(bench: &Bench, ids: &[&str], call: Duration) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in ids {
        let node = bench.node(id, timing(call)).await;
        node.until_follows().await;
        node.until_listens().await;
        nodes.push(node);
    }
    nodes
}

async fn prefer_one_that_does_not_come(bench: &Bench, exists: bool) {
    let one = bench.candidate("one").await;
    let epoch = one.win().await.epoch;
    let nodes = followers(bench, &["two", "three"], CALL).await;
    let successor = followers(bench, if exists { &["successor"] } else { &[] }, CALL).await;
    for node in &successor {
        node.freeze();
    }
    let preferred: NodeId = "successor".parse().unwrap();
    let claim = one.claim(epoch);
    let released_at = now();
    let released = sure(|| one.backend.release(&claim, Some(&preferred))).await;
    assert_eq!(released, Released::Released);
    tokio::select! {
        _ = nodes[0].until_leads() => {}
        _ = nodes[1].until_leads() => {}
    }
    let lead = bench.recorder.leads().remove(0);
    let took = lead.from.since(released_at);
    assert!(
        took >= CALL * 2,
        "the preferred one was given only {took:?}"
    );
    let slack = Duration::from_secs(2);
    assert!(took <= CALL * 2 + slack, "the dead one cost {took:?}");
}

async fn prefer_one_that_comes(bench: &Bench) {
    // It is given ample time here, and needs none of it.
    let call = Duration::from_secs(10);
    let first = bench.node("one", timing(call)).await;
    first.until_leads().await;
    let nodes = followers(bench, &["two", "three", "four"], call).await;
    for heir in [&nodes[2], &nodes[0], &nodes[1]] {
        let leader = std::iter::once(&first)
            .chain(&nodes)
            .find(|node| node.leads().is_some())
            .unwrap();
        leader.step_down(Duration::from_secs(30), Some(heir.id.clone()));
        let epoch = heir.until_leads().await;
        for node in &nodes {
            if node.id != heir.id {
                node.until_knows(epoch).await;
            }
        }
    }
    let order: Vec<_> = bench
        .recorder
        .leads()
        .into_iter()
        .map(|lead| lead.node)
        .collect();
    let expected: Vec<NodeId> = ["one", "four", "two", "three"]
        .map(|id| id.parse().unwrap())
        .into();
    assert_eq!(order, expected);
}
