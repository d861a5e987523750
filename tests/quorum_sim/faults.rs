//! What goes wrong, at the moment that the plan says.

use tenure::quorum::Input;

use crate::member::Disk;
use crate::plan::{Fault, FaultKind};
use crate::world::{Event, World, disk_id};

impl World {
    pub fn strike(&mut self, fault: Fault) {
        let leader = self.exclusion.leader(self.now);
        let member = leader.filter(|_| fault.at_leader).unwrap_or(fault.member);
        let until = (self.now + fault.lasts).min(self.plan.calm_from);
        self.note(|| format!("fault: {:?} of {member}", fault.kind));
        match fault.kind {
            FaultKind::Pause => {
                let paused = &mut self.members[member].paused_until;
                *paused = until.max(*paused);
            }
            FaultKind::Crash => self.crash(member, until),
            FaultKind::CutOut => self.members[member].cut_out_until = until,
            FaultKind::CutIn => self.members[member].cut_in_until = until,
            FaultKind::CutLink => {
                self.cut_links.insert((member, fault.other), until);
            }
            FaultKind::Flicker => {
                let soon = self.now + self.rng.u64(1..1 + fault.lasts / 10);
                self.crash(member, soon.min(until));
            }
            FaultKind::Partition => {
                self.parted_until = until;
                for at in 0..self.members.len() {
                    self.members[at].side = self.rng.bool();
                }
            }
            FaultKind::DiskLost => self.lose_disk(member, until),
            FaultKind::OldDisk => {
                let disks = self.members[member].disks.len();
                // One at a time, as with a lost disk: an old disk is not an intact one.
                let mut others = (0..self.members.len()).filter(|other| *other != member);
                if disks > 1 && others.all(|other| self.members[other].intact()) {
                    let old = self.rng.usize(..disks - 1);
                    // Perhaps at once: nobody has noticed the new one yet.
                    let soon = self.now + self.rng.u64(1..=1 + (until - self.now) / 2);
                    self.crash(member, soon);
                    self.members[member].mounted = old;
                    self.queue.push(until, Event::NewDisk(member));
                }
            }
            FaultKind::Suspicion => {
                let id = self.members[member].id;
                for other in (0..self.members.len()).filter(|other| *other != member) {
                    if self.rng.bool() {
                        self.tell(other, Input::Suspected(id));
                        self.queue.push(until, Event::Recovered(other, id));
                    }
                }
            }
            FaultKind::StepDown => self.step_down(member),
        }
    }

    /// One at a time: A7 asks for enough others that are intact.
    fn lose_disk(&mut self, member: usize, until: u64) {
        if !self.members.iter().all(|member| member.intact()) {
            return;
        }
        self.crash(member, until);
        let number = self.members[member].disks.len();
        self.members[member].disks.push(Disk {
            id: disk_id(member, number),
            record: None,
            blank: true,
        });
        self.members[member].mounted = number;
    }

    pub fn new_disk(&mut self, member: usize) {
        let newest = self.members[member].disks.len() - 1;
        if self.members[member].mounted != newest {
            self.crash(member, self.now + 1);
            self.members[member].mounted = newest;
        }
    }
}
