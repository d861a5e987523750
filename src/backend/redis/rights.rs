//! Whether the Redis user may do what is needed: asked once a connection is made,
//! before the first request, and without writing.
//!
//! A user whose rights cover some of a script's commands would be refused in the
//! middle of it. So a connection whose user lacks one of them is not used at all, and
//! what lacks is told at once, with the line that grants it.

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::access::Access;
use super::acl;
use super::link::Duty;
use super::scripts::Keys;
use super::target::Topology;
use super::trouble;
use crate::lease::{ElectionName, StoreError};

/// Runs with EVAL, which every user of a store needs.
const CODE: &str = include_str!("../../../lua/rights.lua");

/// One command that is needed, or that is missed.
struct Needed {
    /// With arguments, so that keys and channels are judged, too.
    line: String,
    /// What is told of it.
    what: String,
    /// What goes without it; `None` where nothing does.
    without: Option<&'static str>,
}

impl Needed {
    fn new(command: &str, on: &str, rest: &str, without: Option<&'static str>) -> Self {
        let join = |parts: &[&str]| {
            let parts = parts.iter().filter(|part| !part.is_empty());
            parts.copied().collect::<Vec<_>>().join(" ")
        };
        Self {
            line: join(&[command, on, rest]),
            what: join(&[command, on]),
            without,
        }
    }
}

const HINTS: &str = "followers wait for timers instead of being woken";
const SPEED: &str = "each first use of a script costs a millisecond more";
const LAG: &str = "min-replicas-max-lag is taken to be the usual 10 s";

/// What a connection's user does.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub duty: Duty,
    /// Hints belong to a slot.
    pub sharded: bool,
    /// Replicas are waited for.
    pub waits: bool,
}

fn needed(access: &Access, election: &ElectionName, user: User) -> Vec<Needed> {
    let User {
        duty,
        sharded,
        waits,
    } = user;
    let keys = Keys::of(election);
    let must = |command: &str, on: &str, rest: &str| Needed::new(command, on, rest, None);
    let (subscribe, unsubscribe, publish) = if sharded && access.is_cluster() {
        ("SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH")
    } else {
        ("SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH")
    };
    let hint = |command, on: &str, rest| Needed::new(command, on, rest, Some(HINTS));
    if duty == Duty::Hints {
        return vec![
            hint(subscribe, &keys.channel, ""),
            hint(unsubscribe, &keys.channel, ""),
        ];
    }
    let mut all = vec![
        must("EVALSHA", "", "0 0"),
        must("TIME", "", ""),
        must("GET", &keys.leader, ""),
        must("PTTL", &keys.leader, ""),
        must("SET", &keys.leader, "v NX PXAT 1"),
        must("PEXPIREAT", &keys.leader, "1"),
        must("DEL", &keys.leader, ""),
        must("TYPE", &keys.leader, ""),
        must("HGETALL", &keys.state, ""),
        must("HSET", &keys.state, "field value"),
        must("HGET", &keys.checkpoint, "field"),
        must("HMGET", &keys.checkpoint, "field"),
        must("HSET", &keys.checkpoint, "field value"),
        hint(publish, &keys.channel, "message"),
        Needed::new("SCRIPT EXISTS", "", "0", Some(SPEED)),
        Needed::new("SCRIPT LOAD", "", "0", Some(SPEED)),
    ];
    if duty == Duty::All {
        all.push(hint(subscribe, &keys.channel, ""));
        all.push(hint(unsubscribe, &keys.channel, ""));
    }
    if *access.target.topology() != Topology::Alone {
        all.push(Needed::new("CONFIG GET", "", "x", Some(LAG)));
    }
    if access.is_cluster() {
        all.push(must("ASKING", "", ""));
        all.push(must("CLUSTER SLOTS", "", ""));
        all.push(must("CLUSTER INFO", "", ""));
    }
    if waits {
        all.push(must("WAIT", "", "1 1"));
    }
    all
}

/// Asks for the rights to every election of the store. A Redis older than 7 cannot
/// tell; there the first request that is refused does.
///
/// # Errors
/// `Rejected` with everything that lacks.
pub(super) async fn check(
    access: &Access,
    connection: &MultiplexedConnection,
    name: &str,
    user: User,
) -> Result<(), StoreError> {
    let (mut lacking, mut missed) = (Vec::new(), Vec::new());
    for election in access.elections() {
        let needed = needed(access, &election, user);
        for at in refused(access, connection.clone(), &needed, name).await? {
            let Some(refused) = at.checked_sub(1).and_then(|at| needed.get(at)) else {
                continue;
            };
            let told = match refused.without {
                None => &mut lacking,
                Some(_) => &mut missed,
            };
            if !told.contains(&refused.what) {
                told.push(refused.what.clone());
            }
            if let Some(without) = refused.without {
                tracing::warn!(
                    store = name,
                    command = refused.what,
                    "without that right {without}"
                );
            }
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    lacking.append(&mut missed);
    Err(StoreError::Rejected(format!(
        "the Redis user lacks rights at {name}: {}. Grant it: {}",
        lacking.join(", "),
        line(access)
    )))
}

fn line(access: &Access) -> String {
    let loaded = access.credentials.newest();
    let target = &access.target;
    let rights = acl::least(target.topology(), target.database(), access.wait);
    acl::line(loaded.user().unwrap_or("default"), &rights)
}

/// The numbers of the commands that are refused, from 1 on.
async fn refused(
    access: &Access,
    mut connection: MultiplexedConnection,
    needed: &[Needed],
    name: &str,
) -> Result<Vec<usize>, StoreError> {
    let mut question = redis::cmd("EVAL");
    question.arg(CODE).arg(0);
    for needed in needed {
        question.arg(&needed.line);
    }
    let answer = connection.send_packed_command(&question).await;
    match answer.and_then(Value::extract_error) {
        Ok(value) => Ok(redis::from_redis_value(value).unwrap_or_default()),
        Err(error) if error.code() == Some("NOPERM") => Err(StoreError::Rejected(format!(
            "the Redis user lacks rights at {name}: EVAL, and what else cannot be asked without \
             it. Grant it: {}",
            line(access)
        ))),
        Err(error) => match trouble::judge(&error, name).error {
            // Nothing was asked that changes anything.
            StoreError::Indeterminate(why) => Err(StoreError::Unavailable(why)),
            other => Err(other),
        },
    }
}
