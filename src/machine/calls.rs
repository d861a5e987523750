//! Which calls are due, and how long to wait between them.

use std::time::Duration;

use super::{Action, Call, CallId, Machine, Role};
use crate::time::Moment;

impl Machine {
    /// Makes the calls that are due at `now`.
    pub(super) fn proceed(&mut self, now: Moment, out: &mut Vec<Action>) {
        match self.snapshot.role {
            Role::Leading => self.renew_if_due(now, out),
            Role::Draining => {
                let (drained, drain_until) = match &self.departure {
                    Some(departure) => (departure.drained, departure.drain_until),
                    None => (false, now),
                };
                if drained {
                    self.release_if_due(now, out);
                } else if now < drain_until {
                    self.renew_if_due(now, out);
                } else {
                    // Due no more: the lease runs out.
                    self.renew_at = self.renew_at.max(drain_until);
                }
            }
            Role::Starting | Role::Waiting if self.snapshot.stopping => {
                if self.acquiring.is_none() && self.leftover.is_none() {
                    self.snapshot.role = Role::Stopped;
                    out.push(Action::Finished);
                }
            }
            Role::Starting | Role::Waiting => self.ask_if_due(now, out),
            Role::Stopped => {}
        }
    }

    pub(super) fn renew_if_due(&mut self, now: Moment, out: &mut Vec<Action>) {
        let Some(tenure) = self.snapshot.tenure else {
            return;
        };
        if self.renewing.is_none() && self.renew_at <= now {
            let call = self.next_call();
            self.renewing = Some(Call {
                id: call,
                sent_at: now,
            });
            let epoch = tenure.epoch;
            out.push(Action::Renew { call, epoch });
        }
    }

    pub(super) fn release_if_due(&mut self, now: Moment, out: &mut Vec<Action>) {
        let call = CallId(self.calls + 1);
        let (Some(tenure), Some(departure)) = (self.snapshot.tenure, &mut self.departure) else {
            return;
        };
        if self.releasing.is_some() || departure.next_at > now {
            return;
        }
        departure.attempts += 1;
        let prefer = departure.prefer.clone();
        self.calls = call.0;
        self.releasing = Some(Call {
            id: call,
            sent_at: now,
        });
        let epoch = tenure.epoch;
        out.push(Action::Release {
            call,
            epoch,
            prefer,
        });
    }

    pub(super) fn ask_if_due(&mut self, now: Moment, out: &mut Vec<Action>) {
        if self.acquiring.is_some() || self.leftover.is_some() || self.try_at > now {
            return;
        }
        let call = self.next_call();
        self.acquiring = Some(Call {
            id: call,
            sent_at: now,
        });
        if !self.may_try(now) {
            out.push(Action::Observe { call });
            return;
        }
        out.push(Action::Acquire {
            call,
            floor: self.floor,
            incumbent: self.is_incumbent(now),
            hold: self.settings.timing.hold(self.longest_ttl),
        });
    }

    /// Whether to ask *for* the lease. Asking is also the question who holds it, so whoever
    /// has nothing to wait for just asks. A node that lets others go first looks, and asks
    /// when its delay has passed on a lease that it knows to be free: one that asked at
    /// the word of a grant could win a lease released in that very moment.
    fn may_try(&self, now: Moment) -> bool {
        let waited = || self.free_from.is_some_and(|from| from <= now);
        self.is_candidate() && (self.after_manners(now, now) == now || waited())
    }

    pub(super) fn next_call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// Between tries while the store is in trouble: doubling from a quarter of a
    /// call, at most a renewal's interval, give or take a quarter.
    pub(super) fn backoff(&mut self) -> Duration {
        let timing = &self.settings.timing;
        let doubled = timing.call_timeout() / 4 * (1 << self.failures.min(10));
        let span = doubled.min(timing.renew_every());
        span.mul_f64(0.75 + self.random.f64() / 2.0)
    }

    /// Between renewals or releases of a lease whose end comes nearer.
    pub(super) fn retry_pause(&mut self) -> Duration {
        let span = self.settings.timing.call_timeout() / 4;
        span.mul_f64(0.75 + self.random.f64() / 2.0)
    }
}
