//! Who answers on a connection, and whether leases can rest on it.

use redis::RedisError;
use redis::aio::MultiplexedConnection;

use super::connection::{Address, refused};
use super::replication::Replication;
use crate::lease::StoreError;

/// The first version with `SET … NX PXAT`.
const OLDEST: (u32, u32) = (6, 2);
/// The first version with channels that belong to a slot.
const SHARDED: (u32, u32) = (7, 0);

/// What must answer at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The one writable server.
    Alone,
    /// The writable server that Sentinels named.
    Master,
    /// A Sentinel.
    Sentinel,
    /// A writable node of a Cluster.
    Node,
    /// Any node of a Cluster.
    AnyNode,
}

impl Expected {
    /// Whether it is one of several servers, of which another may be promoted.
    pub(super) fn is_replicated(self) -> bool {
        matches!(self, Self::Master | Self::Node)
    }
}

/// A server that has passed every check.
pub(super) struct Server {
    /// Which start of which server this is.
    pub run_id: String,
    pub version: String,
    /// Knows SPUBLISH and SSUBSCRIBE.
    pub sharded: bool,
    pub replication: Replication,
}

/// Asks who the server is. One request with three answers: `INFO` takes several
/// sections at once only from version 7.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    target: &Address<'_>,
) -> Result<Server, StoreError> {
    let facts = facts(connection, &["server", "replication", "memory"])
        .await
        .map_err(|error| refused(&error, target))?;
    let version = facts.of("redis_version").unwrap_or("unknown").to_owned();
    let number = number_of(&version);
    if number < OLDEST {
        return Err(too_old(target, &version));
    }
    judge_kind(&facts, target)?;
    warn_of_eviction(&facts, target);
    let run_id = facts.of("run_id").filter(|id| !id.is_empty());
    let run_id = run_id.ok_or_else(|| {
        StoreError::Misconfigured(format!(
            "{target} does not tell its run_id (INFO server): Tenure cannot notice that another \
             server answers, so use a Redis that does"
        ))
    })?;
    let replication = Replication::of(connection, &facts, target.expected, number).await;
    Ok(Server {
        run_id: run_id.to_owned(),
        sharded: number >= SHARDED,
        replication,
        version,
    })
}

/// Some sections of INFO.
pub(super) async fn facts(
    connection: &mut MultiplexedConnection,
    sections: &[&str],
) -> Result<Facts, RedisError> {
    let mut questions = redis::pipe();
    for section in sections {
        questions.cmd("INFO").arg(section);
    }
    let answers: Vec<String> = questions.query_async(connection).await.map_err(first_of)?;
    Ok(Facts(answers.concat()))
}

/// Whether the server takes writes; `None` where it does not say.
pub(super) async fn is_master(connection: &mut MultiplexedConnection) -> Option<bool> {
    let facts = facts(connection, &["replication"]).await.ok()?;
    facts.of("role").map(|role| role == "master")
}

/// A pipeline's failure wraps those of its commands.
fn first_of(error: RedisError) -> RedisError {
    let errors = error.clone().into_server_errors();
    match errors.as_deref() {
        Some([(_, first), ..]) => first.clone().into(),
        _ => error,
    }
}

fn number_of(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

pub(super) fn too_old(target: &Address<'_>, version: &str) -> StoreError {
    StoreError::Misconfigured(format!(
        "{target} runs a Redis that is {version}: Tenure needs {}.{} or newer",
        OLDEST.0, OLDEST.1
    ))
}

fn judge_kind(facts: &Facts, target: &Address<'_>) -> Result<(), StoreError> {
    let wrong = |what: String| Err(StoreError::Misconfigured(format!("{target} {what}")));
    let place = target.endpoint;
    let mode = facts.of("redis_mode");
    match (target.expected, mode) {
        (Expected::Alone, Some("sentinel")) => {
            return wrong(format!(
                "is a Redis Sentinel: write redis+sentinel://{place}/NAME, with the name of the \
                 master that it watches"
            ));
        }
        (Expected::Alone, Some("cluster")) => {
            return wrong(format!(
                "is part of a Redis Cluster: write redis+cluster://{place}"
            ));
        }
        (Expected::Node | Expected::AnyNode, Some("cluster")) => {}
        (Expected::Node | Expected::AnyNode, Some("sentinel")) => {
            return wrong(format!(
                "is a Redis Sentinel and no node of a Cluster: write redis+sentinel://{place}/NAME"
            ));
        }
        (Expected::Node | Expected::AnyNode, _) => {
            return wrong(format!(
                "is no node of a Redis Cluster: write redis://{place}, or start it with \
                 cluster-enabled yes"
            ));
        }
        (Expected::Master, Some("cluster" | "sentinel")) => {
            return wrong(format!(
                "is named as the master by the Sentinels, and is in {} mode: they watch the wrong \
                 address",
                mode.unwrap_or_default()
            ));
        }
        _ => {}
    }
    judge_role(facts, target)
}

fn judge_role(facts: &Facts, target: &Address<'_>) -> Result<(), StoreError> {
    if facts.of("role") != Some("slave") {
        return Ok(());
    }
    let passes = |what: &str| Err(StoreError::Unavailable(format!("{target} {what}")));
    match target.expected {
        Expected::AnyNode | Expected::Sentinel => Ok(()),
        // These pass by themselves: whoever named it learns better.
        Expected::Master => passes(
            "is named as the master by a Sentinel and is a replica: a failover is under way, or \
             its Sentinels disagree (SENTINEL CKQUORUM)",
        ),
        Expected::Node => passes("is a replica now: the master of its slots has moved"),
        Expected::Alone => {
            let master = facts.of("master_host").unwrap_or("unknown");
            let port = facts.of("master_port").unwrap_or("unknown");
            Err(StoreError::Misconfigured(format!(
                "{target} is a read-only replica: give the address of its master, {master} port \
                 {port}"
            )))
        }
    }
}

/// No refusal: the other data may be worth it to whoever set it so. What is evicted
/// is noticed as data loss.
fn warn_of_eviction(facts: &Facts, target: &Address<'_>) {
    let limited = facts.of("maxmemory").is_some_and(|limit| limit != "0");
    let policy = facts.of("maxmemory_policy").unwrap_or("noeviction");
    // The volatile policies evict the lease and leave the state.
    if limited && policy != "noeviction" {
        tracing::warn!(
            store = %target,
            policy,
            "Redis may evict leases when its memory is full: set maxmemory-policy to noeviction"
        );
    }
}

/// The lines of INFO.
pub(super) struct Facts(String);

impl Facts {
    pub(super) fn of(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::connection::tests::with_target;
    use super::*;

    #[test]
    fn the_version_and_the_kind_are_checked() {
        for old in ["6.0.16", "5.0.7", "2.8", "x", ""] {
            assert!(number_of(old) < OLDEST, "{old:?} was taken");
        }
        for new in ["6.2.0", "7.0.15", "8.2.1", "10.0.0"] {
            assert!(number_of(new) >= OLDEST, "{new} was refused");
        }
        let told = |expected, text: &str| {
            let judged = with_target(|target| {
                let target = Address {
                    expected,
                    ..*target
                };
                judge_kind(&Facts(text.to_owned()), &target)
            });
            judged.map_err(|error| error.to_string())
        };
        let alone = |text: &str| told(Expected::Alone, text);
        assert_eq!(alone("redis_mode:standalone\r\nrole:master\r\n"), Ok(()));
        for (expected, text, named) in [
            (
                Expected::Alone,
                "redis_mode:sentinel",
                "write redis+sentinel://db:1/NAME",
            ),
            (
                Expected::Alone,
                "redis_mode:cluster",
                "write redis+cluster://db:1",
            ),
            (
                Expected::Alone,
                "role:slave\r\nmaster_host:a",
                "its master, a port",
            ),
            (
                Expected::Node,
                "redis_mode:standalone",
                "write redis://db:1",
            ),
            (
                Expected::AnyNode,
                "redis_mode:sentinel",
                "write redis+sentinel://db:1",
            ),
            (Expected::Master, "redis_mode:cluster", "wrong address"),
            (Expected::Master, "role:slave", "a failover is under way"),
            (
                Expected::Node,
                "redis_mode:cluster\r\nrole:slave",
                "is a replica now",
            ),
        ] {
            let text = told(expected, text).unwrap_err();
            assert!(text.contains(named), "{named}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert_eq!(
            told(Expected::AnyNode, "redis_mode:cluster\r\nrole:slave"),
            Ok(())
        );
    }
}
