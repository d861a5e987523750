//! The event loop: one queue of events in true time, everything drawn from one seed.

use std::collections::VecDeque;
use std::time::Duration;

use tenure::lease::{Hint, StoreError};

use super::clock::{MS, TrueNs};
use super::mutants::Mutant;
use super::node::{Call, Node, Stimulus};
use super::oracle::{Claimant, Oracle};
use super::plan::Plan;
use super::queue::Queue;
use super::store::{Answer, Health, Request, Store};

const TRACE_LINES: usize = 120;

pub enum Event {
    Deliver(usize, u32, Stimulus),
    Arrive {
        node: usize,
        life: u32,
        call: Call,
        request: Request,
    },
    Resume(usize),
    Restart(usize, u32),
    AppTick(usize, u32),
    AppDone(usize, u32, u64),
    GuardLooks(usize, u32),
    Fault(usize),
    StoreBack(u64),
    Backup,
    Calm,
    Deadline,
    End,
}

/// What one history came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub violation: Option<String>,
    pub trace: Vec<String>,
    pub histories: u64,
    pub steps: u64,
    pub tenures: u64,
    pub writes: u64,
    pub holds: u64,
    pub excused: u64,
    pub simulated: Duration,
    /// Longest leaderless time after the last fault, in parts of what was allowed.
    pub slowest: f64,
    pub quiet_span: Duration,
    pub quiet_requests: Vec<u64>,
    pub quiet_leader: Option<usize>,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.tenures += other.tenures;
        self.writes += other.writes;
        self.holds += other.holds;
        self.excused += other.excused;
        self.simulated += other.simulated;
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} histories, {:.1} h simulated, {} machine steps, {} tenures, {} writes, {} holds, {} \
             overlaps excused as the documented hole, slowest recovery {:.0} % of its bound",
            self.histories,
            self.simulated.as_secs_f64() / 3600.0,
            self.steps,
            self.tenures,
            self.writes,
            self.holds,
            self.excused,
            self.slowest * 100.0
        )
    }
}

pub struct World {
    pub plan: Plan,
    pub mutant: Option<Mutant>,
    pub rng: fastrand::Rng,
    pub now: TrueNs,
    pub queue: Queue<Event>,
    pub nodes: Vec<Node>,
    pub store: Store,
    pub oracle: Oracle,
    pub steps: u64,
    pub calm: bool,
    led_since_calm: Option<TrueNs>,
    settled: bool,
    ended: bool,
    trace: Option<VecDeque<String>>,
}

impl World {
    pub fn new(plan: Plan, mutant: Option<Mutant>, traced: bool) -> Self {
        let mut world = Self {
            rng: fastrand::Rng::with_seed(plan.seed),
            now: 0,
            queue: Queue::new(),
            nodes: (0..plan.clocks.len())
                .map(|index| Node::new(index, &plan))
                .collect(),
            store: Store::new(&plan, mutant),
            oracle: Oracle::new(&plan),
            steps: 0,
            calm: false,
            led_since_calm: None,
            settled: false,
            ended: false,
            trace: traced.then(VecDeque::new),
            plan,
            mutant,
        };
        world.schedule();
        world
    }

    fn schedule(&mut self) {
        for node in 0..self.nodes.len() {
            let at = self.rng.u64(0..self.ttl());
            self.queue.push(at, Event::Restart(node, 0));
        }
        for (index, fault) in self.plan.faults.iter().enumerate() {
            self.queue.push(fault.at, Event::Fault(index));
        }
        for part in 1..20 {
            self.queue
                .push(self.ttl() * part - part * MS * 7, Event::Backup);
        }
        let calm = self.plan.calm_from;
        let deadline = calm + self.liveness_bound();
        self.queue.push(calm, Event::Calm);
        self.queue.push(deadline, Event::Deadline);
        let end = deadline + self.ttl() * u64::from(self.plan.watch_ttls);
        self.queue.push(end, Event::End);
    }

    pub fn ttl(&self) -> TrueNs {
        u64::try_from(self.plan.timing.ttl().as_nanos()).unwrap()
    }

    /// FAULTS.md, "Liveness": the printed worst case, on the slowest clock, and one
    /// hold where data was lost. A candidate's delay is that of preference or
    /// cooldown, and of priority and score; a departing leader's app may still drain. Only
    /// a leader that named its successor is delayed by both, as the last of all.
    fn liveness_bound(&self) -> TrueNs {
        let timing = &self.plan.timing;
        let mut faults = self.plan.faults.iter();
        let may_wait_for_both = faults.any(|fault| fault.kind == crate::plan::FaultKind::StepDown);
        let mut delay = timing.call_timeout() * if may_wait_for_both { 5 } else { 3 };
        if self.plan.drains {
            delay += Duration::from_nanos(self.plan.drain_up_to);
        }
        let mut bound = timing.worst_case_failover(Duration::from_millis(1), delay);
        if self.plan.loses_data {
            bound += timing.hold(timing.ttl());
        }
        let bound = u64::try_from(bound.as_nanos()).unwrap();
        bound * 100 / 99 + 5 * MS
    }

    pub fn run(mut self) -> Report {
        while !self.ended && self.oracle.violation.is_none() {
            let (at, event) = self.queue.pop().expect("a history ends by its End event");
            self.now = at;
            self.turn(event);
        }
        self.report()
    }

    fn report(self) -> Report {
        let bound = self.liveness_bound() as f64;
        let slowest = self
            .led_since_calm
            .filter(|_| self.plan.clocks_keep_bound)
            .map_or(0.0, |at| (at - self.plan.calm_from) as f64 / bound);
        let deadline = self.plan.calm_from + self.liveness_bound();
        Report {
            violation: self.oracle.violation.clone(),
            trace: self.trace.iter().flatten().cloned().collect(),
            histories: 1,
            steps: self.steps,
            tenures: self.oracle.tenures,
            writes: self.oracle.writes,
            holds: self.oracle.holds,
            excused: self.oracle.excused,
            simulated: Duration::from_nanos(self.now),
            slowest,
            quiet_span: Duration::from_nanos(self.now.saturating_sub(deadline)),
            quiet_requests: self.nodes.iter().map(|node| node.quiet_requests).collect(),
            quiet_leader: (0..self.nodes.len()).find(|node| self.claims(*node).is_some()),
        }
    }

    pub fn traced(&self) -> bool {
        self.trace.is_some()
    }

    /// Keeps a line of the trace; costs nothing where no trace is kept.
    pub fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let line = format!("{:>12.3} ms  {}", self.now as f64 / 1e6, line(self));
        let Some(trace) = &mut self.trace else { return };
        trace.push_back(line);
        if trace.len() > TRACE_LINES {
            trace.pop_front();
        }
    }

    fn turn(&mut self, event: Event) {
        match event {
            Event::Deliver(node, life, stimulus) => self.deliver(node, life, stimulus),
            Event::Arrive {
                node,
                life,
                call,
                request,
            } => self.arrive(node, life, call, &request),
            Event::Resume(node) => self.resume(node),
            Event::Restart(node, life) => self.start_node(node, life),
            Event::AppTick(node, life) => self.app_tick(node, life),
            Event::AppDone(node, life, work) => self.app_done(node, life, work),
            Event::GuardLooks(node, life) => self.guard_looks(node, life),
            Event::Fault(index) => self.strike(self.plan.faults[index]),
            Event::StoreBack(id) => self.store_back(id),
            Event::Backup => {
                let copy = self.store.copy();
                self.store.copies.push(copy);
            }
            Event::Calm => self.calm_begins(),
            Event::Deadline => self.deadline(),
            Event::End => self.end(),
        }
    }

    fn calm_begins(&mut self) {
        self.note(|_| "the faults are over".to_owned());
        self.calm = true;
        self.store.health = Health::Up;
        for node in 0..self.nodes.len() {
            self.nodes[node].cut_requests_until = 0;
            self.nodes[node].cut_replies_until = 0;
            if self.claims(node).is_some() {
                self.led_since_calm.get_or_insert(self.now);
            }
        }
    }

    fn deadline(&mut self) {
        self.settled = true;
        let leads = (0..self.nodes.len()).any(|node| self.claims(node).is_some());
        if self.plan.clocks_keep_bound && !leads {
            let bound = self.liveness_bound() / MS;
            self.oracle
                .fail(|| format!("liveness: no leader {bound} ms after the last fault"));
        }
        for node in &mut self.nodes {
            node.quiet_requests = 0;
        }
    }

    fn end(&mut self) {
        self.ended = true;
        let leads = (0..self.nodes.len()).any(|node| self.claims(node).is_some());
        if self.plan.clocks_keep_bound && !leads {
            self.oracle
                .fail(|| "liveness: the leader was lost in a calm".to_owned());
        }
    }

    /// A node has begun to lead.
    pub fn begins_to_lead(&mut self, node: usize, epoch: tenure::lease::Epoch) {
        let mut others = Vec::new();
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if let Some(epoch) = self.claims(other) {
                others.push(Claimant {
                    node: other,
                    epoch,
                    what: "says that it leads",
                });
            }
            if let Some(epoch) = self.app_works(other) {
                others.push(Claimant {
                    node: other,
                    epoch,
                    what: "has its app at work",
                });
            }
        }
        let session = self.nodes[node].session.clone();
        self.oracle.leads(node, &session, epoch, &others);
        if self.calm {
            self.led_since_calm.get_or_insert(self.now);
        }
        if self.settled && self.plan.clocks_keep_bound {
            self.oracle
                .fail(|| format!("liveness: leadership went to node {node} in a calm"));
        }
    }

    /// A delay of the network; `None` where the message is lost. No message that was
    /// sent before the calm arrives later than its beginning.
    fn delay(&mut self) -> Option<TrueNs> {
        let network = self.plan.network;
        let base = self.rng.u64(network.base / 10..=network.base);
        if self.calm {
            return Some(base);
        }
        let mut dice = |chance: u64| chance > 0 && self.rng.u64(..1000) < chance;
        let (lost, slow, stuck) = (
            dice(network.lost_chance),
            dice(network.slow_chance),
            dice(network.stuck_chance),
        );
        let extra = match (slow, stuck) {
            (_, true) => self.rng.u64(..=network.stuck_up_to),
            (true, false) => self.rng.u64(..=network.slow_up_to),
            _ => 0,
        };
        let left = self.plan.calm_from.saturating_sub(self.now);
        (!lost).then_some((base + extra).min(left.max(base)))
    }

    fn twice(&mut self) -> bool {
        !self.calm && self.rng.u64(..1000) < self.plan.network.twice_chance
    }

    /// Sends a request, perhaps twice, perhaps into the void.
    pub fn send(&mut self, node: usize, call: Call, request: Request) {
        let life = self.nodes[node].life;
        let copies = if self.twice() { 2 } else { 1 };
        for copy in 0..copies {
            let Some(mut delay) = self.delay() else {
                continue;
            };
            if copy > 0 && self.rng.bool() {
                let left = self.plan.calm_from.saturating_sub(self.now);
                delay = self.rng.u64(..=self.ttl() * 4).min(left);
            }
            if self.now < self.nodes[node].cut_requests_until {
                continue;
            }
            let request = request.clone();
            self.queue.push(
                self.now + delay,
                Event::Arrive {
                    node,
                    life,
                    call,
                    request,
                },
            );
        }
    }

    fn arrive(&mut self, node: usize, life: u32, call: Call, request: &Request) {
        let error = match self.store.health {
            Health::Up => None,
            Health::Silent => return,
            Health::Down => Some(StoreError::Unavailable("down".into())),
            Health::Uncertain => Some(StoreError::Indeterminate("uncertain".into())),
        };
        let skipped = match &error {
            None => false,
            Some(error) => !error.may_have_happened() || self.rng.bool(),
        };
        let answer = if skipped {
            None
        } else {
            Some(self.apply(node, request))
        };
        let answer: Result<Answer, StoreError> = match (error, answer) {
            (None, Some(answer)) => Ok(answer),
            (Some(error), _) => Err(error),
            (None, None) => return,
        };
        let Some(delay) = self.delay() else { return };
        if self.now < self.nodes[node].cut_replies_until {
            return;
        }
        let reply = Stimulus::Reply(call, answer);
        self.queue
            .push(self.now + delay, Event::Deliver(node, life, reply));
    }

    fn apply(&mut self, node: usize, request: &Request) -> Answer {
        let (answer, hint) = self.store.apply(self.now, request);
        self.note(|_| format!("store: node {node}'s {request:?} -> {answer:?}"));
        let lease_ms = self.store.lease_ms(self.now);
        self.oracle.applied(lease_ms, request, &answer);
        if let Some(hint) = hint {
            for listener in 0..self.nodes.len() {
                self.hint(listener, &hint);
            }
        }
        answer
    }

    /// Hints are lost, late and doubled; nothing correct depends on one.
    pub fn hint(&mut self, node: usize, hint: &Hint) {
        let life = self.nodes[node].life;
        let copies = if self.twice() { 2 } else { 1 };
        for _ in 0..copies {
            let lost = !self.calm && self.rng.u64(..1000) < self.plan.network.hint_lost_chance;
            let Some(delay) = self.delay() else { continue };
            if !lost {
                let stimulus = Stimulus::Hint(hint.clone());
                self.queue
                    .push(self.now + delay, Event::Deliver(node, life, stimulus));
            }
        }
    }
}
