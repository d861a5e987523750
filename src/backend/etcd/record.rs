//! One election's record as etcd holds it, and as the rules of a lease register see it.
//!
//! etcd's clock cannot be read; what it has ended is gone, and that is all one learns.
//! So the register is handed a clock that stands still at [`NOW`], and every deadline in
//! it says no more than whether the key that stands for it is there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::election::Granted;
use super::keys::Keys;
use super::rpc::{EVENT_DELETE, Event, Header, KeyValue};
use crate::lease::register::{LeaderKey, Present, Register, State};
use crate::lease::{Claim, Epoch, NodeId, Observed, Profile, Revision, SessionId, StoreError};
use crate::time::{UnixMs, millis};

/// The register's clock, in milliseconds. Any number will do.
const NOW: u64 = 1 << 40;
/// A lease whose TTL is not known, in milliseconds: when to look again.
const UNKNOWN_MS: u64 = 60_000;

/// What stands under one key.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub value: T,
    /// The revision of its last change.
    pub changed: i64,
    /// The etcd lease that it goes with; 0 for none.
    pub lease: i64,
}

/// Whose lease it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub epoch: Epoch,
    pub session: SessionId,
}

/// The key that never expires.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    /// The newest epoch; a hold may have raised it above any that was granted here.
    pub epoch: Epoch,
    /// Whose it is; none where a hold raised it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// The lease it asked for.
    pub ttl_ms: u64,
    /// The lease that etcd granted, which counts whole seconds.
    #[serde(default)]
    pub granted_ms: u64,
    /// How long a hold for it lasts.
    pub hold_ms: u64,
    /// When it was granted, by the wall clock of the node it was granted to.
    pub acquired_ms: UnixMs,
    /// The cluster that granted it, in hex.
    pub cluster: String,
    /// The holder released it.
    #[serde(default)]
    pub ended: bool,
    /// Who may try first after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<NodeId>,
    /// The term of the cluster's own leader when it was granted, or an earlier one.
    #[serde(default)]
    pub raft_term: u64,
    /// An etcd lease that must be dead before a hold begins to count: its holder may
    /// have been told that it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<i64>,
    /// The etcd lease that a release left alive, for the next holder to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over: Option<i64>,
    /// The newest revision ever written to the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Revision>,
}

impl Stored {
    /// What the register has decided. What only etcd knows starts empty.
    pub(super) fn of(state: &State) -> Self {
        Self {
            epoch: state.epoch,
            session: state.session.clone(),
            profile: state.profile.clone(),
            ttl_ms: state.ttl_ms,
            granted_ms: state.ttl_ms,
            hold_ms: state.hold_ms,
            acquired_ms: state.acquired,
            cluster: state.server.clone(),
            ended: state.ended,
            prefer: None,
            raft_term: 0,
            revoke: None,
            handed_over: None,
            checkpoint: state.checkpoint,
        }
    }
}

/// Everything about the lease, as of one revision of the store.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub revision: i64,
    /// The cluster that holds it, in hex.
    cluster: String,
    /// The term of the cluster's own leader.
    pub raft_term: u64,
    /// This etcd may end a lease before its time after it has changed its leader.
    ends_early: bool,
    pub leader: Option<Entry<Owner>>,
    /// Goes with the leader's etcd lease, and not when the leader key is deleted.
    pub lease: Option<Entry<Owner>>,
    pub hold: Option<Entry<()>>,
    pub state: Option<Entry<Stored>>,
}

impl Record {
    /// Reads the keys that a range answered.
    ///
    /// # Errors
    /// `Corrupt` names the key.
    pub(super) fn read(
        keys: &Keys,
        header: Option<&Header>,
        found: &[KeyValue],
        ends_early: bool,
    ) -> Result<Self, StoreError> {
        let header = header.copied().unwrap_or_default();
        let mut record = Self {
            revision: header.revision,
            cluster: format!("{:x}", header.cluster_id),
            raft_term: header.raft_term,
            ends_early,
            leader: None,
            lease: None,
            hold: None,
            state: None,
        };
        for kv in found {
            record.put(keys, kv)?;
        }
        Ok(record)
    }

    fn put(&mut self, keys: &Keys, kv: &KeyValue) -> Result<(), StoreError> {
        let key = kv.key.as_slice();
        if key == keys.leader.as_bytes() {
            self.leader = Some(entry(kv, owner(kv)?));
        } else if key == keys.lease.as_bytes() {
            self.lease = Some(entry(kv, owner(kv)?));
        } else if key == keys.hold.as_bytes() {
            self.hold = Some(entry(kv, ()));
        } else if key == keys.state.as_bytes() {
            let stored = serde_json::from_slice(&kv.value);
            let stored = stored.map_err(|error| corrupt(kv, &error.to_string()))?;
            self.state = Some(entry(kv, stored));
        }
        Ok(())
    }

    /// Takes one change in.
    ///
    /// # Errors
    /// `Corrupt` names the key.
    pub(super) fn apply(&mut self, keys: &Keys, event: &Event) -> Result<(), StoreError> {
        let Some(kv) = &event.kv else {
            return Ok(());
        };
        self.revision = self.revision.max(kv.mod_revision);
        if event.kind != EVENT_DELETE {
            return self.put(keys, kv);
        }
        let key = kv.key.as_slice();
        if key == keys.leader.as_bytes() {
            self.leader = None;
        } else if key == keys.lease.as_bytes() {
            self.lease = None;
        } else if key == keys.hold.as_bytes() {
            self.hold = None;
        } else if key == keys.state.as_bytes() {
            self.state = None;
        }
        Ok(())
    }

    /// The clock and the identity that the register decides by; `wall` numbers epochs.
    pub(super) fn present(&self, wall: UnixMs) -> Present<'_> {
        Present {
            lease_ms: NOW,
            wall,
            server: &self.cluster,
        }
    }

    /// The record as the rules see it.
    pub(super) fn register(&self) -> Register {
        let leader = self.leader.as_ref().map(|leader| LeaderKey {
            epoch: leader.value.epoch,
            session: leader.value.session.clone(),
            expires_ms: NOW + self.granted_ms(leader.value.epoch),
        });
        Register {
            leader,
            state: self.stored_state().or_else(|| self.state_of_lease()),
        }
    }

    fn granted_ms(&self, epoch: Epoch) -> u64 {
        let state = self.state.as_ref().map(|state| &state.value);
        state
            .filter(|state| state.epoch == epoch)
            .map_or(UNKNOWN_MS, |state| state.granted_ms)
    }

    fn stored_state(&self) -> Option<State> {
        let stored = &self.state.as_ref()?.value;
        // A hold counts from when the lease that it waits out is surely dead.
        let holds = self.hold.is_some() || stored.revoke.is_some();
        let lives = self.lease.is_some() || self.may_have_ended_early(stored);
        Some(State {
            epoch: stored.epoch,
            session: stored.session.clone(),
            profile: stored.profile.clone(),
            ttl_ms: stored.ttl_ms,
            // A hold of no length is none to the register.
            hold_ms: stored.hold_ms.max(u64::from(holds)),
            acquired: stored.acquired_ms,
            expires_ms: if lives { NOW } else { 0 },
            server: stored.cluster.clone(),
            hold_until_ms: if holds { u64::MAX } else { 0 },
            ended: stored.ended,
            checkpoint: stored.checkpoint,
            revision_base: 0,
        })
    }

    /// A member that led the cluster and hung goes on as if it still led: it ends leases
    /// that its successor has prolonged (etcd#15247, etcd#20418). So where the cluster
    /// has had another leader since the grant, the end of a lease that nobody released
    /// tells nothing; it is treated as if somebody had deleted the keys.
    fn may_have_ended_early(&self, stored: &Stored) -> bool {
        self.ends_early && stored.raft_term != self.raft_term
    }

    /// The state that a lease tells of, where nothing else is left: somebody deleted all
    /// other keys, and its holder may go on.
    fn state_of_lease(&self) -> Option<State> {
        let owner = &self.lease.as_ref()?.value;
        if self.leader.is_some() {
            return None;
        }
        Some(State {
            epoch: owner.epoch,
            session: Some(owner.session.clone()),
            profile: None,
            ttl_ms: 0,
            hold_ms: 0,
            acquired: UnixMs(0),
            expires_ms: NOW,
            server: self.cluster.clone(),
            hold_until_ms: 0,
            ended: false,
            checkpoint: None,
            revision_base: 0,
        })
    }

    /// The epoch that the leader key tells.
    pub(super) fn epoch_in_force(&self) -> Option<Epoch> {
        self.leader.as_ref().map(|leader| leader.value.epoch)
    }

    /// The etcd lease that may keep somebody leading though the record is about to hold.
    pub(super) fn orphan(&self) -> Option<i64> {
        let bound = self.leader.as_ref().map(|leader| leader.lease);
        let bound = bound.or(self.lease.as_ref().map(|lease| lease.lease));
        let marked = self.state.as_ref().and_then(|state| state.value.revoke);
        bound.filter(|lease| *lease != 0).or(marked)
    }

    /// The etcd lease of that claim, where the record is whole and says that the claim
    /// holds it.
    pub(super) fn lease_of(&self, claim: &Claim) -> Option<i64> {
        let own = |entry: &&Entry<Owner>| {
            entry.value.epoch == claim.epoch && entry.value.session == claim.session
        };
        let leader = self.leader.as_ref().filter(own)?;
        let lease = self.lease.as_ref().filter(own)?;
        let state = self.state.as_ref()?;
        let whole = state.value.epoch == claim.epoch && leader.lease == lease.lease;
        whole.then_some(leader.lease)
    }

    /// The etcd lease of a released tenure, where the next one may go on with it. Its
    /// `raft_term` goes on with it, so that its end is judged as if one holder had renewed it
    /// all the time. Where the cluster is known to have changed its leader since it was
    /// granted, a fresh lease is the better one: its end tells something again.
    pub(super) fn handed_over(&self, asked: Duration) -> Option<Granted> {
        let stored = &self.state.as_ref()?.value;
        let free = self.leader.is_none() && self.lease.is_none() && self.hold.is_none();
        let fits = stored.ended && stored.revoke.is_none() && stored.ttl_ms == millis(asked);
        let here = stored.cluster == self.cluster && stored.raft_term == self.raft_term;
        let id = stored.handed_over.filter(|_| free && fits && here)?;
        Some(Granted {
            id,
            ttl: Duration::from_millis(stored.granted_ms),
        })
    }

    /// What is seen of it; for how long the lease goes on is not known, only its whole.
    pub(super) fn observed(&self) -> Observed {
        self.register().observe(self.present(UnixMs(0)))
    }
}

fn entry<T>(kv: &KeyValue, value: T) -> Entry<T> {
    Entry {
        value,
        changed: kv.mod_revision,
        lease: kv.lease,
    }
}

/// `epoch:session`.
fn owner(kv: &KeyValue) -> Result<Owner, StoreError> {
    let read = || {
        let text = std::str::from_utf8(&kv.value).ok()?;
        let (epoch, session) = text.split_once(':')?;
        Some(Owner {
            epoch: epoch.parse().ok()?,
            session: session.parse().ok()?,
        })
    };
    read().ok_or_else(|| corrupt(kv, "EPOCH:SESSION was expected"))
}

fn corrupt(kv: &KeyValue, why: &str) -> StoreError {
    let key = String::from_utf8_lossy(&kv.key);
    StoreError::Corrupt(format!(
        "the etcd key {key} is none that Tenure wrote ({why}): remove it with etcdctl del {key}"
    ))
}
