//! Who led when, what the counter stood at, and what was done to whom: the records of
//! a lab, made ready to be drawn. Pure.

use std::time::Duration;

use crate::lab::log::{Record, What};
use crate::lab::options::Fault;
use crate::lab::worker::Event;
use crate::time::Moment;

/// What the lab did to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lab) struct Disturbance {
    pub fault: Fault,
    /// The leader, counted from 0.
    pub node: usize,
    /// Whom it took away: the leader as a rule, or the fewer of parted members.
    pub hit: Vec<usize>,
    pub from: Moment,
    /// When the node was started anew, woken or connected again.
    pub until: Moment,
    /// When its process was seen to have ended, where it did.
    pub ended: Option<Moment>,
}

/// A node that was seen to lead, under one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) struct Tenure {
    pub node: usize,
    pub epoch: u64,
    pub from: Duration,
    pub until: Duration,
}

/// A fault, on the time of the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lab) struct Mark {
    pub fault: Fault,
    pub node: usize,
    /// On whose lanes it is drawn.
    pub hit: Vec<usize>,
    pub from: Duration,
    pub until: Duration,
}

/// All that the chart shows; times count from the first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::lab) struct History {
    pub nodes: usize,
    pub length: Duration,
    /// In the order of their begin.
    pub tenures: Vec<Tenure>,
    /// Each acknowledged write, in the order in which it was reported.
    pub counts: Vec<(Duration, u64)>,
    /// Writes that were refused as stale, by node.
    pub refusals: Vec<(usize, Duration)>,
    pub marks: Vec<Mark>,
}

impl History {
    /// Reads a history out of what was seen and what was done.
    pub fn new(nodes: usize, records: &[Record], done: &[Disturbance]) -> Self {
        let Some(began) = records.iter().map(|record| record.at).min() else {
            return Self {
                nodes,
                ..Self::default()
            };
        };
        let ends = records.iter().map(|record| record.at);
        let ended = ends.chain(done.iter().map(|it| it.until)).max();
        let length = ended.unwrap_or(began).since(began);
        let mut history = Self {
            nodes,
            length,
            ..Self::default()
        };
        for node in 0..nodes {
            history.add_tenures(node, records, done, began);
        }
        history.tenures.sort_by_key(|it| (it.from, it.epoch));
        for record in records {
            let at = record.at.since(began);
            match &record.what {
                What::Worker(Event::Wrote { value, .. }) => history.counts.push((at, *value)),
                What::Worker(Event::Refused { .. }) => history.refusals.push((record.node, at)),
                _ => {}
            }
        }
        let marks = done.iter().map(|it| Mark {
            fault: it.fault,
            node: it.node,
            hit: it.hit.clone(),
            from: it.from.since(began),
            until: it.until.since(began),
        });
        history.marks = marks.collect();
        history
    }

    /// From the first answer "I lead" to the first other one. A process that is killed
    /// or paused answers nothing: it is drawn to lead until that moment, no longer.
    /// Overlaps are not mended: where two nodes claimed to lead, the chart shows it.
    fn add_tenures(
        &mut self,
        node: usize,
        records: &[Record],
        done: &[Disturbance],
        began: Moment,
    ) {
        let mut open: Option<(u64, Moment)> = None;
        let close = |(epoch, from): (u64, Moment), answered: Option<Moment>| {
            let silent = done.iter().filter(|it| it.node == node);
            let silent = silent.filter_map(silence).filter(|at| *at >= from);
            let until = silent.chain(answered).min();
            Tenure {
                node,
                epoch,
                from: from.since(began),
                until: until.map_or(self.length, |until| until.since(began)),
            }
        };
        let mut found = Vec::new();
        for record in records.iter().filter(|record| record.node == node) {
            let What::Status(status) = &record.what else {
                continue;
            };
            let now = status.fence_token.filter(|_| status.is_leader);
            if let Some(before) = open
                && now != Some(before.0)
            {
                found.push(close(before, Some(record.at)));
                open = None;
            }
            if let (Some(epoch), None) = (now, open) {
                open = Some((epoch, record.at));
            }
        }
        found.extend(open.map(|open| close(open, None)));
        self.tenures.extend(found);
    }
}

/// From when on a disturbed node says nothing.
fn silence(it: &Disturbance) -> Option<Moment> {
    match it.fault {
        Fault::Kill | Fault::Pause => Some(it.from),
        Fault::Stop => it.ended,
        Fault::Cut | Fault::Partition => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lab::log::Status;

    fn status(at: u64, node: usize, token: Option<u64>) -> Record {
        Record {
            at: Moment::from_millis(at),
            node,
            what: What::Status(Status {
                is_leader: token.is_some(),
                fence_token: token,
                revision: at,
                time: String::new(),
            }),
        }
    }

    fn disturbance(fault: Fault, node: usize, from: u64, until: u64) -> Disturbance {
        Disturbance {
            fault,
            node,
            hit: vec![node],
            from: Moment::from_millis(from),
            until: Moment::from_millis(until),
            ended: None,
        }
    }

    fn tenure(node: usize, epoch: u64, from: u64, until: u64) -> Tenure {
        Tenure {
            node,
            epoch,
            from: Duration::from_millis(from),
            until: Duration::from_millis(until),
        }
    }

    #[test]
    fn a_killed_leader_leads_no_longer_than_it_lives() {
        let records = [
            status(100, 0, None),
            status(200, 0, Some(5)),
            status(1300, 1, Some(6)),
            // The first node, started anew, long afterwards.
            status(2100, 0, None),
        ];
        let done = [disturbance(Fault::Kill, 0, 600, 2000)];
        let history = History::new(2, &records, &done);
        assert_eq!(
            history.tenures,
            [tenure(0, 5, 100, 500), tenure(1, 6, 1200, 2000)]
        );
        assert_eq!(history.length, Duration::from_secs(2));
        assert_eq!(history.marks[0].until, Duration::from_millis(1900));
    }

    #[test]
    fn a_stopped_leader_leads_until_it_says_otherwise_or_ends() {
        let mut stop = disturbance(Fault::Stop, 0, 600, 900);
        stop.ended = Some(Moment::from_millis(700));
        let leads = [status(100, 0, Some(5))];
        let done = [stop];
        let history = History::new(1, &leads, &done);
        assert_eq!(history.tenures, [tenure(0, 5, 0, 600)]);
        let told = [status(100, 0, Some(5)), status(620, 0, None)];
        let history = History::new(1, &told, &done);
        assert_eq!(history.tenures, [tenure(0, 5, 0, 520)]);
    }

    #[test]
    fn two_that_claim_to_lead_overlap_in_the_chart() {
        let records = [
            status(0, 0, Some(5)),
            status(500, 1, Some(6)),
            status(900, 0, None),
        ];
        let done = [disturbance(Fault::Cut, 0, 100, 900)];
        let history = History::new(2, &records, &done);
        assert_eq!(
            history.tenures,
            [tenure(0, 5, 0, 900), tenure(1, 6, 500, 900)]
        );
    }

    #[test]
    fn nothing_seen_is_nothing_drawn() {
        let history = History::new(3, &[], &[]);
        assert_eq!((history.nodes, history.length), (3, Duration::ZERO));
    }
}
