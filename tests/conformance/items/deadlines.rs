//! When a lease ends, for its holder and for the others.

use std::time::Duration;

use tenure::backend::Store;
use tenure::lease::{Released, Timing};
use tenure::machine::State;
use tenure::time::pause;

use crate::bench::{Bench, CALL, Candidate, LONG, now};
use crate::fault::Fault;
use crate::node::Node;
use crate::recorder::Grant;

pub async fn t13_deadline_counts_from_the_send(bench: &Bench) {
    let timing = bench.timing_for_late_answers();
    let call = timing.call_timeout();
    let late_by = as_late_as_can_be(bench, call);
    let rival = bench.candidate("rival").await;
    let (store, way) = bench.fixture.faulty_store(call).await;
    // Connected first: only the answer to the bid is to be late.
    let (node, first) = nearly_over(bench, &rival, &*store, timing).await;
    assert!(node.floor() >= Some(first.epoch) && node.leads().is_none());
    way.set(Fault::SlowReplies(late_by));
    node.until_leads().await;
    let lead = bench.recorder.leads_of(&node.id).remove(0);
    let tenure = lead.first;
    let sent_at = now();
    let whole = timing.ends_at(sent_at, timing.ttl()).since(sent_at);
    let told = tenure.leads_until.since(tenure.acquired_at);
    assert!(
        told + late_by <= whole,
        "an answer that came {late_by:?} late gave {told:?} of {whole:?}"
    );
    // While it renews, too: nobody is granted the lease before it says to have ended.
    let snapshot = node.until("renewed", |snapshot| {
        let renewed = |renewed: &tenure::machine::Tenure| renewed.renewed_at > tenure.renewed_at;
        snapshot.tenure.as_ref().is_some_and(renewed)
    });
    let renewed = snapshot.await.tenure.unwrap();
    assert_eq!(renewed.leads_until.since(renewed.renewed_at), whole);
    drop(node);
    let taken = rival.win_in_time(None).await;
    let lead = bench.recorder.leads().remove(0);
    assert!(taken.answered_at >= lead.until, "{taken:?} {lead:?}");
    assert_eq!(rival.release(taken.epoch).await, Released::Released);
    way.set(Fault::None);
    a_grant_that_comes_too_late(&bench.other_election("late")).await;
}

/// As late as a call can bear each of its answers. Where it takes several, it takes one more
/// if what the node knows has changed: one that fails is not made up for over a way that slow.
fn as_late_as_can_be(bench: &Bench, call: Duration) -> Duration {
    match bench.fixture.round_trips() {
        1 => call / 2,
        several => call / (2 + several),
    }
}

/// A lease that a node has heard of and that will soon run out: then it asks by what it
/// knows, in as few requests as a grant takes. Returns a short lease before the end, so that
/// no other answer than that to its bid is late for long.
async fn nearly_over(
    bench: &Bench,
    rival: &Candidate,
    store: &dyn Store,
    timing: Timing,
) -> (Node, Grant) {
    let short = bench.fixture.short_ttl();
    let lasts = short + Duration::from_secs(2);
    let grant = rival.clone().lasting(lasts).win().await;
    let node = bench.node_on(store, "node", timing, None);
    let settled = [State::Follower, State::Leader];
    node.until("settled", |snapshot| settled.contains(&snapshot.state()))
        .await;
    pause(grant.ends_at().since(now()).saturating_sub(short)).await;
    (node, grant)
}

/// How often a grant is asked for whose answer the test must catch.
const TRIES: usize = 3;

/// Its answer comes after the lease that it grants is over.
async fn a_grant_that_comes_too_late(bench: &Bench) {
    for attempt in 0..TRIES {
        let bench = bench.other_election(&attempt.to_string());
        if its_answer_was_late(&bench).await {
            return;
        }
    }
    panic!("no answer was late");
}

/// `false` where the answer had gone through before it could be made late, as on a machine
/// that stands still at the wrong moment.
async fn its_answer_was_late(bench: &Bench) -> bool {
    let timing = bench.timing_for_late_answers();
    let call = timing.call_timeout();
    let (store, way) = bench.fixture.faulty_store(call).await;
    let rival = bench.candidate("rival").await;
    let (node, _) = nearly_over(bench, &rival, &*store, timing).await;
    let late_by = timing.ttl() + call;
    if bench.fixture.round_trips() > 1 {
        // Only the last answer is that late: without the others it would not ask.
        way.set(Fault::SlowReplies(as_late_as_can_be(bench, call)));
        rival.sees_held_by(&node.session).await;
        way.set(Fault::SlowReplies(late_by));
    } else {
        way.set(Fault::SlowReplies(late_by));
        rival.sees_held_by(&node.session).await;
    }
    let seen_at = now();
    pause(late_by).await;
    let leads = bench.recorder.leads();
    // A call that was answered in time was over by then; what is late comes far later.
    let caught = leads.iter().all(|lead| lead.from > seen_at + call);
    assert!(
        !caught || leads.is_empty(),
        "it led on a late grant: {leads:?}"
    );
    way.set(Fault::None);
    if caught {
        node.until_leads().await;
    }
    node.stop().await;
    bench.judge();
    caught
}

pub async fn t17_expiry_is_in_time_and_never_early(bench: &Bench) {
    let ttl = bench.fixture.short_ttl();
    let step = bench.fixture.store(CALL).await.guarantees().expiry_step;
    let slack = Duration::from_millis(150);
    let mut best = Duration::MAX;
    for _ in 0..8 {
        let one = bench.candidate("one").await.lasting(ttl);
        let grant = one.win_in_time(None).await;
        // A follower that sleeps until the time that it was told.
        let node = bench.node("node", bench.calm()).await;
        node.until_leads().await;
        let lead = bench.recorder.leads().pop().unwrap();
        assert!(lead.from >= grant.ends_at(), "early: {grant:?} {lead:?}");
        best = best.min(lead.from.since(grant.answered_at));
        node.stop().await;
        if best <= ttl + step + slack {
            return;
        }
    }
    panic!("the lease of {ttl:?} was never taken over before {best:?}");
}

pub async fn t30_a_waiter_that_was_stopped_does_not_lead(bench: &Bench) {
    let one = bench.candidate("one").await;
    let grant = one.win().await;
    let node = bench.node("waiter", bench.timing()).await;
    node.until_follows().await;
    node.freeze_at_grant();
    assert_eq!(one.release(grant.epoch).await, Released::Released);
    // Its bid was granted while it stood still; it stands still for longer than that.
    node.until_frozen().await;
    let other = bench.candidate("other").await;
    let taken = other.win_in_time(None).await;
    assert_eq!(node.leads(), None);
    node.thaw();
    node.until_knows(taken.epoch).await;
    assert_eq!(node.leads(), None);
    assert!(
        bench.recorder.leads().is_empty(),
        "it led by what it had asked"
    );
    let (holder, _) = other.observe().await.holder.unwrap();
    assert_eq!(
        holder.epoch, taken.epoch,
        "its late release freed another's lease"
    );
    assert_eq!(other.release(taken.epoch).await, Released::Released);
    assert!(node.until_leads().await > taken.epoch);

    // Stopped while it leads: what it says then is over before another begins.
    node.freeze();
    let next = bench.candidate("next").await.lasting(LONG);
    let taken = next.win_in_time(None).await;
    assert_eq!(
        node.leads(),
        None,
        "a stopped leader still says that it leads"
    );
    let lead = bench.recorder.leads().pop().unwrap();
    assert!(taken.answered_at >= lead.until, "{taken:?} {lead:?}");
    node.thaw();
    node.until_knows(taken.epoch).await;
    assert_eq!(bench.recorder.leads().len(), 1);
}
