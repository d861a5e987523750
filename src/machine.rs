//! The election machine: one node's part in one election, as a pure function.
//!
//! The shell calls [`Machine::step`] with the present moment and what happened; the
//! machine answers with [`Action`]s, and with [`Machine::wake_at`], the moment when
//! it wants to be called again. It does no I/O, reads no clock and awaits nothing,
//! so that a simulation can run years of it and replay any second.
//!
//! # Invariants
//! - `leads_until` is counted from the moment *before* the send of the request that
//!   was granted; an answer processed after the moment it would grant is discarded.
//! - An epoch that this node has led under, or was granted too late, is in `floor`
//!   and never led under again.
//! - A release is sent only when the app is confirmed stopped. Until then the lease
//!   is renewed (on a voluntary step-down) or runs out.
//! - An uncertain answer prolongs nothing and ends nothing: only the store's clear
//!   word or the clock ends leadership.
//! - At most one acquire, one renewal and one release are under way.

mod answers;
mod calls;
mod candidacy;
mod hints;
mod input;
mod settings;
mod snapshot;
mod standing;
mod state;
mod transition;

use std::time::Duration;

pub use input::{Action, CallId, Input};
pub use settings::Settings;
pub use snapshot::{Leader, Role, Snapshot, StoreHealth, Tenure};
pub use standing::{AppHealth, Percent, campaign_delay};
pub use state::State;
pub use transition::{EventKind, Reason, Transition};

use crate::lease::{Epoch, HoldReason, NodeId, SessionId};
use crate::time::Moment;

/// Rounding: a store in milliseconds frees a lease after its last whole one.
const ROUNDING: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
struct Call {
    id: CallId,
    sent_at: Moment,
}

/// The app of a leadership that ended; no campaign until it is gone.
#[derive(Clone, Copy, Debug)]
struct Leftover {
    epoch: Epoch,
    over_at: Moment,
}

/// A leadership being given up.
#[derive(Clone, Debug)]
struct Departure {
    prefer: Option<NodeId>,
    /// Counted from the end of the lease: the app may drain for longer than this.
    cooldown: Duration,
    /// No renewal afterwards: an app that does not stop must not keep the lease.
    drain_until: Moment,
    drained: bool,
    attempts: u32,
    next_at: Moment,
}

/// One node's part in one election.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    snapshot: Snapshot,
    floor: Option<Epoch>,
    longest_ttl: Duration,
    calls: u64,
    /// Whether this node may be granted the lease, as far as the shell is concerned.
    candidate: bool,
    /// What was last told of the app's health.
    told_health: Option<AppHealth>,
    /// Since when, or from when on, this node asks for a lease that it knows to be free:
    /// its own delay is over then. Nothing while another is known to hold it.
    free_from: Option<Moment>,
    /// An acquire or, where it is not this node's turn, a look at who holds the lease.
    acquiring: Option<Call>,
    renewing: Option<Call>,
    releasing: Option<Call>,
    try_at: Moment,
    renew_at: Moment,
    /// Another candidate goes first until then.
    defer_until: Moment,
    /// This node goes last until then.
    cooldown_until: Moment,
    /// A holder of a lower epoch than this, told by an answer under way, is old news.
    recheck_below: Option<Epoch>,
    /// A grant that was heard of while this node's own lease was not yet over for it.
    heard_of: Option<Epoch>,
    /// A lease that the store denied while it stood: the claim to be the incumbent.
    former: Option<Tenure>,
    leftover: Option<Leftover>,
    departure: Option<Departure>,
    warned_of: Option<SessionId>,
    failures: u32,
    random: fastrand::Rng,
}

impl Machine {
    /// A machine that asks for the lease at its first step. `floor` is the highest
    /// epoch that an earlier life of this node remembered.
    #[must_use]
    pub fn new(settings: Settings, floor: Option<Epoch>) -> Self {
        let random = fastrand::Rng::with_seed(settings.seed);
        let mut snapshot = Snapshot::new(floor);
        snapshot.health = settings.health;
        Self {
            longest_ttl: settings.timing.ttl(),
            snapshot,
            told_health: settings.health,
            free_from: None,
            settings,
            floor,
            calls: 0,
            candidate: true,
            acquiring: None,
            renewing: None,
            releasing: None,
            try_at: Moment::default(),
            renew_at: Moment::default(),
            defer_until: Moment::default(),
            cooldown_until: Moment::default(),
            recheck_below: None,
            heard_of: None,
            former: None,
            leftover: None,
            departure: None,
            warned_of: None,
            failures: 0,
            random,
        }
    }

    /// What the node knows, for readers; ask it with the present moment.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// When the next step is due though nothing happens; `None` where only an
    /// answer or a command moves the machine on.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        let due = match self.snapshot.role {
            Role::Stopped => return None,
            Role::Leading => self.renewal_due(),
            Role::Draining => match &self.departure {
                Some(departure) if departure.drained => {
                    self.releasing.is_none().then_some(departure.next_at)
                }
                Some(departure) => {
                    let due = self.renewal_due();
                    due.filter(|due| *due < departure.drain_until)
                }
                None => None,
            },
            Role::Starting | Role::Waiting => self.campaign_due(),
        };
        [due, self.snapshot.changes_at()]
            .into_iter()
            .flatten()
            .min()
    }

    fn renewal_due(&self) -> Option<Moment> {
        self.renewing.is_none().then_some(self.renew_at)
    }

    fn campaign_due(&self) -> Option<Moment> {
        let leftover = self.leftover.map(|leftover| leftover.over_at);
        if self.snapshot.stopping {
            return leftover;
        }
        let try_at = self.try_at.max(leftover.unwrap_or_default());
        self.acquiring.is_none().then_some(try_at)
    }

    /// Takes in what happened by `now` and appends what is to be done. Deadlines of
    /// the calls among `out` count from `now`: make them after, not before.
    pub fn step(&mut self, now: Moment, input: Input, out: &mut Vec<Action>) {
        self.settle(now, out);
        match input {
            Input::Wake => {}
            Input::Acquired(call, answer) => self.on_acquired(now, call, answer, out),
            Input::Observed(call, answer) => self.on_observed(now, call, answer, out),
            Input::Renewed(call, answer) => self.on_renewed(now, call, answer, out),
            Input::Released(call, answer) => self.on_released(now, call, answer, out),
            Input::Hint(hint) => self.on_hint(now, hint, out),
            Input::Drained(epoch) => self.on_drained(now, epoch),
            Input::AppEnded { epoch, cooldown } if self.own_epoch() == Some(epoch) => {
                self.depart(now, Reason::AppEnded, cooldown, None, out);
            }
            Input::AppUnfit { epoch, cooldown } if self.own_epoch() == Some(epoch) => {
                self.depart(now, Reason::Unhealthy, cooldown, None, out);
            }
            // Of an app of another tenure.
            Input::AppEnded { .. } | Input::AppUnfit { .. } => {}
            Input::Candidacy(candidate) => {
                let before = self.is_candidate();
                self.candidate = candidate;
                self.after_candidacy(now, before);
            }
            Input::Health(health) => self.on_health(now, health, out),
            Input::StepDown { cooldown, to } => {
                self.depart(now, Reason::StepDown, cooldown, to, out);
            }
            Input::Stop => {
                self.snapshot.stopping = true;
                self.depart(now, Reason::Shutdown, Duration::ZERO, None, out);
            }
        }
        self.proceed(now, out);
    }

    /// Lets run out what has; every step begins with it, so no input is ever judged
    /// under a lease that is over.
    fn settle(&mut self, now: Moment, out: &mut Vec<Action>) {
        if self
            .leftover
            .is_some_and(|leftover| leftover.over_at <= now)
        {
            self.leftover = None;
        }
        let tenure = self.snapshot.tenure;
        if let Some(transition) = self.snapshot.settle(now) {
            out.push(Action::Announce(transition));
            if let Some(tenure) = tenure {
                self.after_loss(now, tenure, out);
            }
        }
    }

    /// What follows the end of a lease, however it ended.
    fn after_loss(&mut self, now: Moment, tenure: Tenure, out: &mut Vec<Action>) {
        self.renewing = None;
        self.releasing = None;
        let asked = self.departure.take();
        let drained = asked.as_ref().is_some_and(|departure| departure.drained);
        if let Some(departure) = &asked {
            self.cooldown_until = now + departure.cooldown;
        }
        if self.settings.drain.is_some() && !drained {
            self.leftover = (now < tenure.ends_at).then_some(Leftover {
                epoch: tenure.epoch,
                over_at: tenure.ends_at,
            });
            if asked.is_none() {
                out.push(Action::Drain);
            }
        }
        self.plan_try(now, now);
        self.look_at_heard(now);
    }

    fn own_epoch(&self) -> Option<Epoch> {
        self.snapshot.tenure.map(|tenure| tenure.epoch)
    }

    /// Only of the app of that epoch: a late word of an earlier one must not release a
    /// lease under which a newer app works.
    fn on_drained(&mut self, now: Moment, epoch: Epoch) {
        self.leftover.take_if(|leftover| leftover.epoch == epoch);
        let own = self.own_epoch() == Some(epoch);
        if let Some(departure) = &mut self.departure
            && own
            && !departure.drained
        {
            departure.drained = true;
            departure.next_at = now;
        }
    }

    /// Not leader first, then the app, then the lease: the one order of stopping.
    fn depart(
        &mut self,
        now: Moment,
        why: Reason,
        cooldown: Duration,
        to: Option<NodeId>,
        out: &mut Vec<Action>,
    ) {
        if self.snapshot.role != Role::Leading {
            return;
        }
        let from = self.snapshot.state();
        self.snapshot.role = Role::Draining;
        self.departure = Some(Departure {
            // Who leaves does not go first: it goes last.
            prefer: to.filter(|node| *node != self.settings.node),
            cooldown,
            drain_until: now + self.settings.drain.unwrap_or_default(),
            drained: self.settings.drain.is_none(),
            attempts: 0,
            next_at: now,
        });
        let transition = self
            .snapshot
            .transition(now, from, EventKind::Releasing, why);
        out.push(Action::Announce(transition));
        if self.settings.drain.is_some() {
            out.push(Action::Drain);
        }
    }

    /// Plans a try for when the lease is free at `free_at`; but while another is known to
    /// hold the lease, the question whether it still does is due without manners.
    fn plan_try(&mut self, now: Moment, free_at: Moment) {
        let at = free_at.max(now);
        self.try_at = at;
        self.free_from = None;
        if self.snapshot.leader.is_none() {
            self.try_at = self.after_manners(now, at);
            self.free_from = Some(self.try_at);
        }
    }

    fn name_leader(
        &mut self,
        now: Moment,
        leader: Option<Leader>,
        hold: Option<HoldReason>,
        out: &mut Vec<Action>,
    ) {
        let epoch = |leader: &Leader| leader.holder.epoch;
        let same = self.snapshot.leader.as_ref().map(epoch) == leader.as_ref().map(epoch);
        self.snapshot.hold = hold;
        if same {
            self.snapshot.leader = leader;
        } else {
            let transition = self.snapshot.set_leader(now, leader);
            out.push(Action::Announce(transition));
        }
    }

    fn see(&mut self, epoch: Epoch) {
        self.floor = self.floor.max(Some(epoch));
        self.snapshot.term = self.floor;
    }

    fn announce(
        &mut self,
        now: Moment,
        from: State,
        kind: EventKind,
        reason: Reason,
        out: &mut Vec<Action>,
    ) {
        let transition = self.snapshot.transition(now, from, kind, reason);
        out.push(Action::Announce(transition));
    }
}
