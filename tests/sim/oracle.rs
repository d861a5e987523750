//! The judge. It sees what no node can see: true time, every grant at the store in
//! its order, and every node's claim at any moment.

use std::collections::BTreeMap;

use tenure::lease::{Acquired, Bid, CheckpointWritten, Epoch, Released, Renewed, SessionId};
use tenure::time::millis;

use super::plan::Plan;
use super::store::{Answer, Request, Stored, count_of};

struct Grant {
    session: SessionId,
    /// The last millisecond of the lease by the store's clock, as it was answered.
    expires_ms: u64,
    led: bool,
}

pub struct Oracle {
    pub violation: Option<String>,
    judges_exclusion: bool,
    judges_leases: bool,
    grants: BTreeMap<Epoch, Grant>,
    count: u64,
    last_write: Option<Epoch>,
    last_resource: Option<Epoch>,
    /// A store lost the knowledge of this epoch, and has not held since.
    unnoticed_loss: Option<Epoch>,
    /// Somebody who had never heard of this epoch was granted the lease by a store
    /// that had forgotten it: the one hole that DESIGN.md names. Leases up to it are
    /// covered by the fence alone.
    blind_up_to: Option<Epoch>,
    newest_at_loss: Option<Epoch>,
    pub tenures: u64,
    pub writes: u64,
    pub holds: u64,
    pub excused: u64,
}

impl Oracle {
    pub fn new(plan: &Plan) -> Self {
        Self {
            violation: None,
            judges_exclusion: plan.clocks_keep_bound,
            judges_leases: plan.clocks_keep_bound,
            grants: BTreeMap::new(),
            count: 0,
            last_write: None,
            last_resource: None,
            unnoticed_loss: None,
            blind_up_to: None,
            newest_at_loss: None,
            tenures: 0,
            writes: 0,
            holds: 0,
            excused: 0,
        }
    }

    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what);
        }
    }

    fn newest(&self) -> Option<Epoch> {
        self.grants.keys().next_back().copied()
    }

    /// Data that a grant or a write rested on is gone.
    pub fn data_lost(&mut self, leases_unknown: bool, restored: bool, stored: Option<Stored>) {
        self.newest_at_loss = self.newest();
        if leases_unknown {
            self.unnoticed_loss = self.newest();
        }
        self.count = stored.map_or(0, |stored| stored.count);
        if restored {
            // An older copy is another history of the value: it may accept what it
            // would have accepted then.
            self.last_write = None;
        }
    }

    /// One request was applied by the store.
    pub fn applied(&mut self, lease_ms: u64, request: &Request, answer: &Answer) {
        match (request, answer) {
            (Request::Acquire { bid, .. }, Answer::Acquired(Acquired::Won { epoch, left })) => {
                self.granted(lease_ms, bid, *epoch);
                self.extended(lease_ms, *epoch, millis(*left));
            }
            (_, Answer::Acquired(Acquired::Hold { .. })) => {
                self.holds += 1;
                self.unnoticed_loss = None;
            }
            (Request::Renew(claim), Answer::Renewed(Renewed::Kept { left })) => {
                self.extended(lease_ms, claim.epoch, millis(*left));
            }
            (Request::Release(claim, _), Answer::Released(Released::Released)) => {
                if let Some(grant) = self.grants.get_mut(&claim.epoch) {
                    grant.expires_ms = 0;
                }
            }
            (Request::WriteCheckpoint(write), Answer::Written(CheckpointWritten::Written(_))) => {
                self.written(write.epoch, &write.session, count_of(&write.bytes));
            }
            (Request::UseResource(token), Answer::Resource { accepted }) => {
                self.resource_used(*token, *accepted);
            }
            _ => {}
        }
    }

    fn granted(&mut self, lease_ms: u64, bid: &Bid, epoch: Epoch) {
        let (to, floor) = (&bid.session, bid.floor);
        self.check(Some(epoch) > floor, || {
            format!("epoch {epoch} is not above the bid's floor {floor:?}")
        });
        let newest = self.newest();
        if let Some(grant) = self.grants.get(&epoch) {
            let same = grant.session == *to;
            self.check(same, || {
                format!("epoch {epoch} was issued twice, to {to} now")
            });
            return;
        }
        self.check(Some(epoch) > newest, || {
            format!("epoch {epoch} was granted after {newest:?}: epochs went back")
        });
        // The incumbent passes a hold. One that had not seen the newest epoch is the
        // older of two leaders that the hole had already let stand side by side.
        let lost = if bid.incumbent {
            self.newest_at_loss
        } else {
            self.unnoticed_loss
        };
        if bid.floor < lost {
            self.blind_up_to = self.blind_up_to.max(lost);
        }
        self.grants.insert(
            epoch,
            Grant {
                session: to.clone(),
                expires_ms: lease_ms,
                led: false,
            },
        );
    }

    fn extended(&mut self, lease_ms: u64, epoch: Epoch, left_ms: u64) {
        let newest = self.newest();
        let judged = self.judges_leases && Some(epoch) > self.newest_at_loss;
        let Some(grant) = self.grants.get_mut(&epoch) else {
            return self.fail(|| format!("epoch {epoch} was renewed but never granted"));
        };
        let lives = grant.expires_ms >= lease_ms && Some(epoch) == newest;
        grant.expires_ms = lease_ms + left_ms;
        self.check(lives || !judged, || {
            format!("epoch {epoch} lives again: its lease had ended (newest is {newest:?})")
        });
    }

    fn written(&mut self, epoch: Epoch, session: &SessionId, count: u64) {
        self.writes += 1;
        let last = self.last_write.max(Some(epoch));
        self.check(last == Some(epoch), || {
            format!("fencing: a write under epoch {epoch} was accepted after {last:?}")
        });
        self.last_write = last;
        let owner = self.grants.get(&epoch).map(|grant| grant.session.clone());
        self.check(owner.as_ref() == Some(session), || {
            format!("fencing: session {session} wrote under epoch {epoch}, which is {owner:?}'s")
        });
        let wanted = self.count + 1;
        self.check(count == wanted, || {
            format!(
                "an acknowledged write was lost or applied twice: {wanted} follows, not {count}"
            )
        });
        self.count = count;
    }

    fn resource_used(&mut self, token: Epoch, accepted: bool) {
        let newest = self.newest();
        let last = self.last_resource;
        if accepted {
            self.check(Some(token) >= last, || {
                format!("the fence let token {token} pass after {last:?}")
            });
            self.last_resource = last.max(Some(token));
        } else {
            self.check(Some(token) != newest, || {
                format!("the fence refused the newest token {token}")
            });
        }
    }

    /// A node begins to lead; `others` lead or work at the same true time.
    pub fn leads(&mut self, node: usize, session: &SessionId, epoch: Epoch, others: &[Claimant]) {
        self.tenures += 1;
        let Some(grant) = self.grants.get_mut(&epoch) else {
            return self.fail(|| format!("node {node} leads under epoch {epoch}, never granted"));
        };
        let (again, foreign) = (grant.led, grant.session != *session);
        grant.led = true;
        self.check(!foreign, || {
            format!("node {node} leads under another session's {epoch}")
        });
        self.check(!again, || {
            format!("node {node} leads twice under epoch {epoch}")
        });
        for other in others {
            if !self.judges_exclusion {
                continue;
            }
            // The older of the two may also be the one that learns of its grant later.
            if Some(other.epoch.min(epoch)) <= self.blind_up_to {
                self.excused += 1;
                continue;
            }
            self.fail(|| {
                let (who, what, theirs) = (other.node, other.what, other.epoch);
                format!(
                    "exclusion: node {node} leads under {epoch} while node {who} {what} under {theirs}"
                )
            });
        }
    }
}

/// Somebody who leads, or whose app works, when another begins to lead.
pub struct Claimant {
    pub node: usize,
    pub epoch: Epoch,
    pub what: &'static str,
}
