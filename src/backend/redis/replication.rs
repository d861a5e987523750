//! What a master's replication settings are worth to a lease, across a failover.
//!
//! An old master that is cut off from the promoted one ends no lease by itself: it
//! goes on taking renewals. With `min-replicas-to-write` it stops, once it has not
//! heard of so many replicas for `min-replicas-max-lag`. The promoted server must then
//! hold for that much longer than a lease.
//!
//! That holds where the promoted replica was one of those that the old master needs:
//! an old master that is cut off together with enough *other* replicas goes on. So
//! the setting promises something without a condition only where it names every
//! replica there is, and from Redis 7 on: older ones let a script write whatever is set.

use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::server::{Expected, Facts};

/// What Redis has where nobody set it.
const USUAL_LAG: Duration = Duration::from_secs(10);
/// The first version that refuses the writes of a script for want of replicas (seen: 6.2.5
/// grants and renews without any, 7.0 answers NOREPLICAS).
const HEEDED_BY_SCRIPTS: (u32, u32) = (7, 0);
/// A replica's last sign of life is kept in whole seconds, so that it may be a second
/// older than it looks, and is looked at once a second.
const STEPS: Duration = Duration::from_secs(2);

/// A master's replication settings, as far as it tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Replication {
    /// Replicas that are connected.
    pub replicas: u64,
    /// `min-replicas-to-write`; 0 is off.
    pub needed: u64,
    /// This version lets scripts write all the same.
    pub ignored: bool,
    /// `min-replicas-max-lag`.
    pub lag: Duration,
}

impl Replication {
    /// Asks a server that is one of several. A user may lack the right to CONFIG GET:
    /// INFO tells whether the setting is on at all.
    pub(super) async fn of(
        connection: &mut MultiplexedConnection,
        facts: &Facts,
        expected: Expected,
        version: (u32, u32),
    ) -> Self {
        if !expected.is_replicated() {
            return Self::default();
        }
        let number = |name: &str| facts.of(name).and_then(|text| text.parse().ok());
        let on = facts.of("min_slaves_good_slaves").is_some();
        let mut told = Self {
            replicas: number("connected_slaves").unwrap_or(0),
            needed: u64::from(on),
            ignored: version < HEEDED_BY_SCRIPTS,
            lag: USUAL_LAG,
        };
        if let Some(lag) = setting(connection, "min-replicas-max-lag").await {
            told.lag = Duration::from_secs(lag);
        }
        if let Some(needed) = setting(connection, "min-replicas-to-write").await {
            // A lag of 0 turns it off, too.
            told.needed = if told.lag.is_zero() { 0 } else { needed };
        }
        told
    }

    /// How many replicas must be there for a write to be taken; 0 where that is not sure.
    pub(super) fn ensured(&self) -> u64 {
        if self.ignored { 0 } else { self.needed }
    }

    /// By how much a hold must be longer than a lease: until an old master surely
    /// takes no renewal any more. The server's clock may be off by as much as the
    /// widest drift that can be configured.
    pub(super) fn grace(&self) -> Duration {
        if self.ensured() == 0 {
            return Duration::ZERO;
        }
        self.lag + self.lag / 10 + STEPS
    }

    /// What somebody should change; `None` where a failover is covered.
    pub(super) fn advice(&self) -> Option<String> {
        if self.ignored {
            return Some(
                "an old master that is cut off during a failover goes on taking renewals, so that \
                 two nodes may lead for a while and only the fencing token tells them apart: this \
                 Redis lets scripts write whatever min-replicas-to-write says; update to Redis 7"
                    .to_owned(),
            );
        }
        if self.needed == 0 {
            let enough = self.replicas.max(1);
            return Some(format!(
                "an old master that is cut off during a failover goes on taking renewals, so that \
                 two nodes may lead for a while and only the fencing token tells them apart: CONFIG \
                 SET min-replicas-to-write {enough}, on every server"
            ));
        }
        (self.needed < self.replicas).then(|| {
            format!(
                "min-replicas-to-write is {} and there are {} replicas: an old master that is cut \
                 off together with a replica goes on taking renewals. CONFIG SET \
                 min-replicas-to-write {} rules that out, and then no replica may be missing",
                self.needed, self.replicas, self.replicas
            )
        })
    }
}

async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Option<u64> {
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg(name);
    let answer = connection.send_packed_command(&question).await;
    let Ok(Value::Map(pairs)) = answer.and_then(Value::extract_error) else {
        return None;
    };
    let (_, value) = pairs.into_iter().next()?;
    redis::from_redis_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_adds_nothing_and_is_told() {
        let told = |needed, replicas| Replication {
            replicas,
            needed,
            ignored: false,
            lag: Duration::from_secs(10),
        };
        assert_eq!(told(0, 2).grace(), Duration::ZERO);
        assert_eq!(told(1, 2).grace(), Duration::from_secs(13));
        let advice = |needed, replicas| told(needed, replicas).advice().unwrap_or_default();
        assert!(advice(0, 2).contains("min-replicas-to-write 2"));
        assert!(advice(0, 0).contains("min-replicas-to-write 1"));
        assert!(advice(1, 2).contains("together with a replica"));
        assert_eq!(told(1, 1).advice(), None);
        assert_eq!(told(2, 1).advice(), None);
    }

    #[test]
    fn what_scripts_ignore_promises_nothing() {
        let told = Replication {
            ignored: true,
            ..Replication {
                replicas: 1,
                needed: 1,
                ignored: false,
                lag: Duration::from_secs(10),
            }
        };
        assert_eq!((told.ensured(), told.grace()), (0, Duration::ZERO));
        assert!(told.advice().is_some_and(|text| text.contains("Redis 7")));
    }
}
