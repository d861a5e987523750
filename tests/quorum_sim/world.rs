//! The event loop: one queue of events in true time, everything drawn from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tenure::lease::SessionId;
use tenure::peers::{DiskId, MemberId};
use tenure::quorum::{Envelope, Flaw, Input, QuorumLease, Settings, Start};
use tenure::time::Moment;

use crate::client::Client;
use crate::clock::{MS, TrueNs};
use crate::invariants::{Checkpoints, Epochs, Exclusion, Liveness, Verdict};
use crate::member::{Disk, Member, Running};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::report::Report;

const TRACE_LINES: usize = 150;

pub enum Event {
    Start(usize, u64),
    Deliver {
        from: usize,
        to: usize,
        envelope: Box<Envelope>,
    },
    CoreWake(usize, u64),
    ClientWake(usize, u64),
    Fault(usize),
    Recovered(usize, MemberId),
    NewDisk(usize),
    Crash(usize),
    Calm,
    Deadline,
    End,
}

pub struct World {
    pub plan: Plan,
    pub rng: fastrand::Rng,
    pub now: TrueNs,
    pub queue: Queue<Event>,
    pub members: Vec<Member>,
    pub exclusion: Exclusion,
    pub parted_until: TrueNs,
    pub cut_links: BTreeMap<(usize, usize), TrueNs>,
    flaw: Option<Flaw>,
    pub epochs: Epochs,
    pub checkpoints: Checkpoints,
    pub liveness: Liveness,
    pub report: Report,
    sessions: u128,
    ended: bool,
    trace: Option<VecDeque<String>>,
}

pub fn disk_id(member: usize, number: usize) -> DiskId {
    let text = format!("{:032x}", member * 1_000 + number + 1);
    serde_json::from_value(text.into()).unwrap()
}

impl World {
    pub fn new(plan: Plan, flaw: Option<Flaw>, traced: bool) -> Self {
        let member = |index: usize| Member {
            id: (index + 1).to_string().parse().unwrap(),
            clock: plan.clocks[index],
            disks: vec![Disk {
                id: disk_id(index, 0),
                record: None,
                blank: false,
            }],
            mounted: 0,
            life: 0,
            running: None,
            paused_until: 0,
            cut_in_until: 0,
            cut_out_until: 0,
            side: false,
        };
        let members: Vec<_> = (0..plan.clocks.len()).map(member).collect();
        let bound = bound(&plan);
        let mut world = Self {
            rng: fastrand::Rng::with_seed(plan.seed),
            now: 0,
            queue: Queue::new(),
            exclusion: Exclusion::new(members.len()),
            parted_until: 0,
            cut_links: BTreeMap::new(),
            flaw,
            epochs: Epochs::default(),
            checkpoints: Checkpoints::default(),
            liveness: Liveness::new(plan.calm_from, bound),
            report: Report::default(),
            sessions: 0,
            ended: false,
            trace: traced.then(VecDeque::new),
            members,
            plan,
        };
        world.schedule();
        world
    }

    fn schedule(&mut self) {
        for member in 0..self.members.len() {
            let spread = if self.plan.together {
                2 * MS
            } else {
                3_000 * MS
            };
            let at = self.rng.u64(..spread);
            self.queue.push(at, Event::Start(member, 0));
        }
        for (index, fault) in self.plan.faults.iter().enumerate() {
            self.queue.push(fault.at, Event::Fault(index));
        }
        let calm = self.plan.calm_from;
        self.queue.push(calm, Event::Calm);
        let deadline = calm + self.liveness.bound;
        self.queue.push(deadline, Event::Deadline);
        self.queue.push(deadline + 12_000 * MS, Event::End);
    }

    pub fn run(mut self) -> Report {
        while !self.ended && self.report.violation.is_none() {
            let (at, event) = self.queue.pop().expect("a history ends by its End event");
            self.now = at;
            self.turn(event);
        }
        let mut report = self.report;
        report.trace = self.trace.into_iter().flatten().collect();
        report.tenures = self.epochs.tenures;
        report.writes = self.checkpoints.writes;
        report.simulated = Duration::from_nanos(self.now);
        let led = self.liveness.led_at;
        let recovery = led.map(|at| (at - self.liveness.calm_from) / MS);
        report.recovery_ms = recovery.into_iter().collect();
        report
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let Some(trace) = &mut self.trace else { return };
        trace.push_back(format!("{:>12.3} ms  {}", self.now as f64 / 1e6, line()));
        if trace.len() > TRACE_LINES {
            trace.pop_front();
        }
    }

    pub fn judge(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.note(|| format!("VIOLATION: {violation}"));
            self.report.violation.get_or_insert(violation);
        }
    }

    fn turn(&mut self, event: Event) {
        let of = match &event {
            Event::Deliver { to, .. } => Some(*to),
            Event::CoreWake(member, _) | Event::ClientWake(member, _) => Some(*member),
            Event::Recovered(member, _) => Some(*member),
            _ => None,
        };
        // What reaches a stopped process waits for it.
        if let Some(until) = of.map(|member| self.members[member].paused_until)
            && until > self.now
        {
            self.queue.push(until, event);
            return;
        }
        match event {
            Event::Start(member, life) => self.start(member, life),
            Event::Deliver { from, to, envelope } => {
                self.report.messages += 1;
                let from = self.members[from].id;
                self.tell(to, Input::Message { from, envelope });
            }
            Event::CoreWake(member, life) => {
                if self.members[member].life == life {
                    if let Some(running) = &mut self.members[member].running {
                        running.core_wake = TrueNs::MAX;
                    }
                    self.tell(member, Input::Wake);
                }
            }
            Event::ClientWake(member, life) => {
                if self.members[member].life == life {
                    self.client_wakes(member);
                }
            }
            Event::Fault(index) => self.strike(self.plan.faults[index]),
            Event::Recovered(member, id) => self.tell(member, Input::Recovered(id)),
            Event::NewDisk(member) => self.new_disk(member),
            Event::Crash(member) => self.crash(member, self.now + 100_000 * MS),
            Event::Calm => self.calm(),
            Event::Deadline if !self.plan.clocks_keep_bound => self.ended = true,
            Event::Deadline => {
                let leader = self.exclusion.leader(self.now);
                let verdict = self.liveness.deadline(leader);
                self.judge(verdict);
            }
            Event::End => {
                self.ended = true;
                let leader = self.exclusion.leader(self.now);
                let verdict = self.liveness.end(leader);
                self.judge(verdict);
            }
        }
    }

    fn calm(&mut self) {
        self.note(|| "the faults are over".to_owned());
        for member in 0..self.members.len() {
            self.new_disk(member);
        }
        if self.exclusion.leader(self.now).is_some() {
            self.liveness.leads(self.now);
        }
    }

    pub fn local(&self, member: usize) -> Moment {
        self.members[member].clock.at(self.now)
    }

    /// The process is gone, with all that was not fsynced.
    pub fn crash(&mut self, member: usize, until: TrueNs) {
        self.note(|| format!("{member} crashes"));
        self.exclusion.stops(member);
        let gone = &mut self.members[member];
        gone.running = None;
        gone.life += 1;
        gone.paused_until = 0;
        self.queue.push(until, Event::Start(member, gone.life));
    }

    fn start(&mut self, member: usize, life: u64) {
        if self.members[member].life != life {
            return;
        }
        self.sessions += 1;
        let session = SessionId::from_bits(self.sessions);
        let now = self.local(member);
        let settings = Settings {
            own: self.members[member].id,
            disk: self.members[member].disk().id.clone(),
            members: self.members.iter().map(|member| member.id).collect(),
            algorithm: self.plan.algorithm,
            drift: self.plan.drift,
            longest_lease: self.plan.ttl,
            patience: self.plan.patience(),
            seed: self.rng.u64(..),
            flaw: self.flaw,
        };
        let disk = self.members[member].disk();
        let start = match &disk.record {
            Some(record) => Start::Record(Box::new(record.clone())),
            None if disk.blank => Start::Blank,
            None => Start::Bootstrap,
        };
        self.members[member].running = Some(Running {
            core: QuorumLease::new(now, settings, start),
            client: Client::new(member, session, now),
            core_wake: TrueNs::MAX,
            client_wake: TrueNs::MAX,
        });
        self.note(|| format!("{member} starts"));
        self.tell(member, Input::Wake);
        self.client_wakes(member);
    }

    pub fn tell(&mut self, member: usize, input: Input) {
        let now = self.local(member);
        let Some(running) = &mut self.members[member].running else {
            return;
        };
        self.report.steps += 1;
        let mut out = Vec::new();
        let said = self.trace.is_some().then(|| brief(&input));
        running.core.step(now, input, &mut out);
        if let Some(said) = said.filter(|said| said != "Wake") {
            self.note(|| format!("{member} <- {said}"));
        }
        self.carry_out(member, out);
        self.plan_wakes(member);
    }

    fn client_wakes(&mut self, member: usize) {
        let now = self.local(member);
        let asked = self.checkpoints.asked();
        let Some(running) = &mut self.members[member].running else {
            return;
        };
        running.client_wake = TrueNs::MAX;
        let (requests, over) = running.client.wake(now, &self.plan, asked);
        if over {
            self.exclusion.stops(member);
        }
        let life = self.members[member].life;
        for (ticket, request) in requests {
            if self.members[member].life == life {
                self.tell(member, Input::Ask { ticket, request });
            }
        }
        self.plan_wakes(member);
    }

    pub fn step_down(&mut self, member: usize) {
        let now = self.local(member);
        if self.members[member].paused_until > self.now {
            return;
        }
        let Some(running) = &mut self.members[member].running else {
            return;
        };
        if let Some((ticket, request)) = running.client.step_down(now, &self.plan) {
            self.exclusion.stops(member);
            self.tell(member, Input::Ask { ticket, request });
        }
    }

    fn plan_wakes(&mut self, member: usize) {
        let (clock, life) = (self.members[member].clock, self.members[member].life);
        let Some(running) = &mut self.members[member].running else {
            return;
        };
        if let Some(at) = running.core.wake_at() {
            let at = clock.when(at).max(self.now + 1);
            if at < running.core_wake {
                running.core_wake = at;
                self.queue.push(at, Event::CoreWake(member, life));
            }
        }
        let at = clock
            .when(running.client.wake_at(&self.plan))
            .max(self.now + 1);
        if at < running.client_wake {
            running.client_wake = at;
            self.queue.push(at, Event::ClientWake(member, life));
        }
    }
}

/// A lease that a dead member's votes still bind, on the slowest clock; a blank disk's
/// wait before that; and a few rounds of back-off.
fn bound(plan: &Plan) -> TrueNs {
    let lease = plan.drift.lengthen(plan.drift.lengthen(plan.ttl));
    let bound = lease * 3 + plan.patience() * 12;
    u64::try_from(bound.as_nanos()).unwrap()
}

fn brief(input: &Input) -> String {
    match input {
        Input::Message { from, envelope } => format!("{from}: {:?}", envelope.message),
        other => format!("{other:?}"),
    }
}
