//! Judges a history: epochs, exclusion, fencing. Liveness is judged where a fault
//! ends, by waiting with a bound.

use std::collections::BTreeMap;

use super::history::{At, Fate, History, Revision, Write};

/// Every violation, in words; none for a good history.
pub fn judge(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    epochs(history, &mut found);
    exclusion(history, &mut found);
    fencing(history, &mut found);
    checkpoint(history, &mut found);
    found
}

/// No epoch belongs to two starts of nodes, and what one start has seen never falls.
fn epochs(history: &History, found: &mut Vec<String>) {
    let mut owners: BTreeMap<u64, &str> = BTreeMap::new();
    for answer in history.answers.iter().filter(|answer| answer.is_leader) {
        let Some(token) = answer.token else {
            found.push(format!("a leader without a token: {answer:?}"));
            continue;
        };
        let owner = owners.entry(token).or_insert(&answer.boot);
        if *owner != answer.boot {
            let boot = &answer.boot;
            found.push(format!("epoch {token} issued twice: to {owner} and {boot}"));
        }
    }
    let mut seen: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for answer in &history.answers {
        seen.entry(&answer.boot).or_default().push(answer);
    }
    for answers in seen.values() {
        backwards(
            answers.iter().map(|a| (a.received, a.term)).collect(),
            answers.iter().map(|a| (a.sent, a.term)).collect(),
            &format!("the term that node {} has seen fell", answers[0].node),
            found,
        );
    }
}

/// Whoever says that it leads, when asked after a newer leader was heard, is wrong.
fn exclusion(history: &History, found: &mut Vec<String>) {
    let leaders = || history.answers.iter().filter(|answer| answer.is_leader);
    backwards(
        leaders().map(|a| (a.received, a.token)).collect(),
        leaders().map(|a| (a.sent, a.token)).collect(),
        "two led at once, or an epoch fell",
        found,
    );
}

/// Values that must not fall: one that was asked for after a greater one was told.
fn backwards<T: Ord + Copy + std::fmt::Debug>(
    mut told: Vec<(At, T)>,
    mut asked: Vec<(At, T)>,
    what: &str,
    found: &mut Vec<String>,
) {
    told.sort_unstable();
    asked.sort_unstable();
    let mut told = told.into_iter().peekable();
    let mut greatest: Option<(T, At)> = None;
    for (sent, value) in asked {
        while let Some((at, told)) = told.next_if(|(received, _)| *received < sent) {
            if greatest.is_none_or(|(before, _)| told > before) {
                greatest = Some((told, at));
            }
        }
        if let Some((before, at)) = greatest
            && value < before
        {
            found.push(format!(
                "{what}: {before:?} at {at:?}, {value:?} asked at {sent:?}"
            ));
            return;
        }
    }
}

fn accepted(history: &History) -> Vec<(Revision, &Write)> {
    let mut writes: Vec<_> = history
        .writes
        .iter()
        .filter_map(|write| match write.fate {
            Fate::Accepted(revision) => Some((revision, write)),
            _ => None,
        })
        .collect();
    writes.sort_by_key(|(revision, _)| *revision);
    writes
}

/// No write is accepted under an older epoch than one already heard of.
fn fencing(history: &History, found: &mut Vec<String>) {
    let writes = accepted(history);
    for (revision, write) in &writes {
        if revision.0 != write.token {
            found.push(format!("a write under {} became {revision:?}", write.token));
        }
    }
    let leaders = history.answers.iter().filter(|answer| answer.is_leader);
    let heard = leaders.filter_map(|a| Some((a.received, a.token?)));
    let written = writes.iter().map(|(_, w)| (w.received, w.token));
    backwards(
        heard.chain(written).collect(),
        writes.iter().map(|(_, w)| (w.sent, w.token)).collect(),
        "a write of an older epoch was accepted",
        found,
    );
}

/// No acknowledged write is lost, overwritten unseen, or applied twice.
fn checkpoint(history: &History, found: &mut Vec<String>) {
    let writes = accepted(history);
    for pair in writes.windows(2) {
        let ((before, _), (after, write)) = (&pair[0], &pair[1]);
        if before == after {
            found.push(format!("two writes acknowledged as {before:?}"));
        }
        let lost = |at: &At| *at <= write.received;
        if write.over < Some(*before) && !history.losses.iter().any(lost) {
            let over = write.over;
            found.push(format!(
                "write {after:?} replaced {over:?}: {before:?} is lost"
            ));
        }
    }
    let mut values: BTreeMap<&str, Revision> = BTreeMap::new();
    let mut revisions: BTreeMap<Revision, &str> = BTreeMap::new();
    let written = writes.iter().map(|(revision, w)| (*revision, &w.value));
    let read = history
        .reads
        .iter()
        .map(|read| (read.revision, &read.value));
    for (revision, value) in written.chain(read) {
        let first = *values.entry(value).or_insert(revision);
        if first != revision {
            found.push(format!("{value} was applied as {first:?} and {revision:?}"));
        }
        let first = *revisions.entry(revision).or_insert(value);
        if first != value {
            found.push(format!("revision {revision:?} is both {first} and {value}"));
        }
    }
    unread(history, &writes, found);
}

/// A read finds at least what was acknowledged before it was asked.
fn unread(history: &History, writes: &[(Revision, &Write)], found: &mut Vec<String>) {
    for read in &history.reads {
        let forgotten = writes.iter().rev().find(|(revision, write)| {
            let lost = |at: &At| write.sent <= *at && *at <= read.received;
            write.received < read.sent
                && *revision > read.revision
                && !history.losses.iter().any(lost)
        });
        if let Some((revision, _)) = forgotten {
            let stored = read.revision;
            found.push(format!(
                "{revision:?} was acknowledged, then {stored:?} read"
            ));
            return;
        }
    }
}
