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
        let mut troubles = Vec::new();
        let mut newest: Option<Self> = None;
        let asked = nodes
            .into_iter()
            .map(|node| async move { ask(access, &node).await });
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(told) if told.sound && told.chart.number >= oldest => return Ok(told.chart),
                Ok(told) => {
                    let newer = |newest: &Self| newest.number < told.chart.number;
                    if newest.as_ref().is_none_or(newer) {
                        newest = Some(told.chart);
                    }
                }
                Err(error) => troubles.push(error),
            }
        }
        newest
            .filter(|chart| chart.number >= oldest)
            .ok_or_else(|| nobody(access, &troubles))
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
