//! Whether and how early this node asks for the lease: what the shell and the app's
//! health have to say.

use super::{Action, AppHealth, EventKind, Machine, ROUNDING, Reason, Role, campaign_delay};
use crate::time::Moment;

impl Machine {
    pub(super) fn is_candidate(&self) -> bool {
        let unfit = self.snapshot.health.is_some_and(|health| !health.healthy);
        self.candidate && !unfit
    }

    /// An app that is not fit to lead gives leadership up, and is no candidate.
    pub(super) fn on_health(&mut self, now: Moment, health: AppHealth, out: &mut Vec<Action>) {
        if self.snapshot.role == Role::Stopped {
            return;
        }
        let before = self.is_candidate();
        self.snapshot.health = Some(health);
        if health.differs_from(self.told_health) {
            let told = self.told_health.replace(health);
            let why = match health.healthy {
                false => Reason::Unhealthy,
                true if told.is_some_and(|told| told.healthy) => Reason::ScoreChanged,
                true => Reason::Healthy,
            };
            let from = self.snapshot.state();
            self.announce(now, from, EventKind::HealthChanged, why, out);
        }
        if !health.healthy {
            // The others go first for a while, even where it is well again at once.
            let cooldown = self.settings.timing.ttl();
            self.depart(now, Reason::Unhealthy, cooldown, None, out);
        }
        self.after_candidacy(now, before);
    }

    /// A node that becomes a candidate asks when the lease is free; one that ceases to be
    /// one looks when it would have asked.
    pub(super) fn after_candidacy(&mut self, now: Moment, before: bool) {
        let begins = self.is_candidate() && !before;
        if begins && self.snapshot.tenure.is_none() && self.snapshot.hold.is_none() {
            let leader = self.snapshot.leader.as_ref();
            let free_at = leader.map_or(now, |leader| leader.free_at + ROUNDING);
            self.plan_try(now, free_at);
        }
    }

    /// Whether this node still holds a claim that goes before every hold and manners.
    pub(super) fn is_incumbent(&self, now: Moment) -> bool {
        self.former
            .is_some_and(|former| Some(former.epoch) == self.floor && now < former.leads_until)
    }

    /// When this node asks for a lease that is free at `free_at`. Preference and cooldown
    /// are delays, not protocol: they cost the others at most 2 × call_timeout. So are
    /// priority and score. Who goes last waits for those who wait for the preferred one,
    /// which may not be there.
    pub(super) fn after_manners(&self, now: Moment, free_at: Moment) -> Moment {
        if self.is_incumbent(now) {
            return free_at;
        }
        let call_timeout = self.settings.timing.call_timeout();
        let mut at = free_at.max(self.defer_until);
        if self.cooldown_until > free_at {
            at = at + call_timeout * 2;
        }
        at + campaign_delay(self.settings.priority, self.snapshot.health, call_timeout)
    }
}
