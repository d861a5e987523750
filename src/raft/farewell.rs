//! The end of a member that leads the log and has just given leases back.

use std::collections::HashMap;
use std::time::Duration;

use super::node::RaftNode;
use super::replica::Applied;
use crate::lease::ElectionName;
use crate::time::{pause, within};

/// For the answer to the last heir to leave this member, once its lease is in the log.
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);

impl RaftNode {
    /// Stays until the `leases` that this member gave back are held again, where it leads the
    /// log: its end would make their heirs wait for an election of the log. For `limit` at
    /// most, for perhaps nobody wants them.
    pub(crate) async fn stay_for_heirs(
        &self,
        leases: &HashMap<ElectionName, Duration>,
        limit: Duration,
    ) {
        let awaited = self.worth_waiting_for(leases);
        if awaited.is_empty() || !self.member.is_raft_leader() {
            return;
        }
        let held = |applied: &Applied| {
            let mut records = awaited.iter().map(|name| applied.records.get(name));
            records.all(|record| record.observe().holder.is_some())
        };
        let mut changes = self.member.replica.changes();
        let heirs =
            async { while !self.member.replica.with(held) && changes.changed().await.is_ok() {} };
        if within(limit, heirs).await.is_some() {
            pause(ANSWERED_WITHIN).await;
        }
    }

    /// The log is without a leader all the same when this member ends, for up to twice the
    /// longest timeout: openraft's members hear no candidate before that of their last leader
    /// is over. A lease that is not twice as long as that is not waited for: its heir could
    /// hardly renew it in time, and would lead for a moment only.
    fn worth_waiting_for(&self, leases: &HashMap<ElectionName, Duration>) -> Vec<ElectionName> {
        let gap = Duration::from_millis(2 * self.member.options.times().election_max);
        let long = leases.iter().filter(|(_, ttl)| **ttl >= gap * 2);
        long.map(|(name, _)| name.clone()).collect()
    }
}
