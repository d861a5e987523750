//! The verdict over everything that was seen. Pure, and tested by planted lies.

use std::collections::BTreeMap;

use serde::Serialize;

use super::log::{Record, What};
use super::worker::Event;
use crate::lease::Revision;

/// What must be zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Acknowledged writes whose value a later one does not build on.
    pub lost: u64,
    /// Values that were stored twice.
    pub doubled: u64,
    /// Values that were left out.
    pub skipped: u64,
    /// Answers "I lead" computed after a newer leader's.
    pub two_led: u64,
    /// Grants with an epoch not above the one before.
    pub epochs_fell: u64,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        *self == Self::default()
    }
}

/// Judges the records.
pub(super) fn judge(records: &[Record]) -> Verdict {
    let mut verdict = Verdict::default();
    judge_counter(records, &mut verdict);
    judge_leaders(records, &mut verdict);
    verdict
}

/// Each revision holds one value, and each value is the one before plus one: along
/// all revisions that a worker wrote, or found when it took over. (A write that was
/// applied just before its worker was killed is known only by what was found.)
fn judge_counter(records: &[Record], verdict: &mut Verdict) {
    let mut values: BTreeMap<Revision, u64> = BTreeMap::new();
    for record in records {
        let (revision, value) = match &record.what {
            What::Worker(Event::Wrote { value, revision }) => (*revision, *value),
            What::Worker(Event::Resumed {
                value,
                revision: Some(revision),
                ..
            }) => (*revision, *value),
            What::Worker(Event::Found {
                value,
                revision: Some(revision),
            }) => (*revision, *value),
            _ => continue,
        };
        let before = values.insert(revision, value);
        verdict.lost += u64::from(before.is_some_and(|before| before != value));
    }
    for (before, after) in values.values().zip(values.values().skip(1)) {
        if after == before {
            verdict.doubled += 1;
        } else if after < before {
            verdict.lost += before - after;
        } else {
            verdict.skipped += after - before - 1;
        }
    }
    judge_what_is_found(records, verdict);
}

/// Whoever takes over must find the newest acknowledged value, or a newer one. Whoever looks
/// again need not lead any more, and others write meanwhile: its own must be there.
fn judge_what_is_found(records: &[Record], verdict: &mut Verdict) {
    let mut newest = 0;
    let mut own: BTreeMap<usize, u64> = BTreeMap::new();
    for record in records {
        let own = own.entry(record.node).or_default();
        match &record.what {
            What::Worker(Event::Wrote { value, .. }) => {
                newest = newest.max(*value);
                *own = *value;
            }
            What::Worker(Event::Resumed { value, .. }) => {
                verdict.lost += newest.saturating_sub(*value);
            }
            What::Worker(Event::Found { value, .. }) => {
                verdict.lost += own.saturating_sub(*value);
            }
            _ => {}
        }
    }
}

fn judge_leaders(records: &[Record], verdict: &mut Verdict) {
    let mut claims: Vec<(&str, u64, usize)> = records
        .iter()
        .filter_map(|record| match &record.what {
            What::Status(status) if status.is_leader => {
                Some((status.time.as_str(), status.fence_token?, record.node))
            }
            _ => None,
        })
        .collect();
    // By the machine's wall clock, to the millisecond, as the nodes computed them.
    claims.sort_unstable();
    let mut newest: Option<(&str, u64, usize)> = None;
    for claim in claims {
        match newest {
            Some((_, epoch, node)) if claim.1 == epoch && claim.2 != node => {
                verdict.epochs_fell += 1;
            }
            Some((time, epoch, _)) if claim.1 < epoch && claim.0 > time => verdict.two_led += 1,
            Some((_, epoch, _)) if claim.1 < epoch => {}
            _ => newest = Some(claim),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lab::log::Status;
    use crate::time::Moment;

    fn record(node: usize, what: What) -> Record {
        let at = Moment::default();
        Record { at, node, what }
    }

    fn wrote(revision: &str, value: u64) -> Record {
        let revision = revision.parse().unwrap();
        record(0, What::Worker(Event::Wrote { value, revision }))
    }

    fn leads(node: usize, epoch: u64, time: &str) -> Record {
        record(
            node,
            What::Status(Status {
                is_leader: true,
                fence_token: Some(epoch),
                revision: 1,
                time: time.to_owned(),
            }),
        )
    }

    #[test]
    fn an_honest_history_holds() {
        let found = Event::Resumed {
            epoch: 7,
            value: 3,
            revision: "5.3".parse().ok(),
        };
        let looked = Event::Found {
            value: 5,
            revision: "7.2".parse().ok(),
        };
        let stale = Event::Found {
            value: 6,
            revision: "7.3".parse().ok(),
        };
        let history = [
            leads(0, 5, "01"),
            wrote("5.1", 1),
            wrote("5.2", 2),
            // 5.3 was applied, its worker killed before it could say so.
            leads(1, 7, "02"),
            record(1, What::Worker(found)),
            wrote("7.1", 4),
            // Its answer was lost, and the worker looked.
            record(1, What::Worker(Event::Unknown { epoch: 7, value: 5 })),
            record(1, What::Worker(looked)),
            wrote("7.3", 6),
            // A stale leader looks while others write.
            wrote("9.1", 7),
            record(2, What::Worker(stale)),
        ];
        assert!(judge(&history).holds(), "{:?}", judge(&history));
    }

    #[test]
    fn each_lie_is_caught() {
        let doubled = judge(&[wrote("5.1", 1), wrote("7.1", 1)]);
        assert_eq!(doubled.doubled, 1);
        let skipped = judge(&[wrote("5.1", 1), wrote("5.2", 3)]);
        assert_eq!(skipped.skipped, 1);
        let back = judge(&[wrote("5.1", 4), wrote("7.1", 3)]);
        assert_eq!(back.lost, 1);
        let found = Event::Resumed {
            epoch: 7,
            value: 0,
            revision: None,
        };
        let forgotten = judge(&[wrote("5.1", 1), record(1, What::Worker(found))]);
        assert_eq!(forgotten.lost, 1);
        let found = Event::Found {
            value: 0,
            revision: None,
        };
        let forgotten = judge(&[wrote("5.1", 1), record(0, What::Worker(found))]);
        assert_eq!(forgotten.lost, 1);
        let two = judge(&[leads(0, 5, "01"), leads(1, 7, "02"), leads(0, 5, "03")]);
        assert_eq!(two.two_led, 1);
        let same = judge(&[leads(0, 5, "01"), leads(1, 5, "02")]);
        assert_eq!(same.epochs_fell, 1);
    }
}
