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

mod settings;
mod snapshot;
mod transition;

use std::time::Duration;

pub use settings::Settings;
pub use snapshot::{Leader, Role, Snapshot, State, StoreHealth, Tenure};
pub use transition::{EventKind, Reason, Transition};

use crate::lease::{
    Acquired, Epoch, Hint, Holder, NodeId, Released, Renewed, SessionId, StoreError,
};
use crate::time::Moment;

/// Rounding: a store in milliseconds frees a lease after its last whole one.
const ROUNDING: Duration = Duration::from_millis(1);
/// How often giving a lease back is tried.
const RELEASE_ATTEMPTS: u32 = 3;

/// Names one call to the store, so that a late answer to an older one is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Wake,
    /// The answer to [`Action::Acquire`].
    Acquired(CallId, Result<Acquired, StoreError>),
    /// The answer to [`Action::Renew`].
    Renewed(CallId, Result<Renewed, StoreError>),
    /// The answer to [`Action::Release`].
    Released(CallId, Result<Released, StoreError>),
    /// The store hinted at a change.
    Hint(Hint),
    /// The app of a leadership that ended is confirmed stopped.
    Drained,
    /// Give leadership up, and campaign last for `cooldown`.
    StepDown {
        /// For how long the others go first.
        cooldown: Duration,
        /// Who may try before the others.
        to: Option<NodeId>,
    },
    /// Give leadership up and end.
    Stop,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for the lease.
    Acquire {
        /// Which call it is.
        call: CallId,
        /// The bid's floor.
        floor: Option<Epoch>,
        /// The bid's claim to be the incumbent.
        incumbent: bool,
        /// The bid's hold.
        hold: Duration,
    },
    /// Prolong the lease.
    Renew {
        /// Which call it is.
        call: CallId,
        /// Of this epoch.
        epoch: Epoch,
    },
    /// Give the lease back.
    Release {
        /// Which call it is.
        call: CallId,
        /// Of this epoch.
        epoch: Epoch,
        /// Who may try before the others.
        prefer: Option<NodeId>,
    },
    /// Stop the app, by the `ends_at` of the lease at the latest, then say `Drained`.
    Drain,
    /// Tell everybody.
    Announce(Transition),
    /// Another session holds the lease under this node's own id.
    WarnSameId(SessionId),
    /// The machine has nothing left to do.
    Finished,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    id: CallId,
    sent_at: Moment,
}

/// The app of a leadership that ended; no campaign until it is gone.
#[derive(Clone, Copy, Debug)]
struct Leftover {
    over_at: Moment,
}

/// A leadership being given up.
#[derive(Clone, Debug)]
struct Departure {
    prefer: Option<NodeId>,
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
        Self {
            longest_ttl: settings.timing.ttl(),
            snapshot: Snapshot::new(floor),
            settings,
            floor,
            calls: 0,
            acquiring: None,
            renewing: None,
            releasing: None,
            try_at: Moment::default(),
            renew_at: Moment::default(),
            defer_until: Moment::default(),
            cooldown_until: Moment::default(),
            recheck_below: None,
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
                _ => self.renewal_due(),
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
            Input::Renewed(call, answer) => self.on_renewed(now, call, answer, out),
            Input::Released(call, answer) => self.on_released(now, call, answer, out),
            Input::Hint(hint) => self.on_hint(now, hint, out),
            Input::Drained => self.on_drained(now),
            Input::StepDown { cooldown, to } => {
                if self.snapshot.role == Role::Leading {
                    self.cooldown_until = now + cooldown;
                    self.depart(now, Reason::StepDown, to, out);
                }
            }
            Input::Stop => {
                self.snapshot.stopping = true;
                self.depart(now, Reason::Shutdown, None, out);
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
        if self.settings.drains && !drained {
            self.leftover = (now < tenure.ends_at).then_some(Leftover {
                over_at: tenure.ends_at,
            });
            if asked.is_none() {
                out.push(Action::Drain);
            }
        }
        self.plan_try(now, now);
    }

    fn on_acquired(
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
                self.name_leader(now, None, out);
                self.snapshot.hold = Some(why);
                self.plan_try(now, now + retry_in + ROUNDING);
            }
        }
    }

    fn won(
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
        if dead || now >= leads_until || self.snapshot.stopping {
            // Dead here, or too late to lead under it, which makes it so; freeing it
            // spares the others the wait. Its answer matters to nobody.
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

    fn held(&mut self, now: Moment, holder: Holder, left: Duration, out: &mut Vec<Action>) {
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
        self.name_leader(now, Some(leader), out);
        self.plan_try(now, free_at + ROUNDING);
    }

    fn on_renewed(
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
                self.store_answered(now, out);
                self.prolong(call.sent_at, left);
            }
            Ok(Renewed::Lost(holder)) => {
                self.store_answered(now, out);
                self.revoked(now, holder, out);
            }
        }
    }

    fn prolong(&mut self, sent_at: Moment, left: Duration) {
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

    fn revoked(&mut self, now: Moment, holder: Option<Holder>, out: &mut Vec<Action>) {
        let Some(tenure) = self.snapshot.tenure else {
            return;
        };
        let led = self.snapshot.role == Role::Leading;
        let transition = self.snapshot.lose(now, Reason::Revoked);
        out.push(Action::Announce(transition));
        // Nobody holds it and nobody can before `ends_at`: the store forgot.
        self.former = (led && holder.is_none()).then_some(tenure);
        if let Some(holder) = holder {
            self.see(holder.epoch);
        }
        self.after_loss(now, tenure, out);
    }

    fn on_released(
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
    fn departed(&mut self, now: Moment, reason: Reason, free_at: Moment, out: &mut Vec<Action>) {
        let prefer = self.departure.take().and_then(|departure| departure.prefer);
        if prefer.is_some_and(|node| node != self.settings.node) {
            self.defer_until = now + self.settings.timing.call_timeout() * 2;
        }
        self.renewing = None;
        let transition = self.snapshot.lose(now, reason);
        out.push(Action::Announce(transition));
        self.plan_try(now, free_at);
    }

    fn on_hint(&mut self, now: Moment, hint: Hint, out: &mut Vec<Action>) {
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
                    self.look_again(now, Some(epoch));
                }
            }
            Hint::Ended { epoch, prefer } => {
                if Some(epoch) < known {
                    return;
                }
                self.name_leader(now, None, out);
                if prefer.is_some_and(|node| node != self.settings.node) {
                    self.defer_until = now + self.settings.timing.call_timeout() * 2;
                }
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
    fn look_again(&mut self, now: Moment, recheck_below: Option<Epoch>) {
        if self.acquiring.is_some() {
            self.recheck_below = self.recheck_below.max(recheck_below);
        } else {
            self.plan_try(now, now);
        }
    }

    /// A hint that somebody else was granted the lease, or that hints were missed,
    /// makes the holder ask early; only the answer counts.
    fn hint_to_holder(&mut self, now: Moment, hint: &Hint) {
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

    fn on_drained(&mut self, now: Moment) {
        self.leftover = None;
        if let Some(departure) = &mut self.departure
            && !departure.drained
        {
            departure.drained = true;
            departure.next_at = now;
        }
    }

    /// Not leader first, then the app, then the lease: the one order of stopping.
    fn depart(&mut self, now: Moment, why: Reason, to: Option<NodeId>, out: &mut Vec<Action>) {
        if self.snapshot.role != Role::Leading {
            return;
        }
        let from = self.snapshot.state();
        self.snapshot.role = Role::Draining;
        self.departure = Some(Departure {
            prefer: to,
            drained: !self.settings.drains,
            attempts: 0,
            next_at: now,
        });
        let transition = self
            .snapshot
            .transition(now, from, EventKind::Releasing, why);
        out.push(Action::Announce(transition));
        if self.settings.drains {
            out.push(Action::Drain);
        }
    }

    /// Makes the calls that are due at `now`.
    fn proceed(&mut self, now: Moment, out: &mut Vec<Action>) {
        match self.snapshot.role {
            Role::Leading => self.renew_if_due(now, out),
            Role::Draining => {
                if self
                    .departure
                    .as_ref()
                    .is_some_and(|departure| departure.drained)
                {
                    self.release_if_due(now, out);
                } else {
                    self.renew_if_due(now, out);
                }
            }
            Role::Starting | Role::Waiting if self.snapshot.stopping => {
                if self.acquiring.is_none() && self.leftover.is_none() {
                    self.snapshot.role = Role::Stopped;
                    out.push(Action::Finished);
                }
            }
            Role::Starting | Role::Waiting => self.acquire_if_due(now, out),
            Role::Stopped => {}
        }
    }

    fn renew_if_due(&mut self, now: Moment, out: &mut Vec<Action>) {
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

    fn release_if_due(&mut self, now: Moment, out: &mut Vec<Action>) {
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

    fn acquire_if_due(&mut self, now: Moment, out: &mut Vec<Action>) {
        if self.acquiring.is_some() || self.leftover.is_some() || self.try_at > now {
            return;
        }
        let call = self.next_call();
        self.acquiring = Some(Call {
            id: call,
            sent_at: now,
        });
        let incumbent = self
            .former
            .is_some_and(|former| Some(former.epoch) == self.floor && now < former.leads_until);
        out.push(Action::Acquire {
            call,
            floor: self.floor,
            incumbent,
            hold: self.settings.timing.hold(self.longest_ttl),
        });
    }

    /// Plans a try for when the lease is free at `free_at`. Preference and cooldown
    /// are delays, not protocol: they cost the others at most 2 × call_timeout.
    fn plan_try(&mut self, now: Moment, free_at: Moment) {
        let mut at = free_at.max(now);
        if self.cooldown_until > at {
            at = at + self.settings.timing.call_timeout() * 2;
        }
        self.try_at = at.max(self.defer_until);
    }

    fn name_leader(&mut self, now: Moment, leader: Option<Leader>, out: &mut Vec<Action>) {
        let epoch = |leader: &Leader| leader.holder.epoch;
        let same = self.snapshot.leader.as_ref().map(epoch) == leader.as_ref().map(epoch);
        self.snapshot.hold = None;
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

    fn store_answered(&mut self, now: Moment, out: &mut Vec<Action>) {
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

    fn store_failed(&mut self, now: Moment, error: StoreError, out: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        let first = self.snapshot.store.trouble.is_none();
        self.snapshot.store.connected = false;
        self.snapshot.store.trouble = Some(error.to_string());
        if first {
            let from = self.snapshot.state();
            self.announce(now, from, EventKind::BackendDown, Reason::StoreTrouble, out);
        }
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

    fn next_call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// Between tries while the store is in trouble: doubling from a quarter of a
    /// call, at most a renewal's interval, give or take a quarter.
    fn backoff(&mut self) -> Duration {
        let timing = &self.settings.timing;
        let doubled = timing.call_timeout() / 4 * (1 << self.failures.min(10));
        let span = doubled.min(timing.renew_every());
        span.mul_f64(0.75 + self.random.f64() / 2.0)
    }

    /// Between renewals or releases of a lease whose end comes nearer.
    fn retry_pause(&mut self) -> Duration {
        let span = self.settings.timing.call_timeout() / 4;
        span.mul_f64(0.75 + self.random.f64() / 2.0)
    }
}
