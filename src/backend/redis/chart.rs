//! Draws the map of a cluster's slots, asking one node after the other.

use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, Value};

use super::access::Access;
use super::server::Expected;
use super::slots::SlotMap;
use super::trouble;
use crate::lease::StoreError;
use crate::wire::Endpoint;

/// Between two looks, however many ask for one.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many nodes are asked at once: one that hangs is not waited for.
const AT_ONCE: usize = 3;

/// The slots as a node told them.
#[derive(Clone, Debug, Default)]
pub(super) struct Chart {
    pub slots: SlotMap,
    /// The number of the cluster's configuration, which only rises: a node that was
    /// cut off tells an older one.
    number: u64,
}

/// What is known of the slots.
#[derive(Clone, Debug)]
pub(super) enum Charted {
    /// Nothing yet.
    Looking,
    /// Who has which.
    Known(Chart),
    /// Nobody could tell.
    Failed(StoreError),
}

/// What a node tells of its cluster.
struct Told {
    chart: Chart,
    /// It finds the cluster whole.
    sound: bool,
}

impl Chart {
    /// Asks the nodes that are known, then those of the address, some at once, until
    /// one finds the cluster whole and is not behind. Where none does, the newest answer counts: a
    /// part of the slots may be served all the same.
    ///
    /// # Errors
    /// Where none answers; what each of them said is told.
    pub(super) async fn draw(access: &Access, known: Option<&Self>) -> Result<Self, StoreError> {
        let mut nodes = known.map_or_else(Vec::new, |chart| chart.slots.masters());
        for node in access.target.servers() {
            if !nodes.contains(node) {
                nodes.push(node.clone());
            }
        }
        let oldest = known.map_or(0, |chart| chart.number);
        let (mut troubles, mut told) = (Vec::new(), Vec::new());
        let asked = nodes.into_iter().map(|node| async move {
            let answer = ask(access, &node).await;
            (node, answer)
        });
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Ok(Told { chart, sound: true }) if chart.number >= oldest => return Ok(chart),
                Ok(answer) => told.push((node, answer)),
                Err(error) => troubles.push(error),
            }
        }
        Self::of_the_rest(known, told).ok_or_else(|| nobody(access, &troubles))
    }

    /// What to go by where no answer is both sound and up to date: the newest that is not
    /// behind. Else one that is sound, where none of the masters that are known answers at
    /// all: then another cluster is at the address, which began anew and counts from 1.
    fn of_the_rest(known: Option<&Self>, told: Vec<(Endpoint, Told)>) -> Option<Self> {
        let oldest = known.map_or(0, |chart| chart.number);
        let masters = known.map_or_else(Vec::new, |chart| chart.slots.masters());
        let begun_anew = told.iter().all(|(node, _)| !masters.contains(node));
        let fits = |told: &Told| told.chart.number >= oldest || (begun_anew && told.sound);
        let fitting = told.into_iter().filter(|(_, told)| fits(told));
        let newest = fitting.max_by_key(|(_, told)| told.chart.number);
        newest.map(|(_, told)| told.chart)
    }
}

async fn ask(access: &Access, node: &Endpoint) -> Result<Told, StoreError> {
    let ignore = |_: PushInfo| Ok::<(), ()>(());
    let loaded = access.credentials.newest();
    let opened = access.open(node, Expected::AnyNode, &loaded, ignore);
    let opened = opened.await?;
    let mut connection = opened.connection;
    let slots = cluster(access, node, &mut connection, "SLOTS").await?;
    let info = cluster(access, node, &mut connection, "INFO").await?;
    let info: String = redis::from_redis_value(info).unwrap_or_default();
    let fact = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let number = fact("cluster_current_epoch").and_then(|text| text.trim().parse().ok());
    let slots = SlotMap::read(&slots, node).ok_or_else(|| {
        let name = access.name_of(node, Expected::AnyNode);
        StoreError::Misconfigured(format!(
            "{name} answers CLUSTER SLOTS with what is no list of slots"
        ))
    })?;
    Ok(Told {
        chart: Chart {
            slots,
            number: number.unwrap_or(0),
        },
        sound: fact("cluster_state").is_some_and(|state| state.trim() == "ok"),
    })
}

async fn cluster(
    access: &Access,
    node: &Endpoint,
    connection: &mut MultiplexedConnection,
    what: &str,
) -> Result<Value, StoreError> {
    let mut question = redis::cmd("CLUSTER");
    question.arg(what);
    let answer = connection.send_packed_command(&question).await;
    answer.and_then(Value::extract_error).map_err(|error| {
        let name = access.name_of(node, Expected::AnyNode);
        match trouble::judge(&error, &name).error {
            // Nothing was asked that changes anything.
            StoreError::Indeterminate(why) => StoreError::Unavailable(why),
            other => other,
        }
    })
}

fn nobody(access: &Access, troubles: &[StoreError]) -> StoreError {
    let told: Vec<String> = troubles.iter().map(ToString::to_string).collect();
    let what = format!(
        "no node of {} tells who has which slots: {}",
        access.name,
        told.join("; ")
    );
    // One that can be reached and is wrong outweighs others that are away.
    let wrong = |error: &&StoreError| !matches!(error, StoreError::Unavailable(_));
    match troubles.iter().find(wrong) {
        Some(StoreError::Rejected(_)) => StoreError::Rejected(what),
        Some(_) => StoreError::Misconfigured(what),
        None => StoreError::Unavailable(what),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chart(number: u64, master: &str) -> Chart {
        let mut slots = SlotMap::default();
        slots.moved(7, Endpoint::parse(master, 1).unwrap());
        Chart { slots, number }
    }

    fn told(node: &str, number: u64, sound: bool) -> (Endpoint, Told) {
        let chart = chart(number, node);
        (Endpoint::parse(node, 1).unwrap(), Told { chart, sound })
    }

    #[test]
    fn a_cluster_that_is_behind_is_followed_only_where_it_began_anew() {
        let known = chart(9, "old:1");
        let chosen = |told| Chart::of_the_rest(Some(&known), told).map(|chart| chart.number);
        assert_eq!(chosen(vec![told("new:1", 3, true)]), Some(3));
        assert_eq!(chosen(vec![told("new:1", 3, false)]), None);
        let cut_off = vec![told("old:1", 8, true), told("new:1", 3, true)];
        assert_eq!(chosen(cut_off), None, "a known master answers");
        let broken = vec![told("old:1", 9, false), told("new:1", 3, true)];
        assert_eq!(chosen(broken), Some(9), "some of the slots may be served");
    }
}
