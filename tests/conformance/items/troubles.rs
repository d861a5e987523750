//! Calls that are not answered.

use std::time::Duration;

use tenure::lease::{Acquired, Hint, Released, Renewed, StoreError};
use tenure::time::pause;

use crate::bench::{Bench, CALL, Candidate, LONG, hears, now};
use crate::fault::{Fault, Way};
use crate::node::bounded;

pub async fn t21_a_black_hole_ends_calls_and_heals(bench: &Bench) {
    let (far, way) = bench.faulty_candidate("far").await;
    let (mut hints, _) = far.listen().await;
    let epoch = far.win().await.epoch;
    for round in 0..2 {
        way.set(Fault::BlackHole);
        // Often enough for every buffer, queue and timer to have its turn.
        for _ in 0..4 {
            silent(&far, epoch).await;
        }
        hears(&mut hints, "the gap", |hint| *hint == Hint::Gap).await;
        way.set(Fault::None);
        // The same store and election, without a restart.
        let (holder, _) = far.observe().await.holder.unwrap();
        assert_eq!(holder.session, far.session, "round {round}");
        let present = |hint: &Hint| matches!(hint, Hint::Present(_));
        hears(&mut hints, "the state", present).await;
        assert_eq!(far.renew(epoch).await, Renewed::Kept { left: LONG });
    }
    a_node_in_a_black_hole(&bench.other_election("node")).await;
}

/// Every call ends within its time, and claims no knowledge.
async fn silent(far: &Candidate, epoch: tenure::lease::Epoch) {
    let (claim, bid) = (far.claim(epoch), far.bid());
    let sent_at = now();
    let asked = tokio::join!(
        bounded(CALL, far.backend.renew(&claim)),
        bounded(CALL, far.backend.acquire(&bid)),
        bounded(CALL, far.backend.observe()),
        bounded(CALL, far.backend.read_checkpoint()),
    );
    let took = now().since(sent_at);
    assert!(
        took < CALL + Duration::from_secs(2),
        "the calls took {took:?}"
    );
    let errors = [asked.0.err(), asked.1.err(), asked.2.err(), asked.3.err()];
    for error in errors {
        let error = error.expect("an answer came out of a black hole");
        let unknown = matches!(
            error,
            StoreError::Unavailable(_) | StoreError::Indeterminate(_)
        );
        assert!(unknown, "{error:?}");
    }
}

async fn a_node_in_a_black_hole(bench: &Bench) {
    let (store, way) = bench.fixture.faulty_store(CALL).await;
    let node = bench.node_on(&*store, "far", bench.timing(), None);
    let first = node.until_leads().await;
    way.set(Fault::BlackHole);
    node.until_lost().await;
    let other = bench.candidate("other").await;
    let taken = other.win_in_time(None).await;
    let lead = bench.recorder.leads().remove(0);
    assert!(taken.answered_at >= lead.until, "{taken:?} {lead:?}");
    way.set(Fault::None);
    node.until_knows(taken.epoch).await;
    assert_eq!(other.release(taken.epoch).await, Released::Released);
    assert!(node.until_leads().await > first);
    node.stop().await;
    bench.judge();
}

pub async fn t22_a_lost_reply_to_acquire_is_resolved(bench: &Bench) {
    let call = bench.call_with_its_last_answer_lost();
    let (far, way) = bench.faulty_candidate_with("far", call).await;
    let near = bench.candidate("near").await;
    near.begins_and_ends().await;
    let lost = grant_without_its_answer(bench, &far, &*way, &near).await;
    assert!(
        matches!(lost, Err(StoreError::Indeterminate(_))),
        "{lost:?}"
    );
    let seen = near.sees_held_by(&far.session).await;
    way.set(Fault::None);
    let sent_at = now();
    let found = far.win().await;
    assert_eq!(Some(found.epoch), seen.epoch, "a second grant at once");
    assert!(found.sent_at >= sent_at);
    assert_eq!(found.left, LONG);
    assert_eq!(far.renew(found.epoch).await, Renewed::Kept { left: LONG });

    a_node_finds_its_own(&bench.other_election("node")).await;
}

/// Where a grant takes several answers, the last one is lost.
async fn grant_without_its_answer(
    bench: &Bench,
    far: &Candidate,
    way: &dyn Way,
    near: &Candidate,
) -> Result<Acquired, StoreError> {
    let bid = far.bid();
    let call = bench.call_with_its_last_answer_lost();
    let asked = bounded(call, far.backend.acquire(&bid));
    if bench.fixture.round_trips() == 1 {
        way.set(Fault::LostReplies);
        return asked.await;
    }
    way.set(Fault::SlowReplies(call / 4));
    let lose = async {
        near.sees_held_by(&far.session).await;
        way.set(Fault::LostReplies);
    };
    tokio::join!(asked, lose).0
}

/// It does not lock itself out for a lease, which is a minute long here.
async fn a_node_finds_its_own(bench: &Bench) {
    let near = bench.candidate("near").await;
    let grant = near.win().await;
    let call = bench.call_with_its_last_answer_lost();
    let (store, way) = bench.fixture.faulty_store(call).await;
    let timing = tenure::lease::Timing::new(
        LONG,
        LONG / 3,
        call,
        Duration::ZERO,
        tenure::lease::Drift::ONE_PERCENT,
    );
    let node = bench.node_on(&*store, "far", timing.unwrap(), None);
    node.until_follows().await;
    // A release that is heard, and an answer that is not.
    way.set(Fault::SlowReplies(call / 8));
    assert_eq!(near.release(grant.epoch).await, Released::Released);
    near.sees_held_by(&node.session).await;
    way.set(Fault::LostReplies);
    let seen = near.observe().await;
    pause(call / 4).await;
    way.set(Fault::None);
    let healed_at = now();
    let epoch = node.until_leads().await;
    assert_eq!(Some(epoch), seen.epoch, "a second grant");
    let took = now().since(healed_at);
    assert!(took < LONG / 4, "it locked itself out for {took:?}");
    node.stop().await;
    bench.judge();
}

pub async fn t23_a_lost_reply_to_release_is_resolved(bench: &Bench) {
    let (far, way) = bench.faulty_candidate("far").await;
    let near = bench.candidate("near").await;
    near.begins_and_ends().await;
    let epoch = far.win().await.epoch;
    way.set(Fault::LostReplies);
    let claim = far.claim(epoch);
    let lost = bounded(CALL, far.backend.release(&claim, None)).await;
    assert!(
        matches!(lost, Err(StoreError::Indeterminate(_))),
        "{lost:?}"
    );
    near.sees_free().await;
    way.set(Fault::None);
    assert_eq!(far.release(epoch).await, Released::Released);
    // It ended in the store's memory, too: nobody waits for a lease that vanished.
    let taken = near.win().await;
    assert!(taken.epoch > epoch);
    assert_eq!(far.release(epoch).await, Released::NotHeld);
    let (holder, _) = far.held().await;
    assert_eq!(holder.epoch, taken.epoch);

    a_node_steps_down(&bench.other_election("node")).await;
}

async fn a_node_steps_down(bench: &Bench) {
    let (store, way) = bench.fixture.faulty_store(CALL).await;
    let node = bench.node_on(&*store, "far", bench.timing(), None);
    let epoch = node.until_leads().await;
    let follower = bench.node("near", bench.timing()).await;
    follower.until_follows().await;
    way.set(Fault::LostReplies);
    node.step_down(LONG, None);
    let taken = follower.until_leads().await;
    assert!(taken > epoch);
    assert_eq!(node.leads(), None);
    way.set(Fault::None);
    node.until_knows(taken).await;
    // What it still sends for its own epoch changes nothing.
    assert_eq!(follower.leads(), Some(taken));
    let asked = bench.candidate("third").await.ask().await;
    assert!(
        matches!(&asked, Acquired::Held { holder, .. } if holder.epoch == taken),
        "{asked:?}"
    );
    node.stop().await;
    follower.stop().await;
    bench.judge();
}
