//! Planted histories: the oracle must catch each, and let a good one pass.

use std::time::Duration;

use super::history::{Answer, At, Fate, History, Read, Revision, Write};
use super::oracle::judge;

fn at(ms: u64) -> At {
    Duration::from_millis(ms)
}

/// Node `node` says that it leads under `epoch`; asked and answered in 10 ms.
fn leads(history: &mut History, node: usize, epoch: u64, ms: u64) {
    history.answers.push(Answer {
        node,
        boot: format!("boot of {node}"),
        sent: at(ms),
        received: at(ms + 10),
        is_leader: true,
        token: Some(epoch),
        term: Some(epoch),
        ..Answer::default()
    });
}

fn writes(history: &mut History, over: Option<Revision>, to: Revision, ms: u64) {
    history.writes.push(Write {
        node: 0,
        token: to.0,
        over,
        value: format!("{}.{}", to.0, to.1),
        sent: at(ms),
        received: at(ms + 10),
        fate: Fate::Accepted(to),
    });
}

fn reads(history: &mut History, revision: Revision, value: &str, ms: u64) {
    history.reads.push(Read {
        revision,
        value: value.to_owned(),
        sent: at(ms),
        received: at(ms + 10),
    });
}

/// Two nodes lead one after the other and write.
fn good() -> History {
    let mut history = History::default();
    leads(&mut history, 0, 5, 100);
    writes(&mut history, None, (5, 1), 120);
    writes(&mut history, Some((5, 1)), (5, 2), 140);
    leads(&mut history, 0, 5, 200);
    leads(&mut history, 1, 6, 300);
    reads(&mut history, (5, 2), "5.2", 310);
    writes(&mut history, Some((5, 2)), (6, 1), 330);
    leads(&mut history, 0, 7, 400);
    history
}

#[track_caller]
fn caught(history: &History, word: &str) {
    let found = judge(history);
    let says = |text: &String| text.contains(word);
    assert!(found.iter().any(says), "{word:?} is not in {found:?}");
}

#[test]
fn a_good_history_passes() {
    assert_eq!(judge(&good()), [""; 0]);
}

#[test]
fn an_answer_that_was_on_its_way_is_no_violation() {
    let mut history = good();
    // Asked before the next leader was heard of, received after.
    leads(&mut history, 0, 7, 505);
    leads(&mut history, 1, 8, 500);
    assert_eq!(judge(&history), [""; 0]);
}

#[test]
fn a_leader_that_goes_on_after_its_successor_is_caught() {
    // A deadline counted from the reply, or a stored bool.
    let mut history = good();
    leads(&mut history, 1, 6, 420);
    caught(&history, "two led at once");
}

#[test]
fn a_long_wait_does_not_hide_a_second_leader() {
    let mut history = good();
    leads(&mut history, 1, 8, 500);
    history.answers.last_mut().unwrap().sent = at(0);
    leads(&mut history, 0, 7, 520);
    caught(&history, "two led at once");
}

#[test]
fn an_epoch_that_falls_is_caught() {
    // An epoch kept in the key that expires, or compared as text.
    let mut history = good();
    leads(&mut history, 2, 3, 900);
    caught(&history, "an epoch fell");
}

#[test]
fn an_epoch_issued_twice_is_caught() {
    let mut history = good();
    leads(&mut history, 2, 7, 900);
    caught(&history, "issued twice");
    // A new start of the same node is another holder.
    let mut history = good();
    leads(&mut history, 0, 7, 900);
    history.answers.last_mut().unwrap().boot = "a later boot".into();
    caught(&history, "issued twice");
}

#[test]
fn a_leader_without_a_token_is_caught() {
    let mut history = good();
    history.answers[0].token = None;
    caught(&history, "without a token");
}

#[test]
fn a_node_that_forgets_an_epoch_is_caught() {
    let mut history = good();
    leads(&mut history, 0, 7, 500);
    let last = history.answers.last_mut().unwrap();
    (last.is_leader, last.token, last.term) = (false, None, Some(6));
    caught(&history, "has seen fell");
}

#[test]
fn a_write_under_an_old_epoch_is_caught() {
    let mut history = good();
    // Nobody wrote under 7 yet; that it was granted is known from an answer.
    writes(&mut history, Some((6, 1)), (6, 2), 500);
    caught(&history, "a write of an older epoch");
}

#[test]
fn a_write_that_becomes_another_epochs_is_caught() {
    let mut history = good();
    writes(&mut history, Some((6, 1)), (7, 1), 500);
    history.writes.last_mut().unwrap().token = 6;
    caught(&history, "a write under 6 became");
}

#[test]
fn a_lost_update_is_caught() {
    let mut history = good();
    writes(&mut history, Some((5, 2)), (7, 1), 500);
    caught(&history, "(6, 1) is lost");
    // Where the store does not claim to keep it, that is no violation.
    history.losses.push(at(450));
    assert_eq!(judge(&history), [""; 0]);
    // Another loss, later, excuses nothing.
    history.losses[0] = at(900);
    caught(&history, "(6, 1) is lost");
}

#[test]
fn an_acknowledged_write_that_nobody_reads_is_caught() {
    let mut history = good();
    reads(&mut history, (5, 2), "5.2", 500);
    caught(&history, "was acknowledged");
    history.losses.push(at(450));
    assert_eq!(judge(&history), [""; 0]);
}

#[test]
fn a_write_applied_twice_is_caught() {
    let mut history = good();
    reads(&mut history, (6, 2), "6.1", 500);
    caught(&history, "was applied as");
    let mut history = good();
    writes(&mut history, Some((5, 2)), (6, 1), 340);
    caught(&history, "two writes acknowledged as");
}

#[test]
fn a_revision_with_two_values_is_caught() {
    let mut history = good();
    reads(&mut history, (6, 1), "another", 500);
    caught(&history, "is both");
}
