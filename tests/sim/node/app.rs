//! The app beside a sidecar, its guard, and what it writes.

use tenure::lease::{CheckpointWrite, CheckpointWritten, Epoch, StoreError};
use tenure::machine::{AppHealth, EventKind, Percent, Reason, Role, Transition};

use super::super::clock::{MS, TrueNs};
use super::super::mutants::Mutant;
use super::super::store::{Answer, Request, Stored, bytes_of};
use super::super::world::{Event, World};
use super::{Call, Kind, Known, Stimulus, Work};

impl World {
    pub(super) fn announced(&mut self, node: usize, transition: &Transition) {
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

    pub(super) fn set_guard(&mut self, node: usize) {
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

    pub(super) fn drain(&mut self, node: usize) {
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
    pub(super) fn say_drained(&mut self, node: usize, epoch: Epoch) {
        let life = self.nodes[node].life;
        let soon = self.rng.u64(..MS / 10);
        let late = self.rng.u64(..self.ttl() * 3);
        for after in [soon, late] {
            let drained = Event::Deliver(node, life, Stimulus::Drained(epoch));
            self.queue.push(self.now + after, drained);
        }
    }

    pub(super) fn finished(&mut self, node: usize) {
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

    pub(super) fn app_answered(
        &mut self,
        node: usize,
        kind: Kind,
        answer: Result<Answer, StoreError>,
    ) {
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
