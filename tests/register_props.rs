//! The register's rules under arbitrary sequences of operations: clients that keep
//! their part, stale copies of their requests, lost data, another server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tenure::lease::register::{Present, Register};
use tenure::lease::{
    Acquired, Bid, CheckpointWrite, CheckpointWritten, Claim, Drift, Epoch, HoldReason, Profile,
    Released, Renewed, Revision, SessionId, Timing, Validity,
};
use tenure::time::UnixMs;

const TTL_MS: u64 = 1_000;
const SESSIONS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Acquire {
        who: usize,
        remembers: bool,
    },
    Renew {
        who: usize,
        which: usize,
    },
    Release {
        who: usize,
        which: usize,
    },
    Write {
        who: usize,
        which: usize,
        right_revision: bool,
    },
    Observe,
    Sleep(u64),
    LoseLeader,
    LoseState,
    LoseAll,
    LoseCheckpoint,
    OtherServer,
}

fn ops(loses: bool) -> impl Strategy<Value = Vec<Op>> {
    let who = 0..SESSIONS;
    let own = || (0..SESSIONS, 0..6usize);
    let loss = if loses { 1 } else { 0 };
    let op = prop_oneof![
        8 => (who, prop::bool::weighted(0.8))
            .prop_map(|(who, remembers)| Op::Acquire { who, remembers }),
        6 => own().prop_map(|(who, which)| Op::Renew { who, which }),
        4 => own().prop_map(|(who, which)| Op::Release { who, which }),
        6 => (own(), any::<bool>()).prop_map(|((who, which), right_revision)| {
            Op::Write { who, which, right_revision }
        }),
        2 => Just(Op::Observe),
        6 => prop_oneof![0..50u64, 0..TTL_MS * 2].prop_map(Op::Sleep),
        1 => Just(Op::LoseCheckpoint),
        loss => prop_oneof![
            Just(Op::LoseLeader),
            Just(Op::LoseState),
            Just(Op::LoseAll),
            Just(Op::OtherServer),
        ],
    ];
    prop::collection::vec(op, 1..80)
}

struct World {
    register: Register,
    checkpoint: Option<Revision>,
    now_ms: u64,
    server: u32,
    floors: Vec<Option<Epoch>>,
    /// Every epoch granted, to whom, and when its lease ends as it was answered.
    grants: BTreeMap<Epoch, (usize, u64)>,
    /// What the register forgot is not held against it.
    lost: bool,
    /// Somebody who had not seen this epoch was granted the lease after a loss: the
    /// hole that DESIGN.md names. Who hears of *that* grant knows no more.
    blind_up_to: Option<Epoch>,
    written: Option<Revision>,
}

fn session(who: usize) -> SessionId {
    SessionId::from_bits(who as u128 + 1)
}

fn claim(who: usize, epoch: Epoch) -> Claim {
    Claim {
        epoch,
        session: session(who),
        ttl: Duration::from_millis(TTL_MS),
        hold: Duration::from_millis(TTL_MS + 12),
    }
}

impl World {
    fn new() -> Self {
        Self {
            register: Register::default(),
            checkpoint: None,
            now_ms: 50_000,
            server: 1,
            floors: vec![None; SESSIONS],
            grants: BTreeMap::new(),
            lost: false,
            blind_up_to: None,
            written: None,
        }
    }

    fn with<T>(&mut self, change: impl FnOnce(&mut Register, Present<'_>) -> T) -> T {
        let server = self.server.to_string();
        let present = Present {
            lease_ms: self.now_ms,
            wall: UnixMs(1_000_000 + self.now_ms),
            server: &server,
        };
        change(&mut self.register, present)
    }

    fn bid(&self, who: usize, remembers: bool) -> Bid {
        let timing = Timing::of_ttl(Duration::from_millis(TTL_MS)).unwrap();
        assert_eq!(timing.drift(), Drift::ONE_PERCENT);
        Bid {
            session: session(who),
            profile: Profile {
                node: format!("node-{who}").parse().unwrap(),
                url: None,
                metadata: vec![who as u8],
            },
            ttl: timing.ttl(),
            floor: self.floors[who].filter(|_| remembers),
            incumbent: false,
            hold: timing.hold(timing.ttl()),
        }
    }

    /// An epoch that this session was granted, newest first; or a stranger's.
    fn epoch_of(&self, who: usize, which: usize) -> Option<Epoch> {
        let own = self
            .grants
            .iter()
            .rev()
            .filter(|(_, (owner, _))| *owner == who);
        let any = self.grants.keys().rev();
        match which {
            5 => any.copied().next(),
            _ => own.map(|(epoch, _)| *epoch).nth(which),
        }
    }

    fn newest(&self) -> Option<Epoch> {
        self.grants.keys().next_back().copied()
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Acquire { who, remembers } => self.acquire(*who, *remembers),
            Op::Renew { who, which } => {
                let Some(epoch) = self.epoch_of(*who, *which) else {
                    return;
                };
                let answer =
                    self.with(|register, present| register.renew(&claim(*who, epoch), present));
                if let Renewed::Kept { left } = answer {
                    let (owner, ends) = self.grants[&epoch];
                    assert_eq!(owner, *who, "another session's lease was renewed");
                    assert!(self.lost || ends >= self.now_ms, "a renewal woke the dead");
                    assert!(self.lost || Some(epoch) == self.newest());
                    self.grants
                        .insert(epoch, (owner, self.now_ms + left.as_millis() as u64));
                }
            }
            Op::Release { who, which } => {
                let Some(epoch) = self.epoch_of(*who, *which) else {
                    return;
                };
                let before = self.register.clone();
                let claim = claim(*who, epoch);
                let answer = self.with(|register, present| register.release(&claim, present));
                let owner = self.grants[&epoch].0;
                if answer == Released::Released {
                    assert_eq!(owner, *who);
                    self.grants.insert(epoch, (owner, 0));
                    let again = self.with(|register, present| register.release(&claim, present));
                    assert_eq!(again, Released::Released, "releasing twice is safe");
                } else if before
                    .leader
                    .as_ref()
                    .is_some_and(|leader| leader.expires_ms >= self.now_ms)
                {
                    assert_eq!(
                        before, self.register,
                        "a foreign release changed the record"
                    );
                }
            }
            Op::Write {
                who,
                which,
                right_revision,
            } => self.write(*who, *which, *right_revision),
            Op::Observe => {
                let observed = self.with(Register::observe);
                if let Some((holder, left)) = &observed.holder {
                    assert!(left.as_millis() as u64 <= TTL_MS);
                    if !self.lost {
                        assert_eq!(Some(holder.epoch), self.newest());
                        let verdict = observed.validate(holder.epoch, None);
                        assert_eq!(verdict, Validity::Current);
                    }
                }
            }
            Op::Sleep(ms) => self.now_ms += ms,
            Op::LoseLeader => self.lose(|register| register.leader = None),
            Op::LoseState => self.lose(|register| register.state = None),
            Op::LoseAll => {
                self.checkpoint = None;
                self.lose(|register| *register = Register::default());
            }
            Op::LoseCheckpoint => self.checkpoint = None,
            Op::OtherServer => self.server += 1,
        }
        self.judge();
    }

    fn lose(&mut self, forget: impl FnOnce(&mut Register)) {
        forget(&mut self.register);
        self.lost = true;
        // Epochs count at most one a millisecond here, and so does the clock: more,
        // with the record lost in the same millisecond, could come again.
        self.now_ms = self.now_ms.max(
            self.newest()
                .map_or(0, |newest| newest.get() - 1_000_000 + 1),
        );
    }

    fn acquire(&mut self, who: usize, remembers: bool) {
        let bid = self.bid(who, remembers);
        let before = self.register.clone();
        let answer = self
            .with(|register, present| register.acquire(&bid, present))
            .unwrap();
        self.late_incumbents_pass_nothing(&bid, &before);
        match answer {
            Acquired::Won { epoch, left } => {
                assert!(Some(epoch) > bid.floor, "not above the floor");
                assert_eq!(left, bid.ttl);
                match self.grants.get(&epoch) {
                    Some((owner, ends)) => {
                        assert_eq!(*owner, who, "epoch {epoch} was issued twice");
                        assert!(
                            self.lost || *ends >= self.now_ms,
                            "a dead epoch was granted again"
                        );
                    }
                    None => {
                        assert!(Some(epoch) > self.newest(), "epochs went back");
                        if self.lost && bid.floor < self.newest() {
                            self.blind_up_to = self.newest();
                        }
                        self.nobody_else_lives(who);
                        // A session that asks above its own epoch has given it up.
                        for (owner, ends) in self.grants.values_mut() {
                            if *owner == who {
                                *ends = 0;
                            }
                        }
                    }
                }
                self.grants.insert(epoch, (who, self.now_ms + TTL_MS));
                self.floors[who] = self.floors[who].max(Some(epoch));
            }
            Acquired::Held { holder, left } => {
                assert_ne!(holder.session, bid.session);
                assert!(left <= holder.ttl);
                self.floors[who] = self.floors[who].max(Some(holder.epoch));
            }
            Acquired::Hold { retry_in, why } => {
                assert!(
                    retry_in >= Duration::from_millis(1)
                        && retry_in <= bid.hold + Duration::from_millis(1)
                );
                let hold = self
                    .register
                    .state
                    .as_ref()
                    .expect("a hold is written down");
                assert!(hold.hold_until_ms > self.now_ms);
                if why == HoldReason::Standing {
                    assert_eq!(
                        before.state, self.register.state,
                        "a standing hold is not moved"
                    );
                } else {
                    assert!(
                        self.register.epoch() >= bid.floor,
                        "the hold raises the record"
                    );
                    assert_eq!(self.register.leader, None);
                }
                self.nobody_passes();
            }
        }
    }

    /// A claim to be the incumbent that is older than the record is worth nothing.
    fn late_incumbents_pass_nothing(&mut self, bid: &Bid, before: &Register) {
        let after = std::mem::replace(&mut self.register, before.clone());
        // Looking lets a lease expire that has, as asking does.
        let known = self.with(Register::observe).epoch;
        if known <= bid.floor {
            self.register = after;
            return;
        }
        let claiming = Bid {
            incumbent: true,
            ..bid.clone()
        };
        let answer = self.with(|register, present| register.acquire(&claiming, present));
        assert!(answer.is_ok());
        assert_eq!(self.register, after, "an incumbent of the past had its way");
    }

    /// Whoever knew of a lease still standing was not granted another.
    fn nobody_else_lives(&self, who: usize) {
        for (epoch, (owner, ends)) in &self.grants {
            let stands = *ends >= self.now_ms && *owner != who;
            let known = Some(*epoch) > self.blind_up_to;
            assert!(
                !(stands && known),
                "epoch {epoch} of session {owner} stands until {ends}"
            );
        }
    }

    /// A hold binds everybody, with a memory or without.
    fn nobody_passes(&mut self) {
        let here = self.register.clone();
        for who in 0..SESSIONS {
            for remembers in [false, true] {
                let bid = self.bid(who, remembers);
                let answer = self.with(|register, present| register.acquire(&bid, present));
                assert!(
                    matches!(answer, Ok(Acquired::Hold { .. })),
                    "{answer:?} passed a hold"
                );
                self.register = here.clone();
            }
        }
    }

    fn write(&mut self, who: usize, which: usize, right_revision: bool) {
        let Some(epoch) = self.epoch_of(who, which) else {
            return;
        };
        let wrong = Some(Revision {
            epoch,
            seq: 1_000_000,
        });
        let write = CheckpointWrite {
            epoch,
            session: session(who),
            expected: if right_revision {
                self.checkpoint
            } else {
                wrong
            },
            bytes: Vec::new(),
        };
        let stored = self.checkpoint;
        let before = self.register.clone();
        match self.register.write_checkpoint(&write, stored) {
            CheckpointWritten::Written(revision) => {
                assert!(
                    right_revision,
                    "a write over an unknown revision was applied"
                );
                assert_eq!(self.grants[&epoch].0, who, "under another session's epoch");
                assert_eq!(revision.epoch, epoch);
                assert!(
                    self.lost || Some(revision) > self.written,
                    "a revision was given twice"
                );
                assert!(
                    self.lost || Some(epoch) == self.newest(),
                    "a stale epoch wrote"
                );
                self.checkpoint = Some(revision);
                self.written = Some(revision);
            }
            refused => {
                assert_eq!(before, self.register, "{refused:?} changed the record");
            }
        }
    }

    fn survives_json(&self) {
        let json = serde_json::to_string(&self.register).unwrap();
        let back: Register = serde_json::from_str(&json).unwrap();
        assert_eq!(back, self.register, "{json}");
    }

    fn judge(&self) {
        if let (Some(leader), false) = (&self.register.leader, self.lost) {
            let state = self.register.state.as_ref().expect("a leader has a state");
            assert_eq!(
                (state.epoch, state.expires_ms),
                (leader.epoch, leader.expires_ms)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_register_that_keeps_its_leases(ops in ops(false)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.survives_json();
    }

    #[test]
    fn a_register_that_loses_them(ops in ops(true)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.survives_json();
    }
}
