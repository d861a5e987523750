//! What each kind of Redis promises.

use std::time::Duration;

use super::access::Access;
use super::target::Topology;
use crate::backend::{Answer, Guarantees, Scope};

const REMEMBERED: &str = "every candidate remembers its epochs (--state-dir)";
const FAILOVER: &str =
    "there is no failover, or it is Redis 7 and min-replicas-to-write is the number of replicas";

pub(super) fn of(access: &Access) -> Guarantees {
    let alone = Guarantees {
        kind: "redis",
        scope: Scope::Network,
        epochs_never_repeat: Answer::Yes,
        one_leader: Answer::Yes,
        one_leader_after_data_loss: Answer::If(REMEMBERED.into()),
        survives_store_crash: Answer::If(
            "Redis runs with appendonly yes and appendfsync always".into(),
        ),
        wakes_followers: true,
        expiry_step: Duration::from_millis(1),
    };
    let kind = match access.target.topology() {
        Topology::Alone => return alone,
        Topology::Sentinel { .. } => "redis+sentinel",
        Topology::Cluster => "redis+cluster",
    };
    Guarantees {
        kind,
        one_leader: Answer::If(FAILOVER.into()),
        one_leader_after_data_loss: Answer::If(format!("{FAILOVER}, and {REMEMBERED}")),
        survives_store_crash: Answer::If(survives(access.wait)),
        ..alone
    }
}

/// A failover promotes the replica that seems to have most, by what the rest can see.
fn survives(wait: u8) -> String {
    let disk = "every server runs with appendonly yes and appendfsync always";
    if wait == 0 {
        return format!(
            "{disk}, and a replica that is promoted has the last writes (--redis-wait makes \
             that likely)"
        );
    }
    format!("{disk}, and one of the {wait} replicas that acknowledged it is promoted")
}
