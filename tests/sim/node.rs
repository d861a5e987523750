//! A sidecar's shell around one machine, and the app beside it: what
//! `src/sidecar` does with a runtime, done with events.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tenure::lease::{
    Acquired, Bid, CheckpointWrite, CheckpointWritten, Claim, Drift, Epoch, Hint, NodeId, Profile,
    Revision, SessionId, StoreError, Timing,
};
use tenure::machine::{
    Action, AppHealth, CallId, EventKind, Input, Machine, Percent, Reason, Role, Settings,
    Transition,
};
use tenure::time::Moment;

use super::clock::{MS, SimClock, TrueNs};
use super::mutants::Mutant;
use super::plan::Plan;
use super::store::{Answer, Health, Request, Stored, bytes_of};
use super::world::{Event, World};

/// Steps of one node in one TTL; the worst seen in honest histories is far below.
const STEPS_PER_TTL: u64 = 400;

/// A call to the store: the machine's, or the app's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Machine(u64),
    App(u64),
    /// Nobody waits for the answer.
    Blind,
}

/// What reaches a node. A stopped process takes it in when it goes on.
#[derive(Clone, Debug)]
pub enum Stimulus {
    Alarm(u64),
    Reply(Call, Result<Answer, StoreError>),
    Timeout(Call),
    Hint(Hint),
    Drained(Epoch),
    AppEnded(Epoch),
    Candidacy(bool),
    Health(AppHealth),
    StepDown {
        cooldown: Duration,
        to: Option<NodeId>,
    },
    Stop,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Acquire,
    Observe,
    Renew,
    Release,
    Read(Epoch),
    Write(Epoch, u64),
}

struct Pending {
    kind: Kind,
    sent_at: Moment,
}

/// The app at work under one leadership, killed by its guard at `ends_at`.
pub struct Work {
    pub id: u64,
    pub epoch: Epoch,
    pub ends_at: Moment,
}

/// What the sidecar knows of the checkpoint, and under which epoch it learnt it.
struct Known {
    epoch: Epoch,
    revision: Option<Revision>,
    count: u64,
}

pub struct Node {
    pub id: NodeId,
    pub clock: SimClock,
    pub session: SessionId,
    /// Rises with each start and each crash: what was meant for an earlier one is void.
    pub life: u32,
    pub machine: Option<Machine>,
    /// The state directory.
    pub memory: Option<Epoch>,
    pub paused_until: TrueNs,
    pub frozen: bool,
    pub cut_requests_until: TrueNs,
    pub cut_replies_until: TrueNs,
    pub quiet_requests: u64,
    /// It was told to be no candidate.
    pub abstains: bool,
    /// Whether it was ever given a cooldown, or told of a preferred successor.
    pub lets_others_go_first: bool,
    pub work: Option<Work>,
    inbox: VecDeque<Stimulus>,
    calls: BTreeMap<Call, Pending>,
    alarm: u64,
    next_id: u64,
    known: Option<Known>,
    app_call: Option<Call>,
    stored_status: Option<Epoch>,
    seize: bool,
    steps_since: TrueNs,
    steps: u64,
}

impl Node {
    pub fn new(index: usize, plan: &Plan) -> Self {
        let label = if plan.shared_id { index / 2 } else { index };
        Self {
            id: format!("node-{label}").parse().unwrap(),
            clock: plan.clocks[index],
            session: SessionId::from_bits(0),
            life: 0,
            machine: None,
            memory: None,
            paused_until: 0,
            frozen: false,
            cut_requests_until: 0,
            cut_replies_until: 0,
            quiet_requests: 0,
            abstains: false,
            lets_others_go_first: false,
            work: None,
            inbox: VecDeque::new(),
            calls: BTreeMap::new(),
            alarm: 0,
            next_id: 0,
            known: None,
            app_call: None,
            stored_status: None,
            seize: false,
            steps_since: 0,
            steps: 0,
        }
    }

    pub fn alive(&self) -> bool {
        self.machine.is_some()
    }

    /// The process is gone, and the app with it: the guard sees its pipe's end.
    pub fn die(&mut self) {
        self.life += 1;
        self.machine = None;
        self.work = None;
        self.inbox.clear();
        self.calls.clear();
        self.known = None;
        self.app_call = None;
        self.stored_status = None;
        self.seize = false;
        self.paused_until = 0;
    }

    fn next(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn paused(&self, now: TrueNs) -> bool {
        now < self.paused_until
    }
}

impl World {
    fn local(&self, node: usize) -> Moment {
        self.nodes[node].clock.at(self.now)
    }

    /// The epoch under which this node would answer "I lead" now. A stopped process
    /// answers nothing, but what it *would* say decides what it says first.
    pub fn claims(&self, node: usize) -> Option<Epoch> {
        let shell = &self.nodes[node];
        let machine = shell.machine.as_ref()?;
        if self.mutant == Some(Mutant::StatusStored) {
            return shell.stored_status;
        }
        machine.snapshot().fence_token(self.local(node))
    }

    pub fn app_works(&self, node: usize) -> Option<Epoch> {
        let work = self.nodes[node].work.as_ref()?;
        let guarded = self.mutant != Some(Mutant::NoGuard);
        (!guarded || self.local(node) < work.ends_at).then_some(work.epoch)
    }

    pub fn start_node(&mut self, node: usize, life: u32) {
        let timing = self.machine_timing();
        let session = SessionId::from_bits(self.rng.u128(..));
        let seed = self.rng.u64(..);
        let shell = &mut self.nodes[node];
        if shell.life != life || shell.alive() {
            return;
        }
        shell.life += 1;
        shell.abstains = false;
        shell.lets_others_go_first = false;
        shell.session = session;
        let settings = Settings {
            node: shell.id.clone(),
            timing,
            drain: self
                .plan
                .drains
                .then(|| Duration::from_nanos(self.plan.drain_up_to)),
            priority: self.plan.priorities[node],
            health: self.plan.has_health.then_some(AppHealth::UNFIT),
            seed,
        };
        shell.machine = Some(Machine::new(settings, shell.memory));
        let life = shell.life;
        self.note(|_| format!("node {node} starts"));
        if self.store.health == Health::Up {
            let present = Hint::Present(self.store.observe(self.now));
            self.hint(node, &present);
        }
        self.step(node, Input::Wake);
        if self.plan.has_health {
            let answers = self.now + self.rng.u64(..=self.ttl() / 20);
            self.grows_well(node, answers);
        }
        let first = self.rng.u64(..=self.ttl() / 8);
        self.queue
            .push(self.now + first, Event::AppTick(node, life));
    }

    /// The durations the machine is told; a planted bug makes them differ from those
    /// that the store is told.
    fn machine_timing(&self) -> Timing {
        let timing = &self.plan.timing;
        let (ttl, drift) = match self.mutant {
            Some(Mutant::DeadlineFromReply) => (timing.ttl() * 2, timing.drift()),
            Some(Mutant::DriftIgnored) => (timing.ttl(), Drift::from_ppm(0).unwrap()),
            _ => (timing.ttl(), timing.drift()),
        };
        let (renew, call) = (timing.renew_every(), timing.call_timeout());
        Timing::new(ttl, renew, call, timing.stop_budget(), drift).unwrap()
    }

    pub fn deliver(&mut self, node: usize, life: u32, stimulus: Stimulus) {
        let shell = &mut self.nodes[node];
        if shell.life != life || !shell.alive() {
            return;
        }
        if shell.paused(self.now) {
            // A suspended machine's connections are gone when it wakes.
            let lost = shell.frozen && matches!(stimulus, Stimulus::Reply(..) | Stimulus::Hint(_));
            if !lost {
                shell.inbox.push_back(stimulus);
            }
            return;
        }
        self.take_in(node, stimulus);
    }

    /// A stopped process goes on: everything that came meanwhile is there at once, in
    /// an order that nobody promises.
    pub fn resume(&mut self, node: usize) {
        let shell = &mut self.nodes[node];
        if shell.paused(self.now) || !shell.alive() {
            return;
        }
        shell.frozen = false;
        let life = shell.life;
        let mut inbox: Vec<Stimulus> = shell.inbox.drain(..).collect();
        let replies_first = self.rng.bool();
        if replies_first {
            inbox.sort_by_key(|stimulus| !matches!(stimulus, Stimulus::Reply(..)));
        }
        self.note(|_| format!("node {node} goes on"));
        for stimulus in inbox {
            if self.nodes[node].life == life {
                self.take_in(node, stimulus);
            }
        }
    }

    fn take_in(&mut self, node: usize, stimulus: Stimulus) {
        let input = match stimulus {
            Stimulus::Alarm(alarm) if alarm == self.nodes[node].alarm => Some(Input::Wake),
            Stimulus::Alarm(_) => None,
            Stimulus::Reply(call, answer) => self.answered(node, call, answer),
            Stimulus::Timeout(call) => {
                let late = StoreError::Indeterminate("no answer in time".into());
                self.answered(node, call, Err(late))
            }
            Stimulus::Hint(hint) => Some(Input::Hint(hint)),
            Stimulus::Drained(epoch) => Some(Input::Drained(self.plant_in_drained(node, epoch))),
            Stimulus::Candidacy(candidate) => {
                self.nodes[node].abstains = !candidate;
                let ignored = self.mutant == Some(Mutant::CandidacyIgnored);
                (!ignored).then_some(Input::Candidacy(candidate))
            }
            Stimulus::AppEnded(epoch) => Some(Input::AppEnded {
                epoch,
                cooldown: self.plan.timing.ttl(),
            }),
            Stimulus::Health(health) => Some(Input::Health(health)),
            Stimulus::StepDown { cooldown, to } => Some(Input::StepDown { cooldown, to }),
            Stimulus::Stop => Some(Input::Stop),
        };
        if let Some(input) = input {
            self.nodes[node].lets_others_go_first |= match &input {
                Input::StepDown { .. } | Input::AppEnded { .. } => true,
                Input::Hint(Hint::Ended { prefer, .. }) => prefer.is_some(),
                _ => false,
            };
            self.step(node, input);
        }
    }

    /// The first of answer and timeout counts; whatever comes later finds no caller.
    fn answered(
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

    fn plant_in_drained(&self, node: usize, epoch: Epoch) -> Epoch {
        let machine = self.nodes[node].machine.as_ref();
        let tenure = machine.and_then(|machine| machine.snapshot().tenure);
        match (self.mutant, tenure) {
            (Some(Mutant::DrainedOfAnyEpoch), Some(tenure)) => tenure.epoch,
            _ => epoch,
        }
    }

    /// No epoch reaches the machine before it is remembered.
    fn on_acquire_answer(&mut self, node: usize, sent_at: Moment, answer: Acquired) -> Acquired {
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

    fn plant_in_left(&self, node: usize, sent_at: Moment, left: Duration) -> Duration {
        match self.mutant {
            Some(Mutant::DeadlineFromReply) => left + self.local(node).since(sent_at),
            _ => left,
        }
    }

    /// One step of the machine, judged, and what follows from it.
    fn step(&mut self, node: usize, input: Input) {
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

    fn label(&self, input: &Input) -> String {
        if !self.traced() {
            return String::new();
        }
        format!("{input:?}").chars().take(150).collect()
    }

    fn count_step(&mut self, node: usize) {
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

    fn set_alarm(&mut self, node: usize, wake_at: Option<Moment>) {
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

    fn act(&mut self, node: usize, now: Moment, action: Action) {
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

    fn claim(&self, node: usize, epoch: Epoch) -> Claim {
        let timing = &self.plan.timing;
        Claim {
            epoch,
            session: self.nodes[node].session.clone(),
            ttl: timing.ttl(),
            hold: timing.hold(timing.ttl()),
        }
    }

    fn call(&mut self, node: usize, now: Moment, call: Call, kind: Kind, request: Request) {
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

    fn announced(&mut self, node: usize, transition: &Transition) {
        if transition.kind != EventKind::Acquired {
            return;
        }
        let Some(epoch) = transition.epoch else {
            return self.oracle.fail(|| "sanity: won without an epoch".into());
        };
        if transition.reason != Reason::Won {
            self.oracle
                .fail(|| format!("sanity: acquired because of {:?}", transition.reason));
        }
        if self.nodes[node].abstains {
            self.oracle
                .fail(|| format!("node {node} leads under {epoch} and is no candidate"));
        }
        let health = self.nodes[node].machine.as_ref();
        let health = health.and_then(|machine| machine.snapshot().health);
        if health.is_some_and(|health| !health.healthy) {
            self.oracle
                .fail(|| format!("sanity: node {node} leads with an app that is not well"));
        }
        self.begins_to_lead(node, epoch);
        if self.plan.drains {
            let machine = self.nodes[node].machine.as_ref();
            let tenure = machine.and_then(|machine| machine.snapshot().tenure);
            let Some(tenure) = tenure else { return };
            if let Some(epoch) = self.app_works(node) {
                self.oracle
                    .fail(|| format!("node {node} leads while its app of {epoch} still works"));
            }
            let shell = &mut self.nodes[node];
            shell.work = Some(Work {
                id: shell.next(),
                epoch,
                ends_at: tenure.ends_at,
            });
            self.set_guard(node);
        }
    }

    fn set_guard(&mut self, node: usize) {
        let shell = &self.nodes[node];
        if let Some(work) = &shell.work {
            let at = shell.clock.when(work.ends_at).max(self.now);
            self.queue.push(at, Event::GuardLooks(node, shell.life));
        }
    }

    /// The guard kills the app's group at the end of the lease, sidecar or not.
    pub fn guard_looks(&mut self, node: usize, life: u32) {
        let now = self.local(node);
        let shell = &mut self.nodes[node];
        let guarded = self.mutant != Some(Mutant::NoGuard);
        if shell.life == life
            && guarded
            && let Some(work) = shell.work.take_if(|work| work.ends_at <= now)
        {
            self.say_drained(node, work.epoch);
        }
    }

    fn drain(&mut self, node: usize) {
        let takes = self.rng.u64(..=self.plan.drain_up_to);
        let shell = &self.nodes[node];
        // Without one, it ended before, and the word of it is on its way.
        if let Some(work) = &shell.work {
            let epoch = work.epoch;
            let done = Event::AppDone(node, shell.life, work.id);
            self.queue.push(self.now + takes, done);
            if self.mutant == Some(Mutant::DrainedTooEarly) {
                self.say_drained(node, epoch);
            }
        }
    }

    /// The app tells at that moment that it is well, and how well.
    pub fn grows_well(&mut self, node: usize, at: TrueNs) {
        let score = Percent::new(self.rng.u8(..=100)).unwrap();
        let health = Stimulus::Health(AppHealth::fit(score));
        let life = self.nodes[node].life;
        self.queue.push(at, Event::Deliver(node, life, health));
    }

    /// The app ends by itself, be it only its main process: the rest follows.
    pub fn crash_app(&mut self, node: usize) {
        let takes = self.rng.u64(..=self.ttl() / 10);
        let shell = &self.nodes[node];
        if let Some(work) = &shell.work {
            let (life, epoch) = (shell.life, work.epoch);
            let done = Event::AppDone(node, life, work.id);
            let ended = Stimulus::AppEnded(epoch);
            self.queue.push(self.now, Event::Deliver(node, life, ended));
            self.queue.push(self.now + takes, done);
        }
    }

    pub fn app_done(&mut self, node: usize, life: u32, id: u64) {
        let shell = &mut self.nodes[node];
        if shell.life == life
            && let Some(work) = shell.work.take_if(|work| work.id == id)
        {
            self.say_drained(node, work.epoch);
        }
    }

    /// Once in time and once late: what was true of one app is no word about the next.
    fn say_drained(&mut self, node: usize, epoch: Epoch) {
        let life = self.nodes[node].life;
        let soon = self.rng.u64(..MS / 10);
        let late = self.rng.u64(..self.ttl() * 3);
        for after in [soon, late] {
            let drained = Event::Deliver(node, life, Stimulus::Drained(epoch));
            self.queue.push(self.now + after, drained);
        }
    }

    fn finished(&mut self, node: usize) {
        if let Some(epoch) = self.app_works(node) {
            self.oracle
                .fail(|| format!("node {node} has finished; its app works under {epoch}"));
        }
        let role = self.nodes[node].machine.as_ref();
        if role.is_some_and(|machine| machine.snapshot().role != Role::Stopped) {
            self.oracle
                .fail(|| format!("sanity: node {node} finished without having stopped"));
        }
        self.nodes[node].die();
        self.restart_later(node);
    }

    pub fn restart_later(&mut self, node: usize) {
        let left = self.plan.calm_from.saturating_sub(self.now);
        let down = self.rng.u64(..=self.ttl() * 2).min(left);
        let life = self.nodes[node].life;
        self.queue.push(self.now + down, Event::Restart(node, life));
    }

    /// The app asks its sidecar, then writes: the counter through the sidecar, and
    /// its own resource with the token.
    pub fn app_tick(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life {
            return;
        }
        let next = self.now + self.rng.u64(self.ttl() / 12..=self.ttl() / 6);
        self.queue.push(next, Event::AppTick(node, life));
        if self.nodes[node].paused(self.now) {
            return;
        }
        let Some(token) = self.claims(node) else {
            return;
        };
        self.send(node, Call::Blind, Request::UseResource(token));
        if self.nodes[node].app_call.is_some() {
            return;
        }
        let now = self.local(node);
        let shell = &mut self.nodes[node];
        let call = Call::App(shell.next());
        shell.app_call = Some(call);
        match shell.known.take() {
            Some(known) if known.epoch == token => {
                let count = known.count + 1;
                let write = CheckpointWrite {
                    epoch: token,
                    session: shell.session.clone(),
                    expected: known.revision,
                    bytes: bytes_of(count),
                };
                let request = Request::WriteCheckpoint(write);
                self.call(node, now, call, Kind::Write(token, count), request);
            }
            _ => self.call(node, now, call, Kind::Read(token), Request::ReadCheckpoint),
        }
    }

    fn app_answered(&mut self, node: usize, kind: Kind, answer: Result<Answer, StoreError>) {
        let shell = &mut self.nodes[node];
        shell.app_call = None;
        shell.known = match (kind, answer) {
            (Kind::Read(epoch), Ok(Answer::Read(stored))) => Some(Known {
                epoch,
                revision: stored.map(|stored: Stored| stored.revision),
                count: stored.map_or(0, |stored| stored.count),
            }),
            (Kind::Write(epoch, count), Ok(Answer::Written(CheckpointWritten::Written(at)))) => {
                Some(Known {
                    epoch,
                    revision: Some(at),
                    count,
                })
            }
            _ => None,
        };
    }
}
