//! The machine's steps, and the calls that follow from them.

use std::time::Duration;

use tenure::lease::{Acquired, Bid, Claim, Epoch, Profile, StoreError};
use tenure::machine::{Action, CallId, Input, Percent};
use tenure::time::Moment;

use super::super::clock::MS;
use super::super::mutants::Mutant;
use super::super::store::{Answer, Request};
use super::super::world::{Event, World};
use super::{Call, Kind, Pending, STEPS_PER_TTL, Stimulus};

impl World {
    /// The first of answer and timeout counts; whatever comes later finds no caller.
    pub(super) fn answered(
        &mut self,
        node: usize,
        call: Call,
        answer: Result<Answer, StoreError>,
    ) -> Option<Input> {
        let pending = self.nodes[node].calls.remove(&call)?;
        let id = match call {
            Call::Machine(id) => CallId(id),
            _ => {
                self.app_answered(node, pending.kind, answer);
                return None;
            }
        };
        match (pending.kind, answer) {
            (Kind::Acquire, Ok(Answer::Acquired(answer))) => {
                let answer = self.on_acquire_answer(node, pending.sent_at, answer);
                Some(Input::Acquired(id, Ok(answer)))
            }
            (Kind::Acquire, Err(error)) => Some(Input::Acquired(id, Err(error))),
            (Kind::Observe, Ok(Answer::Observed(mut answer))) => {
                let shell = &mut self.nodes[node];
                shell.memory = shell.memory.max(answer.epoch);
                let own = &shell.session;
                answer.holder.take_if(|(holder, _)| holder.session == *own);
                Some(Input::Observed(id, Ok(answer)))
            }
            (Kind::Observe, Err(error)) => Some(Input::Observed(id, Err(error))),
            (Kind::Renew, Ok(Answer::Renewed(mut answer))) => {
                if let tenure::lease::Renewed::Kept { left } = &mut answer {
                    *left = self.plant_in_left(node, pending.sent_at, *left);
                }
                Some(Input::Renewed(id, Ok(answer)))
            }
            (Kind::Renew, Err(error)) => Some(Input::Renewed(id, Err(error))),
            (Kind::Release, Ok(Answer::Released(answer))) => Some(Input::Released(id, Ok(answer))),
            (Kind::Release, Err(error)) => Some(Input::Released(id, Err(error))),
            (kind, answer) => panic!("{kind:?} was answered by {answer:?}"),
        }
    }

    pub(super) fn plant_in_drained(&self, node: usize, epoch: Epoch) -> Epoch {
        let machine = self.nodes[node].machine.as_ref();
        let tenure = machine.and_then(|machine| machine.snapshot().tenure);
        match (self.mutant, tenure) {
            (Some(Mutant::DrainedOfAnyEpoch), Some(tenure)) => tenure.epoch,
            _ => epoch,
        }
    }

    /// No epoch reaches the machine before it is remembered.
    pub(super) fn on_acquire_answer(
        &mut self,
        node: usize,
        sent_at: Moment,
        answer: Acquired,
    ) -> Acquired {
        let seen = match &answer {
            Acquired::Won { epoch, .. } => Some(*epoch),
            Acquired::Held { holder, .. } => Some(holder.epoch),
            Acquired::Hold { .. } => None,
        };
        let shell = &mut self.nodes[node];
        shell.memory = shell.memory.max(seen);
        match answer {
            Acquired::Won { epoch, left } => Acquired::Won {
                epoch,
                left: self.plant_in_left(node, sent_at, left),
            },
            Acquired::Held { holder, left } if self.mutant == Some(Mutant::TrustsRemoteClock) => {
                // The stamp says when the lease ends by the store's wall clock.
                let left_ms = tenure::time::millis(left);
                let stamp = self.store.wall_ms(self.now) + left_ms;
                let own = (self.store.wall_ms(self.now))
                    .saturating_add_signed(self.plan.wall_off_ms[node]);
                let over = own >= stamp;
                self.nodes[node].seize = over;
                let left = if over { Duration::ZERO } else { left };
                Acquired::Held { holder, left }
            }
            other => other,
        }
    }

    pub(super) fn plant_in_left(&self, node: usize, sent_at: Moment, left: Duration) -> Duration {
        match self.mutant {
            Some(Mutant::DeadlineFromReply) => left + self.local(node).since(sent_at),
            _ => left,
        }
    }

    /// One step of the machine, judged, and what follows from it.
    pub(super) fn step(&mut self, node: usize, input: Input) {
        let now = self.local(node);
        let label = self.label(&input);
        let wake = input == Input::Wake;
        let Some(machine) = self.nodes[node].machine.as_mut() else {
            return;
        };
        let read = machine.snapshot().at(now);
        let before = machine.snapshot().revision;
        let mut actions = Vec::new();
        machine.step(now, input, &mut actions);
        let after = machine.snapshot().clone();
        let wake_at = machine.wake_at();
        self.steps += 1;
        self.note(|_| format!("node {node}: {label} -> {} {actions:?}", after.state()));
        let announced = actions
            .iter()
            .filter(|action| matches!(action, Action::Announce(_)));
        if after.revision != before + announced.count() as u64 {
            self.oracle
                .fail(|| format!("sanity: node {node} went from revision {before} to {after:?}"));
        }
        if wake && (read.revision, read.state()) != (after.revision, after.state()) {
            self.oracle
                .fail(|| format!("sanity: a reader saw {read:?}, node {node} became {after:?}"));
        }
        if wake_at.is_some_and(|due| due <= now) {
            self.oracle
                .fail(|| format!("sanity: node {node} spins: due at {wake_at:?}, now {now:?}"));
        }
        self.count_step(node);
        self.nodes[node].stored_status = after.fence_token(now);
        if let (Some(work), Some(tenure)) = (&mut self.nodes[node].work, after.tenure)
            && work.epoch == tenure.epoch
            && work.ends_at < tenure.ends_at
        {
            work.ends_at = tenure.ends_at;
            self.set_guard(node);
        }
        for action in actions {
            self.act(node, now, action);
        }
        self.set_alarm(node, wake_at);
    }

    pub(super) fn label(&self, input: &Input) -> String {
        if !self.traced() {
            return String::new();
        }
        format!("{input:?}").chars().take(150).collect()
    }

    pub(super) fn count_step(&mut self, node: usize) {
        let ttl = self.ttl();
        let shell = &mut self.nodes[node];
        if self.now >= shell.steps_since + ttl {
            shell.steps_since = self.now;
            shell.steps = 0;
        }
        shell.steps += 1;
        if shell.steps > STEPS_PER_TTL {
            self.oracle
                .fail(|| format!("sanity: node {node} stepped {STEPS_PER_TTL} times in one TTL"));
        }
    }

    pub(super) fn set_alarm(&mut self, node: usize, wake_at: Option<Moment>) {
        let late = self.rng.u64(..=MS / 2);
        let lost = self.mutant == Some(Mutant::AlarmsLost) && self.rng.bool();
        let shell = &mut self.nodes[node];
        shell.alarm = shell.next_id + 1;
        shell.next_id += 1;
        let (alarm, life) = (shell.alarm, shell.life);
        let Some(wake_at) = wake_at else { return };
        let at = shell.clock.when(wake_at).max(self.now) + late;
        if !lost {
            let stimulus = Stimulus::Alarm(alarm);
            self.queue.push(at, Event::Deliver(node, life, stimulus));
        }
    }

    pub(super) fn act(&mut self, node: usize, now: Moment, action: Action) {
        match action {
            Action::Acquire {
                call,
                floor,
                incumbent,
                hold,
            } => {
                let shell = &mut self.nodes[node];
                let bid = Bid {
                    session: shell.session.clone(),
                    profile: Profile {
                        node: shell.id.clone(),
                        url: None,
                        metadata: Vec::new(),
                    },
                    ttl: self.plan.timing.ttl(),
                    floor: floor.max(shell.memory),
                    incumbent,
                    hold,
                };
                let seize = std::mem::take(&mut shell.seize);
                let request = Request::Acquire { bid, seize };
                self.call(node, now, Call::Machine(call.0), Kind::Acquire, request);
            }
            Action::Observe { call } => {
                let waits = self.plan.priorities[node] < Percent::FULL;
                let waits = waits || self.nodes[node].lets_others_go_first;
                if !self.nodes[node].abstains && !waits && !self.plan.has_health {
                    self.oracle
                        .fail(|| format!("sanity: node {node}, a candidate, only looks"));
                }
                let call = Call::Machine(call.0);
                self.call(node, now, call, Kind::Observe, Request::Observe);
            }
            Action::Renew { call, epoch } => {
                let request = Request::Renew(self.claim(node, epoch));
                self.call(node, now, Call::Machine(call.0), Kind::Renew, request);
            }
            Action::Release {
                call,
                epoch,
                prefer,
            } => {
                if let Some(epoch) = self.app_works(node) {
                    self.oracle
                        .fail(|| format!("node {node} releases while its app works under {epoch}"));
                }
                let request = Request::Release(self.claim(node, epoch), prefer);
                self.call(node, now, Call::Machine(call.0), Kind::Release, request);
            }
            Action::Drain => self.drain(node),
            Action::Announce(transition) => self.announced(node, &transition),
            Action::WarnSameId(_) => {}
            Action::Finished => self.finished(node),
        }
    }

    pub(super) fn claim(&self, node: usize, epoch: Epoch) -> Claim {
        let timing = &self.plan.timing;
        Claim {
            epoch,
            session: self.nodes[node].session.clone(),
            ttl: timing.ttl(),
            hold: timing.hold(timing.ttl()),
        }
    }

    pub(super) fn call(
        &mut self,
        node: usize,
        now: Moment,
        call: Call,
        kind: Kind,
        request: Request,
    ) {
        let limit = self.plan.timing.call_timeout();
        let shell = &mut self.nodes[node];
        shell.quiet_requests += u64::from(matches!(call, Call::Machine(_)));
        let sent_at = now;
        shell.calls.insert(call, Pending { kind, sent_at });
        let (at, life) = (shell.clock.when(now + limit), shell.life);
        self.queue.push(
            at.max(self.now),
            Event::Deliver(node, life, Stimulus::Timeout(call)),
        );
        self.send(node, call, request);
    }
}
