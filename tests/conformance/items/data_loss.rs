//! A store that was restarted, wiped, set back or robbed of a key.

use std::time::Duration;

use tenure::lease::{Acquired, Epoch, Released, Renewed};

use crate::bench::{Bench, Candidate, PATIENT, now};
use crate::fixture::Half;
use crate::recorder::Grant;

pub async fn t26_lost_data_repeats_no_epoch(bench: &Bench) {
    let alone = async |name: &str| {
        let bench = bench.other_election(name);
        (bench.candidate("leader").await, bench)
    };
    let (leader, restarted) = alone("restarted").await;
    restarted_with_data(&restarted, &leader).await;
    let (leader, wiped) = alone("wiped").await;
    wiped_under_a_leader(&wiped, &leader).await;
    let (leader, incumbent) = alone("incumbent").await;
    the_incumbent_may(&incumbent, &leader).await;
    let (leader, memoryless) = alone("memoryless").await;
    wiped_without_memory(&memoryless, &leader).await;
    let (leader, set_back) = alone("set-back").await;
    set_back_to_an_older_copy(&set_back, &leader).await;
    for half in [Half::Leader, Half::State] {
        let (leader, robbed) = alone(&format!("robbed-{half:?}")).await;
        robbed_of_a_half(&robbed, &leader, half).await;
    }
    nodes_over_a_wiped_store(&bench.other_election("nodes")).await;
}

/// A hold as a node asks for it: not shorter than any lease known.
fn careful(candidate: &Candidate, ttl: Duration) -> Candidate {
    let mut candidate = candidate.clone().lasting(ttl);
    candidate.hold = tenure::lease::Drift::ONE_PERCENT.lengthen(ttl) + Duration::from_millis(2);
    candidate
}

async fn other(bench: &Bench, ttl: Duration) -> Candidate {
    careful(&bench.candidate("other").await, ttl)
}

fn begins_after(grant: &Grant, earlier: &Grant) {
    assert!(grant.epoch > earlier.epoch, "{grant:?} after {earlier:?}");
    assert!(
        grant.answered_at >= earlier.ends_at(),
        "granted while another may lead: {grant:?} {earlier:?}"
    );
}

/// Nobody but the incumbent is granted anything before the old lease is over.
async fn restarted_with_data(bench: &Bench, leader: &Candidate) {
    let ttl = bench.fixture.node_ttl();
    let leader = careful(leader, ttl);
    let grant = leader.win().await;
    bench.fixture.restart(&bench.election, true).await;
    leader.reached().await;
    assert_eq!(leader.observe().await.epoch, Some(grant.epoch));
    let newcomer = other(bench, ttl).await;
    let next = newcomer.win_in_time(None).await;
    begins_after(&next, &grant);
    assert!(matches!(leader.renew(grant.epoch).await, Renewed::Lost(_)));
    // Twice, with somebody who remembers.
    bench.fixture.restart(&bench.election, true).await;
    newcomer.reached().await;
    let last = leader.win_in_time(Some(next.epoch)).await;
    begins_after(&last, &next);
    bench.judge();
}

/// Whoever remembers makes the store hold, and the others obey that.
async fn wiped_under_a_leader(bench: &Bench, leader: &Candidate) {
    let ttl = bench.fixture.node_ttl();
    let leader = careful(leader, ttl);
    let grant = leader.win().await;
    let remembers = other(bench, ttl).await;
    bench.fixture.wipe(&bench.election).await;
    let asked_at = now();
    let (answer, _) = remembers.ask_as(Some(grant.epoch), false).await;
    assert!(matches!(answer, Acquired::Hold { .. }), "{answer:?}");
    assert_eq!(leader.renew(grant.epoch).await, Renewed::Lost(None));
    let newcomer = other(bench, ttl).await;
    let (answer, _) = newcomer.ask_as(None, false).await;
    assert!(matches!(answer, Acquired::Hold { .. }), "{answer:?}");
    let (next, late) = tokio::join!(
        newcomer.win_in_time(None),
        remembers.sees("granted", |seen| seen.epoch > Some(grant.epoch))
    );
    begins_after(&next, &grant);
    assert!(next.answered_at >= asked_at + remembers.hold, "{next:?}");
    assert_eq!(late.epoch, Some(next.epoch));
    bench.judge();
}

async fn the_incumbent_may(bench: &Bench, leader: &Candidate) {
    let grant = leader.win().await;
    bench.fixture.wipe(&bench.election).await;
    assert_eq!(leader.renew(grant.epoch).await, Renewed::Lost(None));
    let again = leader.win_as(Some(grant.epoch), true).await;
    assert!(again.epoch > grant.epoch, "{again:?} after {grant:?}");
    // Through a hold that another began, as well.
    bench.fixture.wipe(&bench.election).await;
    let remembers = bench.candidate("other").await;
    let (answer, _) = remembers.ask_as(Some(again.epoch), false).await;
    assert!(matches!(answer, Acquired::Hold { .. }), "{answer:?}");
    let third = leader.win_as(Some(again.epoch), true).await;
    assert!(third.epoch > again.epoch);
    // But not past somebody who was granted it since.
    assert_eq!(leader.release(third.epoch).await, Released::Released);
    let taken = remembers.win_in_time(None).await;
    let (answer, _) = leader.ask_as(Some(third.epoch), true).await;
    assert!(
        matches!(&answer, Acquired::Held { holder, .. } if holder.epoch == taken.epoch),
        "{answer:?}"
    );
    bench.judge();
}

/// Nobody remembers anything: still no epoch comes again. Whether two may lead for the
/// rest of a lease is told by the guarantees.
async fn wiped_without_memory(bench: &Bench, leader: &Candidate) {
    let store = bench.fixture.store(PATIENT).await;
    let mut last: Option<Grant> = None;
    for round in 0..3 {
        let newcomer = bench.candidate(&format!("newcomer-{round}")).await;
        let grant = newcomer.win_in_time(None).await;
        if let Some(last) = last.replace(grant.clone()) {
            assert!(grant.epoch > last.epoch, "{grant:?} after {last:?}");
            if grant.answered_at < last.ends_at() {
                let guarantees = store.guarantees();
                assert!(
                    !guarantees.one_leader_after_data_loss.is_yes(),
                    "two may lead, and it is not said: {guarantees:?}"
                );
            }
        }
        if round == 1 {
            bench.fixture.restart(&bench.election, false).await;
        } else {
            bench.fixture.wipe(&bench.election).await;
        }
        newcomer.reached().await;
        leader.reached().await;
        assert_eq!(leader.observe().await.epoch, None);
    }
    bench.judge();
}

async fn set_back_to_an_older_copy(bench: &Bench, leader: &Candidate) {
    let ttl = bench.fixture.node_ttl();
    // The copy holds a lease that was live then.
    let leader = careful(leader, ttl);
    let old = leader.win().await;
    let backup = bench.fixture.back_up(&bench.election).await;
    let mut newest = old.clone();
    for _ in 0..3 {
        assert_eq!(leader.release(newest.epoch).await, Released::Released);
        newest = leader.win().await;
    }
    bench.fixture.restore(&bench.election, &backup).await;
    leader.reached().await;
    assert_eq!(leader.observe().await.epoch, Some(old.epoch));
    // Whoever remembers is not taken in by the old holder.
    let remembers = other(bench, ttl).await;
    let asked_at = now();
    let (answer, _) = remembers.ask_as(Some(newest.epoch), false).await;
    assert!(matches!(answer, Acquired::Hold { .. }), "{answer:?}");
    assert_eq!(leader.renew(newest.epoch).await, Renewed::Lost(None));
    let next = remembers.win_in_time(Some(newest.epoch)).await;
    begins_after(&next, &newest);
    assert!(next.answered_at >= asked_at + remembers.hold, "{next:?}");
    match leader.renew(old.epoch).await {
        Renewed::Lost(Some(holder)) => assert_eq!(holder.epoch, next.epoch),
        other => panic!("the lease of the copy came back to life: {other:?}"),
    }

    // Nodes without memory repeat no epoch either.
    bench.fixture.restore(&bench.election, &backup).await;
    leader.reached().await;
    let newcomer = bench.candidate("newcomer").await;
    let last = newcomer.win_in_time(None).await;
    assert!(last.epoch > next.epoch, "{last:?} after {next:?}");
    bench.judge();
}

async fn robbed_of_a_half(bench: &Bench, leader: &Candidate, half: Half) {
    let ttl = bench.fixture.node_ttl();
    let leader = careful(leader, ttl);
    for remembers in [false, true] {
        let grant = leader.win_in_time(None).await;
        if !bench.fixture.lose(&bench.election, half).await {
            return;
        }
        let candidate = other(bench, ttl).await;
        let floor = remembers.then_some(grant.epoch);
        let (answer, _) = candidate.ask_as(floor, false).await;
        match (half, &answer) {
            (Half::Leader, Acquired::Hold { .. }) | (Half::State, Acquired::Held { .. }) => {}
            _ => panic!("{half:?} was lost: {answer:?}"),
        }
        // It is told so, and may go on under a new epoch: the record is whole again.
        assert!(matches!(leader.renew(grant.epoch).await, Renewed::Lost(_)));
        let again = leader.win_as(Some(grant.epoch), true).await;
        assert!(again.epoch > grant.epoch);
        let next = candidate.win_in_time(floor).await;
        begins_after(&next, &again);
        assert_eq!(candidate.release(next.epoch).await, Released::Released);
        // Nobody goes on: the others wait for as long as it may lead.
        let grant = leader.win().await;
        bench.fixture.lose(&bench.election, half).await;
        let next = candidate.win_in_time(floor).await;
        begins_after(&next, &grant);
        assert_eq!(candidate.release(next.epoch).await, Released::Released);
    }
    bench.judge();
}

/// With memories the promise holds over the loss: at most one leads, at any moment.
async fn nodes_over_a_wiped_store(bench: &Bench) {
    let timing = bench.timing();
    let mut nodes = Vec::new();
    for id in ["one", "two", "three"] {
        let node = bench.node(id, timing).await;
        if nodes.is_empty() {
            node.until_leads().await;
        } else {
            node.until_follows().await;
        }
        nodes.push(node);
    }
    let mut last = nodes[0].leads();
    for _ in 0..2 {
        bench.fixture.wipe(&bench.election).await;
        last = Some(leader_above(bench, last).await);
    }
    for node in nodes {
        node.stop().await;
    }
    bench.judge();
}

async fn leader_above(bench: &Bench, last: Option<Epoch>) -> Epoch {
    let looker = bench.candidate("looker").await;
    let led = async |epoch| {
        bench
            .recorder
            .leads()
            .iter()
            .any(|lead| lead.epoch == epoch)
    };
    let until = now() + crate::bench::BOUND;
    loop {
        let seen = looker
            .sees("granted again", |seen| {
                seen.epoch > last && seen.holder.is_some()
            })
            .await;
        if let Some(epoch) = seen.epoch
            && led(epoch).await
        {
            return epoch;
        }
        assert!(now() < until, "nobody leads under {seen:?}");
        tenure::time::pause(Duration::from_millis(5)).await;
    }
}
