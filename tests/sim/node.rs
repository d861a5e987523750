//! A sidecar's shell around one machine, and the app beside it: what
//! `src/sidecar` does with a runtime, done with events.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tenure::lease::{Drift, Epoch, Hint, NodeId, Revision, SessionId, StoreError, Timing};
use tenure::machine::{AppHealth, Input, Machine, Settings};
use tenure::time::Moment;

use super::clock::{SimClock, TrueNs};
use super::mutants::Mutant;
use super::plan::Plan;
use super::store::{Answer, Health};
use super::world::{Event, World};

#[path = "node/app.rs"]
mod app;
#[path = "node/calls.rs"]
mod calls;

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
}
