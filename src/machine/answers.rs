//! What the store's answers change. Each counts from the send of its call.

use std::time::Duration;

use super::{
    Action, CallId, EventKind, Leader, Machine, ROUNDING, Reason, Role, StoreHealth, Tenure,
};
use crate::lease::{Acquired, Epoch, Holder, Observed, Released, Renewed, StoreError};
use crate::time::Moment;

/// How often giving a lease back is tried.
const RELEASE_ATTEMPTS: u32 = 3;

impl Machine {
    pub(super) fn on_acquired(
        &mut self,
        now: Moment,
        id: CallId,
        answer: Result<Acquired, StoreError>,
        out: &mut Vec<Action>,
    ) {
        let Some(call) = self.acquiring.take_if(|call| call.id == id) else {
            return;
        };
        let recheck = self.recheck_below.take();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.try_at = now + self.backoff();
                return self.store_failed(now, error, out);
            }
        };
        self.store_answered(now, out);
        match answer {
            Acquired::Won { epoch, left } => self.won(now, call.sent_at, epoch, left, out),
            Acquired::Held { holder, left } => {
                let old_news = recheck > Some(holder.epoch);
                self.held(now, holder, left, out);
                if old_news {
                    self.plan_try(now, now);
                }
            }
            Acquired::Hold { retry_in, why } => {
                self.name_leader(now, None, Some(why), out);
                self.plan_try(now, now + retry_in + ROUNDING);
            }
        }
    }

    /// A look while it is not this node's turn: it names the leader and grants nothing.
    pub(super) fn on_observed(
        &mut self,
        now: Moment,
        id: CallId,
        answer: Result<Observed, StoreError>,
        out: &mut Vec<Action>,
    ) {
        if self.acquiring.take_if(|call| call.id == id).is_none() {
            return;
        }
        let recheck = self.recheck_below.take();
        let observed = match answer {
            Ok(observed) => observed,
            Err(error) => {
                self.try_at = now + self.backoff();
                return self.store_failed(now, error, out);
            }
        };
        self.store_answered(now, out);
        if let Some(epoch) = observed.epoch {
            self.see(epoch);
        }
        let old_news = recheck > observed.epoch;
        let free_from = self.free_from;
        match observed.holder {
            Some((holder, left)) => self.held(now, holder, left, out),
            None => {
                self.name_leader(now, None, None, out);
                // A free lease is for the others; a hint tells who took it.
                self.try_at = now + self.settings.timing.ttl();
            }
        }
        if old_news {
            self.plan_try(now, now);
        } else if self.is_candidate() && self.snapshot.leader.is_none() {
            match free_from {
                // The delay runs already; another look does not begin it anew.
                Some(from) => {
                    self.try_at = from.max(now);
                    self.free_from = Some(self.try_at);
                }
                None => self.plan_try(now, now),
            }
        }
    }

    pub(super) fn won(
        &mut self,
        now: Moment,
        sent_at: Moment,
        epoch: Epoch,
        left: Duration,
        out: &mut Vec<Action>,
    ) {
        // The bid's floor forbade it: a store that grants it all the same is wrong.
        let dead = Some(epoch) <= self.floor;
        self.see(epoch);
        let timing = &self.settings.timing;
        let ends_at = timing.ends_at(sent_at, left);
        let leads_until = timing.leads_until(ends_at);
        if dead || now >= leads_until || self.snapshot.stopping || !self.is_candidate() {
            // Dead here, or not to be led under, which makes it so; freeing it spares the
            // others the wait. Its answer matters to nobody.
            let call = self.next_call();
            let prefer = None;
            out.push(Action::Release {
                call,
                epoch,
                prefer,
            });
            self.try_at = now + self.backoff();
            return;
        }
        let from = self.snapshot.state();
        self.snapshot.role = Role::Leading;
        self.snapshot.leader = None;
        self.snapshot.hold = None;
        self.snapshot.tenure = Some(Tenure {
            epoch,
            acquired_at: now,
            renewed_at: sent_at,
            leads_until,
            ends_at,
        });
        self.former = None;
        self.renewing = None;
        self.renew_at = sent_at + timing.renew_every();
        let transition = self
            .snapshot
            .transition(now, from, EventKind::Acquired, Reason::Won);
        out.push(Action::Announce(transition));
    }

    pub(super) fn held(
        &mut self,
        now: Moment,
        holder: Holder,
        left: Duration,
        out: &mut Vec<Action>,
    ) {
        self.see(holder.epoch);
        self.longest_ttl = self.longest_ttl.max(holder.ttl);
        let same_id = holder.profile.node == self.settings.node;
        if same_id && self.warned_of.as_ref() != Some(&holder.session) {
            self.warned_of = Some(holder.session.clone());
            out.push(Action::WarnSameId(holder.session.clone()));
        }
        let free_at = now + left;
        let leader = Leader {
            holder,
            free_at,
            named_until: free_at + self.settings.timing.call_timeout(),
        };
        self.name_leader(now, Some(leader), None, out);
        self.plan_try(now, free_at + ROUNDING);
    }

    pub(super) fn on_renewed(
        &mut self,
        now: Moment,
        id: CallId,
        answer: Result<Renewed, StoreError>,
        out: &mut Vec<Action>,
    ) {
        // After a loss the slot is empty: a late `Kept` of a dead epoch ends here.
        let Some(call) = self.renewing.take_if(|call| call.id == id) else {
            return;
        };
        match answer {
            Err(error) => {
                self.renew_at = now + self.retry_pause();
                self.store_failed(now, error, out);
            }
            Ok(Renewed::Kept { left }) => {
                self.prolong(call.sent_at, left);
                self.store_answered(now, out);
            }
            Ok(Renewed::Lost(holder)) => {
                self.store_answered(now, out);
                if self.releasing.is_some() {
                    // The own release may have come first: its answer tells what became of it.
                    self.see_holder(holder.as_ref());
                } else {
                    self.revoked(now, holder, out);
                }
            }
        }
    }

    pub(super) fn prolong(&mut self, sent_at: Moment, left: Duration) {
        let timing = &self.settings.timing;
        let ends_at = timing.ends_at(sent_at, left);
        if let Some(tenure) = &mut self.snapshot.tenure
            && ends_at > tenure.ends_at
        {
            tenure.ends_at = ends_at;
            tenure.leads_until = timing.leads_until(ends_at);
            tenure.renewed_at = sent_at;
        }
        self.renew_at = sent_at + timing.renew_every();
    }

    pub(super) fn revoked(&mut self, now: Moment, holder: Option<Holder>, out: &mut Vec<Action>) {
        let Some(tenure) = self.snapshot.tenure else {
            return;
        };
        let led = self.snapshot.role == Role::Leading;
        // Before the event, which tells of the term.
        self.see_holder(holder.as_ref());
        let transition = self.snapshot.lose(now, Reason::Revoked);
        out.push(Action::Announce(transition));
        // Nobody holds it and nobody can before `ends_at`: the store forgot.
        self.former = (led && holder.is_none()).then_some(tenure);
        self.after_loss(now, tenure, out);
    }

    fn see_holder(&mut self, holder: Option<&Holder>) {
        if let Some(holder) = holder {
            self.see(holder.epoch);
        }
    }

    pub(super) fn on_released(
        &mut self,
        now: Moment,
        id: CallId,
        answer: Result<Released, StoreError>,
        out: &mut Vec<Action>,
    ) {
        if self.releasing.take_if(|call| call.id == id).is_none() {
            return;
        }
        match answer {
            Ok(Released::Released | Released::NotHeld) => {
                self.store_answered(now, out);
                self.departed(now, Reason::Released, now, out);
            }
            Err(error) => {
                self.store_failed(now, error, out);
                let next_at = now + self.retry_pause();
                let Some(departure) = &mut self.departure else {
                    return;
                };
                departure.next_at = next_at;
                if departure.attempts >= RELEASE_ATTEMPTS {
                    let free_at = self.snapshot.tenure.map_or(now, |tenure| tenure.ends_at);
                    self.departed(now, Reason::ReleaseFailed, free_at, out);
                }
            }
        }
    }

    /// The lease is given back, or left to run out.
    pub(super) fn departed(
        &mut self,
        now: Moment,
        reason: Reason,
        free_at: Moment,
        out: &mut Vec<Action>,
    ) {
        if let Some(departure) = self.departure.take() {
            self.cooldown_until = free_at + departure.cooldown;
            if departure.prefer.is_some() {
                self.defer_until = now + self.settings.timing.call_timeout() * 2;
            }
        }
        self.renewing = None;
        let transition = self.snapshot.lose(now, reason);
        out.push(Action::Announce(transition));
        self.plan_try(now, free_at);
        self.look_at_heard(now);
    }

    pub(super) fn store_answered(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.failures = 0;
        let before = self.snapshot.store.connected;
        self.snapshot.store = StoreHealth {
            connected: true,
            last_success: Some(now),
            trouble: None,
        };
        if !before {
            let from = self.snapshot.state();
            if self.snapshot.role == Role::Starting {
                self.snapshot.role = Role::Waiting;
            }
            self.announce(now, from, EventKind::BackendUp, Reason::StoreAnswered, out);
        }
    }

    pub(super) fn store_failed(&mut self, now: Moment, error: StoreError, out: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        let first = self.snapshot.store.trouble.is_none();
        self.snapshot.store.connected = false;
        self.snapshot.store.trouble = Some(error.to_string());
        if first {
            let from = self.snapshot.state();
            self.announce(now, from, EventKind::BackendDown, Reason::StoreTrouble, out);
        }
    }
}
