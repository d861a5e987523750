//! Everything the lab saw, in the order it saw it, by one clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;

use super::worker::Event;
use crate::time::{BootClock, Clock as _, Moment, within};

/// One answer of `/status`, as far as the lab reads it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Status {
    pub is_leader: bool,
    pub fence_token: Option<u64>,
    pub revision: u64,
    /// When the node computed it, by the machine's wall clock.
    pub time: String,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A worker's report.
    Worker(Event),
    /// A sidecar's answer.
    Status(Status),
}

/// One sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub at: Moment,
    /// Which node, counted from 0.
    pub node: usize,
    pub what: What,
}

/// The records, shared by all that observe.
#[derive(Clone, Debug)]
pub(super) struct Log {
    records: Arc<Mutex<Vec<Record>>>,
    grown: Arc<watch::Sender<usize>>,
}

impl Log {
    pub fn new() -> Self {
        Self {
            records: Arc::default(),
            grown: Arc::new(watch::Sender::new(0)),
        }
    }

    pub fn add(&self, node: usize, what: What) {
        let at = BootClock.now();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.push(Record { at, node, what });
        self.grown.send_replace(records.len());
    }

    pub fn records(&self) -> Vec<Record> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until `find` finds what it looks for.
    pub async fn until<T>(
        &self,
        what: &str,
        bound: Duration,
        find: impl Fn(&[Record]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut grown = self.grown.subscribe();
        let wait = async {
            loop {
                grown.mark_unchanged();
                let found = {
                    let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
                    find(&records)
                };
                match found {
                    Some(found) => return Some(found),
                    None => grown.changed().await.ok()?,
                }
            }
        };
        let bounded = within(bound, wait).await.flatten();
        bounded.ok_or_else(|| {
            let bound = humantime::format_duration(Duration::from_secs(bound.as_secs()));
            anyhow::anyhow!("waited {bound} in vain for {what}")
        })
    }
}

/// The counter's newest acknowledged value.
pub(super) fn counter(records: &[Record]) -> u64 {
    let value = |record: &Record| match &record.what {
        What::Worker(Event::Wrote { value, .. }) => Some(*value),
        _ => None,
    };
    records.iter().filter_map(value).max().unwrap_or(0)
}

/// Who leads, since when, under which epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leading {
    pub at: Moment,
    pub node: usize,
    pub epoch: u64,
}

/// What a record says of a leader, if anything.
pub(super) fn claim(record: &Record) -> Option<Leading> {
    match &record.what {
        What::Status(status) if status.is_leader => Some(Leading {
            at: record.at,
            node: record.node,
            epoch: status.fence_token?,
        }),
        _ => None,
    }
}

/// Writes of an old leader that bounced.
pub(super) fn refused(records: &[Record], since: Moment, old: Leading) -> u64 {
    let bounced = |record: &&Record| match &record.what {
        What::Worker(Event::Refused { epoch, .. }) => {
            record.at >= since && record.node == old.node && *epoch == old.epoch
        }
        _ => false,
    };
    records.iter().filter(bounced).count() as u64
}

/// Whether a write was sent and acknowledged after that moment: of two, the second waited
/// for the first.
pub(super) fn writes(records: &[Record], since: Moment) -> bool {
    let acknowledged = |record: &&Record| {
        record.at > since && matches!(record.what, What::Worker(Event::Wrote { .. }))
    };
    records.iter().filter(acknowledged).count() > 1
}

/// Who leads and who follows, for the moving line.
pub(super) fn overview(records: &[Record], nodes: usize) -> String {
    let newest = records.iter().filter_map(claim).max_by_key(|it| it.epoch);
    let leads = |node: usize| {
        let last = records.iter().rev().find_map(|record| match &record.what {
            What::Status(status) if record.node == node => Some(status.is_leader),
            _ => None,
        });
        last == Some(true) && newest.is_some_and(|newest| newest.node == node)
    };
    let mut line = "          ".to_owned();
    for node in 0..nodes {
        let sign = if leads(node) {
            "\u{1f451}"
        } else {
            "\u{1f465}"
        };
        line += &format!("{sign} node-{}  ", node + 1);
    }
    line + &format!("counter {}", counter(records))
}
