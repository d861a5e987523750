//! What wake-ups change: only when the store is asked, never what is believed of a
//! lease.

use super::{Action, Machine};
use crate::lease::{Epoch, Hint};
use crate::time::Moment;

impl Machine {
    pub(super) fn on_hint(&mut self, now: Moment, hint: Hint, out: &mut Vec<Action>) {
        if self.snapshot.tenure.is_some() {
            return self.hint_to_holder(now, &hint);
        }
        let known = self
            .snapshot
            .leader
            .as_ref()
            .map(|leader| leader.holder.epoch);
        match hint {
            Hint::Gap => self.try_at = self.try_at.min(now),
            Hint::Began(epoch) => {
                if Some(epoch) > known {
                    self.look_at_grant(now, epoch);
                }
            }
            Hint::Ended { epoch, prefer } => {
                if Some(epoch) < known {
                    return;
                }
                self.name_leader(now, None, None, out);
                // What an earlier release asked for is over.
                self.defer_until = match prefer {
                    Some(node) if node != self.settings.node => {
                        now + self.settings.timing.call_timeout() * 2
                    }
                    _ => now,
                };
                self.look_again(now, Epoch::new(epoch.get() + 1).ok());
            }
            Hint::Present(observed) => match observed.holder {
                Some((holder, _)) if Some(holder.epoch) <= known => {}
                Some((holder, _)) => self.look_at_grant(now, holder.epoch),
                // A hold told its end; nothing but a new leader changes that. But who was only
                // asked to come again may be called sooner.
                None if self.snapshot.hold.is_some_and(|why| !why.passes()) => {}
                None => {
                    let after = observed
                        .epoch
                        .and_then(|epoch| Epoch::new(epoch.get() + 1).ok());
                    self.look_again(now, after);
                }
            },
        }
    }

    /// Asks the store at once; an answer under way that is older than the hint is
    /// followed by another.
    pub(super) fn look_again(&mut self, now: Moment, recheck_below: Option<Epoch>) {
        if self.acquiring.is_some() {
            self.recheck_below = self.recheck_below.max(recheck_below);
        } else {
            self.plan_try(now, now);
        }
    }

    /// Asks who was granted that epoch. The delays are manners about a free lease; a
    /// lease that was just granted is not free, and without asking a node in its
    /// cooldown would know of no leader until it is over. An epoch seen before, such
    /// as this node's own, tells of no new grant.
    fn look_at_grant(&mut self, now: Moment, epoch: Epoch) {
        let fresh = Some(epoch) > self.floor;
        if fresh {
            // Whoever was to go first has gone; and whoever was the incumbent is not
            // any more, even should the store forget this grant, too.
            self.defer_until = now;
            self.former = None;
        }
        self.look_again(now, Some(epoch));
        if fresh && self.acquiring.is_none() {
            self.try_at = now;
        }
    }

    /// The next grant may be told before the answer to this node's release.
    pub(super) fn look_at_heard(&mut self, now: Moment) {
        if let Some(epoch) = self.heard_of.take() {
            self.look_at_grant(now, epoch);
        }
    }

    /// A hint that somebody else was granted the lease, or that hints were missed,
    /// makes the holder ask early; only the answer counts.
    pub(super) fn hint_to_holder(&mut self, now: Moment, hint: &Hint) {
        let own = self.snapshot.tenure.map(|tenure| tenure.epoch);
        let doubt = match hint {
            Hint::Gap => true,
            Hint::Began(epoch) => Some(*epoch) > own,
            Hint::Ended { .. } => false,
            Hint::Present(observed) => {
                observed.holder.as_ref().map(|(holder, _)| holder.epoch) != own
            }
        };
        if let Hint::Began(epoch) = hint {
            self.heard_of = self
                .heard_of
                .max(Some(*epoch).filter(|epoch| Some(*epoch) > own));
        }
        if doubt {
            self.renew_at = self.renew_at.min(now);
        }
    }
}
