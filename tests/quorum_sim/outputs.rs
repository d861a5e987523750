//! What a core's outputs do: to its disk, to the others, to its client.

use tenure::lease::{Acquired, StoreError};
use tenure::quorum::{Answer, Output, Ticket, Warning};

use crate::client::Noted;
use crate::clock::MS;
use crate::world::World;

impl World {
    /// In their order; a crash ends it.
    pub fn carry_out(&mut self, member: usize, out: Vec<Output>) {
        let life = self.members[member].life;
        for output in out {
            match output {
                Output::Persist(record) => {
                    let calm = self.now >= self.plan.calm_from;
                    if !calm && self.rng.u64(..1_000) < self.plan.crash_at_fsync {
                        let after = self.now + self.rng.u64(MS..4_000 * MS);
                        self.crash(member, after.min(self.plan.calm_from));
                        return;
                    }
                    let disk = self.members[member].disk();
                    let before = disk.record.as_ref().and_then(|record| record.known);
                    let backwards = record.known < before;
                    let known = record.known;
                    disk.record = Some(*record);
                    if backwards {
                        let what = format!("epoch {before:?} on a disk became {known:?}");
                        self.judge(Err(what));
                    }
                }
                Output::Send { to, envelope } => self.post(member, to, *envelope),
                Output::Answer { ticket, answer } => {
                    self.note(|| format!("{member} answers {ticket}: {answer:?}"));
                    self.answered(member, ticket, answer);
                }
                Output::Hint(hint) => {
                    let now = self.local(member);
                    if let Some(running) = &mut self.members[member].running {
                        running.client.hint(now, &hint);
                    }
                }
                Output::Warn(warning) => {
                    self.note(|| format!("{member} warns: {warning}"));
                    self.report.joined += u64::from(matches!(warning, Warning::Joined { .. }));
                }
            }
            if self.members[member].life != life {
                return;
            }
        }
    }

    fn answered(&mut self, member: usize, ticket: Ticket, answer: Result<Answer, StoreError>) {
        let now = self.local(member);
        let Some(running) = &mut self.members[member].running else {
            return;
        };
        if let Ok(Answer::Acquired(Acquired::Won { epoch, .. })) = &answer {
            let verdict = self.epochs.issued(*epoch, &running.client.session);
            self.judge(verdict);
        }
        let Some(running) = &mut self.members[member].running else {
            return;
        };
        match running.client.answer(now, &self.plan, ticket, answer) {
            Noted::Nothing => {}
            Noted::Leads(epoch, until) => {
                let until = self.members[member].clock.when(until);
                let began = self.exclusion.leader(self.now) != Some(member);
                let verdict = self.exclusion.leads(member, epoch, self.now, until);
                if self.plan.clocks_keep_bound {
                    self.judge(verdict);
                }
                self.liveness.leads(self.now);
                if began {
                    self.report.began.push(self.now);
                    self.report.leaders.push(member);
                    self.note(|| format!("{member} LEADS under {epoch}"));
                }
            }
            // The app takes its time, which ends with the lease.
            Noted::Stops => {
                let drain = u64::try_from(self.plan.ttl.as_nanos() / 10).unwrap();
                self.exclusion.drains(member, self.now + drain);
            }
            Noted::Acknowledged(epoch, revision, bytes) => {
                let verdict = self.checkpoints.acknowledge(
                    epoch,
                    revision,
                    bytes,
                    self.plan.clocks_keep_bound,
                );
                self.judge(verdict);
            }
            Noted::Read(asked, found, by) => {
                let verdict = self.checkpoints.read(asked, found.as_ref(), by);
                self.judge(verdict);
            }
        }
    }
}
