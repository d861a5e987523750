//! What failovers of a store have in common, whoever promotes.

use std::time::Duration;

use super::cluster::{Cluster, Lead, SOON, TTL};
use super::history::At;
use super::node::Setup;

/// What a failover cost.
#[derive(Debug)]
pub struct Cost {
    pub before: Lead,
    pub after: Lead,
    /// The longest time in which nobody said that it leads.
    pub leaderless: Duration,
    /// From the fault to the first write that was accepted after it.
    pub write: Duration,
}

/// Sidecars on one store.
pub fn nodes(url: &str, count: usize, flags: &[(&str, &str)]) -> Cluster {
    let ttl = format!("{}ms", TTL.as_millis());
    let setups = (0..count).map(|index| {
        let setup = Setup::new(&format!("n{index}"), url).flag("--ttl", &ttl);
        let with = |setup: Setup, (name, value): &(&str, &str)| setup.flag(name, value);
        flags.iter().fold(setup, with)
    });
    Cluster::of(setups.collect())
}

/// Makes the store fail over, and waits until a leader writes at the promoted server.
pub fn fail_over(what: &str, cluster: &Cluster, fault: impl FnOnce()) -> Cost {
    let before = cluster.working_leader();
    let began = cluster.recorder.now();
    fault();
    let switched = cluster.recorder.now();
    let after = cluster.working_leader();
    let write = first_write(cluster, switched);
    let leaderless = longest_gap(cluster, began);
    let cost = Cost {
        before,
        after,
        leaderless,
        write: write.saturating_sub(began),
    };
    let continued = if cost.after.epoch == cost.before.epoch {
        "the same epoch"
    } else {
        "a new epoch"
    };
    eprintln!(
        "{what}: switched after {:.2} s, leaderless for {:.2} s, first write after {:.2} s, {continued}",
        (switched - began).as_secs_f64(),
        cost.leaderless.as_secs_f64(),
        cost.write.as_secs_f64(),
    );
    assert!(cost.after.epoch >= cost.before.epoch, "{cost:?}");
    cost
}

fn first_write(cluster: &Cluster, from: At) -> At {
    cluster.recorder.wait("a write", SOON, |history| {
        let accepted = history.writes.iter().find(|write| {
            write.sent >= from && matches!(write.fate, super::history::Fate::Accepted(_))
        });
        accepted.map(|write| write.received)
    })
}

/// The longest time between two answers of leaders.
pub fn longest_gap(cluster: &Cluster, from: At) -> Duration {
    let history = cluster.recorder.history();
    let leaders = history.answers.iter().filter(|a| a.is_leader);
    let mut told: Vec<At> = leaders
        .filter(|a| a.received >= from)
        .map(|a| a.received)
        .collect();
    told.sort_unstable();
    let first = told
        .first()
        .map_or(Duration::MAX, |at| at.saturating_sub(from));
    let gaps = told.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.chain([first]).max().unwrap_or_default()
}

/// Whether any node wrote that to its log.
pub fn logged(cluster: &Cluster, text: &str) -> bool {
    (0..cluster.len()).any(|index| cluster.runs(index) && cluster.node(index).log().contains(text))
}

/// What a store says that it promises.
pub fn claims(url: &str) -> tenure::backend::Guarantees {
    use tenure::backend::Store as _;
    let options = tenure::backend::redis::RedisOptions {
        target: url.parse().unwrap(),
        credentials: tenure::wire::CredentialFiles::default(),
        call_timeout: TTL,
        wait: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let clock = std::sync::Arc::new(tenure::time::BootClock);
        tenure::backend::redis::RedisStore::open(options, clock)
            .unwrap()
            .guarantees()
    })
}
