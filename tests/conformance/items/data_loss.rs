//! A store that was restarted, wiped, set back or robbed of a key.

use std::time::Duration;

use tenure::lease::{Acquired, Drift, Epoch, Released, Renewed};
use tenure::time::pause;

use crate::bench::{Bench, Candidate, PATIENT, ROUNDING, now};
use crate::fixture::Half;
use crate::recorder::Grant;

pub async fn t26_lost_data_repeats_no_epoch(bench: &Bench) {
    let alone = async |name: &str| {
        let bench = bench.other_election(name);
        (bench.candidate("leader").await, bench)
    };
    let (leader, restarted) = alone("restarted").await;
    restarted_with_data(&restarted, &leader).await;
    if !bench.fixture.outlives_its_data() {
        let said = bench.fixture.store(PATIENT).await.guarantees();
        assert!(!said.epochs_never_repeat.is_yes(), "{said:?}");
        assert!(!said.one_leader_after_data_loss.is_yes(), "{said:?}");
        return;
    }
    let (leader, wiped) = alone("wiped").await;
    wiped_under_a_leader(&wiped, &leader).await;
    let (leader, incumbent) = alone("incumbent").await;
    the_incumbent_may(&incumbent, &leader).await;
    let (leader, memoryless) = alone("memoryless").await;
    wiped_without_memory(&memoryless, &leader).await;
    let (leader, set_back) = alone("set-back").await;
    set_back_to_an_older_copy(&set_back, &leader).await;
    let (leader, first) = alone("robbed-of-the-leader").await;
    let (other_leader, second) = alone("robbed-of-the-state").await;
    tokio::join!(
        robbed_of_a_half(&first, &leader, Half::Leader),
        robbed_of_a_half(&second, &other_leader, Half::State)
    );
    nodes_over_a_wiped_store(&bench.other_election("nodes")).await;
}

/// A hold as a node asks for it: not shorter than any lease known.
fn careful(candidate: &Candidate, ttl: Duration) -> Candidate {
    let mut candidate = candidate.clone().lasting(ttl);
    candidate.hold = Drift::ONE_PERCENT.lengthen(ttl) + ROUNDING;
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
    let ttl = bench.fixture.short_ttl();
    let leader = careful(leader, ttl);
    let grant = leader.win().await;
    bench.restart(true).await;
    leader.reached().await;
    assert_eq!(leader.observe().await.epoch, Some(grant.epoch));
    let newcomer = other(bench, ttl).await;
    let next = newcomer.win_in_time(None).await;
    begins_after(&next, &grant);
    assert!(matches!(leader.renew(grant.epoch).await, Renewed::Lost(_)));
    // Twice, with somebody who remembers.
    bench.restart(true).await;
    newcomer.reached().await;
    let last = leader.win_in_time(Some(next.epoch)).await;
    begins_after(&last, &next);
    bench.judge();
}

/// Whoever remembers makes the store hold, and the others obey that.
async fn wiped_under_a_leader(bench: &Bench, leader: &Candidate) {
    let ttl = bench.fixture.short_ttl();
    let leader = careful(leader, ttl);
    let grant = leader.win().await;
    let remembers = other(bench, ttl).await;
    bench.wipe().await;
    let asked_at = now();
    let (answer, _) = remembers.ask_as(Some(grant.epoch), false).await;
    assert!(matches!(answer, Acquired::Hold { .. }), "{answer:?}");
    assert_eq!(leader.renew(grant.epoch).await, Renewed::Lost(None));
    let newcomer = other(bench, ttl).await;
    let (next, late) = tokio::join!(
        newcomer.win_in_time(None),
        remembers.sees("granted", |seen| seen.epoch > Some(grant.epoch))
    );
    begins_after(&next, &grant);
    assert!(
        next.answered_at >= asked_at + remembers.hold - ROUNDING,
        "{next:?}"
    );
    assert_eq!(late.epoch, Some(next.epoch));
    bench.judge();
}

async fn the_incumbent_may(bench: &Bench, leader: &Candidate) {
    let grant = leader.win().await;
    bench.wipe().await;
    assert_eq!(leader.renew(grant.epoch).await, Renewed::Lost(None));
    let again = leader.win_as(Some(grant.epoch), true).await;
    assert!(again.epoch > grant.epoch, "{again:?} after {grant:?}");
    // Through a hold that another began, as well.
    bench.wipe().await;
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
            bench.restart(false).await;
        } else {
            bench.wipe().await;
        }
        newcomer.reached().await;
        leader.reached().await;
        assert_eq!(leader.observe().await.epoch, None);
    }
    bench.judge();
}

async fn set_back_to_an_older_copy(bench: &Bench, leader: &Candidate) {
    let ttl = bench.fixture.short_ttl();
    // The copy holds a lease that was live then.
    let leader = careful(leader, ttl);
    let old = leader.win().await;
    let backup = bench.fixture.back_up(&bench.election).await;
    let mut newest = old.clone();
    for _ in 0..3 {
        leader.gives_back(&newest).await;
        newest = leader.win().await;
    }
    bench.restore(&backup).await;
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
    assert!(
        next.answered_at >= asked_at + remembers.hold - ROUNDING,
        "{next:?}"
    );
    match leader.renew(old.epoch).await {
        Renewed::Lost(Some(holder)) => assert_eq!(holder.epoch, next.epoch),
        other => panic!("the lease of the copy came back to life: {other:?}"),
    }

    // Nodes without memory repeat no epoch either.
    bench.restore(&backup).await;
    leader.reached().await;
    let newcomer = bench.candidate("newcomer").await;
    let last = newcomer.win_in_time(None).await;
    assert!(last.epoch > next.epoch, "{last:?} after {next:?}");
    bench.judge();
}

async fn robbed_of_a_half(bench: &Bench, leader: &Candidate, half: Half) {
    let ttl = bench.fixture.short_ttl() * 2;
    let leader = careful(leader, ttl);
    let candidate = other(bench, ttl).await;
    for remembers in [false, true] {
        let grant = leader.win_in_time(None).await;
        if !bench.fixture.lose(&bench.election, half).await {
            return;
        }
        let floor = remembers.then_some(grant.epoch);
        let (answer, won) = candidate.ask_as(floor, false).await;
        match (half, &answer) {
            (Half::Leader, Acquired::Hold { .. }) | (Half::State, Acquired::Held { .. }) => {
                the_leader_goes_on(&leader, &grant).await;
            }
            // Only where the machine stood still for a whole lease.
            (_, Acquired::Won { .. }) => begins_after(&won.unwrap(), &grant),
            _ => panic!("{half:?} was lost: {answer:?}"),
        }
        let last = bench.recorder.grants().pop().unwrap();
        let next = candidate.win_in_time(floor).await;
        if last.session != candidate.session {
            begins_after(&next, &last);
        }
        candidate.gives_back(&next).await;
        // Nobody goes on: the others wait for as long as it may lead.
        let grant = leader.win().await;
        bench.fixture.lose(&bench.election, half).await;
        let next = candidate.win_in_time(floor).await;
        begins_after(&next, &grant);
        candidate.gives_back(&next).await;
    }
    bench.judge();
}

/// It is told of the loss, and may go on under a new epoch: the record is whole again.
async fn the_leader_goes_on(leader: &Candidate, grant: &Grant) {
    assert!(matches!(leader.renew(grant.epoch).await, Renewed::Lost(_)));
    if now() < grant.ends_at() {
        let again = leader.win_as(Some(grant.epoch), true).await;
        assert!(again.epoch > grant.epoch);
    }
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
        bench.wipe().await;
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
        pause(Duration::from_millis(5)).await;
    }
}
