//! What goes wrong, at the moment that the plan says.

use std::time::Duration;

use tenure::lease::register::Register;
use tenure::lease::{CheckpointWrite, Hint};
use tenure::machine::AppHealth;

use super::node::{Call, Stimulus};
use super::plan::{Fault, FaultKind};
use super::store::{Health, Request, bytes_of};
use super::world::{Event, World};

impl World {
    pub fn strike(&mut self, fault: Fault) {
        let leader = (0..self.nodes.len()).find(|node| self.claims(*node).is_some());
        let node = match leader {
            Some(leader) if fault.at_leader => leader,
            _ => fault.node,
        };
        let until = (self.now + fault.lasts).min(self.plan.calm_from);
        self.note(|_| format!("fault: {:?} of node {node}", fault.kind));
        match fault.kind {
            FaultKind::Pause | FaultKind::Suspend => {
                let shell = &mut self.nodes[node];
                shell.paused_until = shell.paused_until.max(until);
                shell.frozen |= fault.kind == FaultKind::Suspend;
                self.queue.push(until, Event::Resume(node));
            }
            FaultKind::Crash | FaultKind::CrashForgetting => {
                if self.nodes[node].alive() {
                    self.nodes[node].die();
                    self.restart_later(node);
                }
                if fault.kind == FaultKind::CrashForgetting {
                    self.nodes[node].memory = None;
                }
            }
            FaultKind::Stop => self.tell(node, Stimulus::Stop),
            FaultKind::StepDown => {
                let cooldown = Duration::from_nanos(fault.lasts);
                let to = (fault.other != node).then(|| self.nodes[fault.other].id.clone());
                self.tell(node, Stimulus::StepDown { cooldown, to });
            }
            FaultKind::AppCrash => self.crash_app(node),
            FaultKind::Abstain => {
                self.tell(node, Stimulus::Candidacy(false));
                let (life, back) = (self.nodes[node].life, Stimulus::Candidacy(true));
                self.queue.push(until, Event::Deliver(node, life, back));
            }
            FaultKind::AppIll => {
                if self.plan.has_health {
                    self.tell(node, Stimulus::Health(AppHealth::UNFIT));
                    self.grows_well(node, until);
                }
            }
            FaultKind::CutRequests => self.nodes[node].cut_requests_until = until,
            FaultKind::CutReplies => self.nodes[node].cut_replies_until = until,
            FaultKind::CutBoth => {
                self.nodes[node].cut_requests_until = until;
                self.nodes[node].cut_replies_until = until;
            }
            FaultKind::StoreDown => self.store_ill(Health::Down, until),
            FaultKind::StoreSilent => self.store_ill(Health::Silent, until),
            FaultKind::StoreUncertain => self.store_ill(Health::Uncertain, until),
            FaultKind::HintGap => {
                self.tell(node, Stimulus::Hint(Hint::Gap));
                let present = Hint::Present(self.store.observe(self.now));
                self.hint(node, &present);
            }
            FaultKind::BorrowedToken => self.borrow_token(fault.other),
            // To either side by up to an hour; see `plan` for why not with lost data.
            FaultKind::WallStep => {
                self.store.wall_off_ms = self.rng.i64(-3_600_000..=3_600_000);
            }
            FaultKind::LeaseClockStep => {
                self.store.lease_off_ms = self.rng.u64(55_000..=65_000);
            }
            FaultKind::ServerChanged
            | FaultKind::DeleteLeader
            | FaultKind::DeleteState
            | FaultKind::Wipe
            | FaultKind::Restore => self.lose_data(fault.kind),
        }
    }

    fn tell(&mut self, node: usize, stimulus: Stimulus) {
        let life = self.nodes[node].life;
        self.deliver(node, life, stimulus);
    }

    fn store_ill(&mut self, health: Health, until: u64) {
        self.store.health = health;
        self.store.health_id += 1;
        self.queue
            .push(until, Event::StoreBack(self.store.health_id));
    }

    pub fn store_back(&mut self, id: u64) {
        if self.store.health_id == id {
            self.store.health = Health::Up;
            self.note(|_| "the store is back".to_owned());
        }
    }

    /// Another node's app writes with the leader's token, through its own sidecar's
    /// session, over the revision that is really stored.
    fn borrow_token(&mut self, node: usize) {
        let shell = &self.nodes[node];
        let Some(epoch) = self.store.register.epoch() else {
            return;
        };
        if self.claims(node) == Some(epoch) || !shell.alive() {
            return;
        }
        let stored = self.store.checkpoint;
        let write = CheckpointWrite {
            epoch,
            session: shell.session.clone(),
            expected: stored.map(|stored| stored.revision),
            bytes: bytes_of(stored.map_or(0, |stored| stored.count) + 1),
        };
        self.send(node, Call::Blind, Request::WriteCheckpoint(write));
    }

    fn lose_data(&mut self, kind: FaultKind) {
        let mut restored = false;
        match kind {
            // A promoted replica that has everything: nothing is lost but trust.
            FaultKind::ServerChanged => {
                self.store.server += 1;
                return;
            }
            FaultKind::DeleteLeader => self.store.register.leader = None,
            FaultKind::DeleteState => self.store.register.state = None,
            FaultKind::Wipe => {
                self.store.register = Register::default();
                self.store.checkpoint = None;
            }
            _ => {
                let copies = self.store.copies.len();
                if copies == 0 {
                    return;
                }
                let copy = self.store.copies[self.rng.usize(..copies)].clone();
                // A copy of the newest tenure, put back under the server that granted
                // it, looks like the truth to everybody: only a restart tells.
                let same = copy.register.epoch() == self.oracle.newest();
                self.store.register = copy.register;
                self.store.checkpoint = copy.checkpoint;
                if same || self.rng.bool() {
                    self.store.server += 1;
                }
                restored = true;
            }
        }
        let lease_ms = self.store.lease_ms(self.now);
        let (register, checkpoint) = (&self.store.register, self.store.checkpoint);
        self.oracle
            .data_lost(register, lease_ms, restored, checkpoint);
    }
}
