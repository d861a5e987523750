//! One record of who was granted what and who led when, and what must hold over it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tenure::lease::{Drift, Epoch, NodeId, SessionId};
use tenure::machine::Tenure;
use tenure::time::Moment;

/// One `Won`.
#[derive(Clone, Debug)]
pub struct Grant {
    pub epoch: Epoch,
    pub session: SessionId,
    /// What the store said that it keeps the lease for.
    pub left: Duration,
    /// Before the request left.
    pub sent_at: Moment,
    /// After the answer came.
    pub answered_at: Moment,
}

impl Grant {
    /// Nobody else may be granted the lease before this moment.
    pub fn ends_at(&self) -> Moment {
        let rounding = Duration::from_millis(2);
        self.sent_at + Drift::ONE_PERCENT.shorten(self.left) - rounding
    }
}

/// One stretch of leading.
#[derive(Clone, Debug)]
pub struct Lead {
    pub node: NodeId,
    pub epoch: Epoch,
    pub from: Moment,
    /// As of the last turn; a node that is stopped says so until then.
    pub until: Moment,
    /// The lease as it was first known.
    pub first: Tenure,
}

/// What happened in one election.
#[derive(Default)]
pub struct Recorder {
    grants: Mutex<Vec<Grant>>,
    leads: Mutex<Vec<Lead>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Recorder {
    pub fn granted(&self, grant: Grant) {
        lock(&self.grants).push(grant);
    }

    pub fn grants(&self) -> Vec<Grant> {
        lock(&self.grants).clone()
    }

    pub fn leads(&self) -> Vec<Lead> {
        lock(&self.leads).clone()
    }

    pub fn leads_of(&self, node: &NodeId) -> Vec<Lead> {
        let leads = self.leads();
        leads
            .into_iter()
            .filter(|lead| &lead.node == node)
            .collect()
    }

    /// A node leads since `now`.
    pub fn began(&self, node: &NodeId, now: Moment, tenure: Tenure) {
        lock(&self.leads).push(Lead {
            node: node.clone(),
            epoch: tenure.epoch,
            from: now,
            until: tenure.leads_until,
            first: tenure,
        });
    }

    /// The node that leads does so until this moment.
    pub fn leads_until(&self, node: &NodeId, epoch: Epoch, until: Moment) {
        let mut leads = lock(&self.leads);
        let own = |lead: &&mut Lead| &lead.node == node && lead.epoch == epoch;
        if let Some(lead) = leads.iter_mut().rev().find(own) {
            lead.until = until;
        }
    }

    /// What must hold over every history: no epoch for two sessions, each later grant
    /// above each earlier one, nobody leads twice under one epoch, and no two at once.
    pub fn check(&self) {
        self.check_epochs();
        self.check_exclusion();
    }

    fn check_epochs(&self) {
        let mut grants = self.grants();
        let mut owners: HashMap<Epoch, &SessionId> = HashMap::new();
        for grant in &grants {
            let owner = owners.entry(grant.epoch).or_insert(&grant.session);
            assert_eq!(
                *owner, &grant.session,
                "epoch {} was granted twice: {grants:#?}",
                grant.epoch
            );
        }
        drop(owners);
        grants.sort_by_key(|grant| grant.sent_at);
        for (at, later) in grants.iter().enumerate() {
            for earlier in &grants[..at] {
                // A session that asks again finds its own grant again.
                let again = earlier.session == later.session && earlier.epoch == later.epoch;
                let in_order = earlier.epoch < later.epoch || again;
                assert!(
                    in_order || earlier.answered_at >= later.sent_at,
                    "epoch {} was granted after {}: {grants:#?}",
                    later.epoch,
                    earlier.epoch
                );
            }
        }
    }

    /// Only the order of leading; whether the grants allow it is the nodes' matter.
    pub fn check_exclusion(&self) {
        let mut leads = self.leads();
        leads.sort_by_key(|lead| lead.from);
        let mut seen = HashSet::new();
        for lead in &leads {
            assert!(
                seen.insert(lead.epoch),
                "two stretches of leading under epoch {}: {leads:#?}",
                lead.epoch
            );
        }
        for pair in leads.windows(2) {
            let (earlier, later) = (&pair[0], &pair[1]);
            assert!(
                earlier.until <= later.from,
                "{} led until {:?} and {} from {:?}: {leads:#?}",
                earlier.node,
                earlier.until,
                later.node,
                later.from
            );
        }
    }
}
