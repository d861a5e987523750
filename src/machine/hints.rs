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
                    // Whoever was to go first has gone: nothing is left to wait for, and
                    // a node in cooldown learns the leader like all others. A late hint
                    // of a grant seen before, such as its own, ends no cooldown.
                    let news = Some(epoch) > self.floor;
                    if news {
                        self.defer_until = now;
                    }
                    self.look_again(now, Some(epoch));
                    if news {
                        self.try_at = now;
                    }
                }
            }
            Hint::Ended { epoch, prefer } => {
                if Some(epoch) < known {
                    return;
                }
                self.name_leader(now, None, out);
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
                Some((holder, _)) => self.look_again(now, Some(holder.epoch)),
                // A hold told its end; nothing but a new leader changes that.
                None if self.snapshot.hold.is_some() => {}
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
        if doubt {
            self.renew_at = self.renew_at.min(now);
        }
    }
}
