//! What operators and failovers do to the keys, done to store and register alike.

use tenure::lease::Epoch;
use tenure::lease::register::{LeaderKey, State};

use super::super::parts::fields_of;
use super::super::{CHECKPOINT, LEADER, STATE};
use super::Pair;

impl Pair {
    /// What operators and failovers do to keys.
    pub(super) fn meddle(&mut self) {
        let what = self.random.u8(0..9);
        self.log.push(format!("meddle {what}"));
        match what {
            0 | 1 => {
                self.scripts.command(&["DEL", LEADER]);
                self.model.leader = None;
            }
            2 => {
                self.scripts.command(&["DEL", STATE]);
                self.model.state = None;
            }
            3 => {
                self.scripts.command(&["DEL", CHECKPOINT]);
                self.checkpoint = None;
            }
            4 => {
                self.server = if self.server == "run-a" {
                    "run-b"
                } else {
                    "run-a"
                };
            }
            5 => self.set_back_state(),
            6 => self.set_back_leader(),
            7 => self.set_back_clock(),
            _ if self.random.u8(0..8) == 0 => self.near_the_last_epoch(),
            _ => {}
        }
    }

    fn set_back_state(&mut self) {
        let Some(old) = self.random.choice(&self.states).cloned() else {
            return;
        };
        self.put_state(&old);
        self.model.state = Some(old);
    }

    fn set_back_leader(&mut self) {
        let Some(claim) = self.random.choice(&self.claims).cloned() else {
            return;
        };
        let leader = LeaderKey {
            epoch: claim.epoch,
            session: claim.session,
            expires_ms: self.now_ms + 50_000,
        };
        let value = format!("{}:{}", leader.epoch, leader.session);
        let expires = leader.expires_ms.to_string();
        self.scripts
            .command(&["SET", LEADER, &value, "PXAT", &expires]);
        self.model.leader = Some(leader);
    }

    /// As after a clock that was set back: what stands, stands for too long.
    fn set_back_clock(&mut self) {
        if let Some(mut state) = self.model.state.clone()
            && state.hold_until_ms > 0
        {
            state.hold_until_ms += 10_000_000;
            self.put_state(&state);
            self.model.state = Some(state);
        }
        if let Some(leader) = &mut self.model.leader {
            leader.expires_ms += 10_000_000;
            let expires = leader.expires_ms.to_string();
            self.scripts.command(&["PEXPIREAT", LEADER, &expires]);
        }
    }

    fn near_the_last_epoch(&mut self) {
        let Some(mut state) = self.model.state.clone() else {
            return;
        };
        let below = self.random.u64(0..3);
        state.epoch = Epoch::new(Epoch::MAX.get() - below).unwrap();
        self.put_state(&state);
        self.model.state = Some(state);
    }

    fn put_state(&mut self, state: &State) {
        let fields = fields_of(state);
        let mut words = vec!["HSET", STATE];
        for (name, value) in &fields {
            words.extend([*name, value.as_str()]);
        }
        self.scripts.command(&words);
    }
}
