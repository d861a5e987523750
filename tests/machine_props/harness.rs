//! A machine, and the judge of its every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tenure::lease::{
    Acquired, Drift, Epoch, Hint, HoldReason, Holder, NodeId, Observed, Profile, Released, Renewed,
    SessionId, StoreError, Timing,
};
use tenure::machine::{
    Action, AppHealth, CallId, EventKind, Input, Machine, Percent, Role, Settings, Tenure,
    campaign_delay,
};
use tenure::time::{Moment, UnixMs};

use super::moves::Move;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Acquire,
    Observe,
    Renew,
    Release,
}

pub struct Open {
    pub kind: Kind,
    pub epoch: Option<Epoch>,
    pub sent_at: Moment,
}

pub struct Harness {
    pub machine: Machine,
    pub timing: Timing,
    pub drains: bool,
    pub now: Moment,
    pub open: BTreeMap<u64, Open>,
    pub newest: u64,
    pub floor: Option<Epoch>,
    pub led: BTreeSet<Epoch>,
    /// The last send for this node's epoch that was answered well, or may yet be.
    pub sends: BTreeMap<Epoch, Moment>,
    /// The epoch under which the app works.
    pub working: Option<Epoch>,
    pub candidate: bool,
    /// What is known of the app; it says nothing before it is asked.
    pub health: Option<AppHealth>,
    pub priority: Percent,
    /// The lease that the store denied last while it stood, nobody else holding it.
    pub denied: Option<Tenure>,
    /// Whether it was ever given a cooldown, or told of a preferred successor.
    pub lets_others_go_first: bool,
    pub finished: bool,
}

pub fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

pub fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub fn holder(number: u64, name: &str) -> Holder {
    Holder {
        epoch: epoch(number),
        session: SessionId::from_bits(u128::from(number)),
        profile: Profile {
            node: node(name),
            url: None,
            metadata: Vec::new(),
        },
        since: UnixMs(0),
        ttl: Duration::from_millis(1_000),
    }
}

pub fn trouble(how: u8) -> StoreError {
    match how % 3 {
        0 => StoreError::Unavailable("down".into()),
        1 => StoreError::Indeterminate("late".into()),
        _ => StoreError::Rejected("no".into()),
    }
}

impl Harness {
    pub fn new(drains: bool, floor: Option<u64>, priority: Percent, seed: u64) -> Self {
        let ms = Duration::from_millis;
        let stop = if drains { ms(200) } else { ms(0) };
        let timing = Timing::new(ms(1_000), ms(300), ms(150), stop, Drift::ONE_PERCENT).unwrap();
        let settings = Settings {
            node: node("self"),
            timing,
            drain: drains.then_some(ms(700)),
            priority,
            health: None,
            seed,
        };
        Self {
            machine: Machine::new(settings, floor.map(epoch)),
            timing,
            drains,
            now: Moment::from_millis(10_000),
            open: BTreeMap::new(),
            newest: floor.unwrap_or(0),
            floor: floor.map(epoch),
            led: BTreeSet::new(),
            sends: BTreeMap::new(),
            working: None,
            candidate: true,
            health: None,
            priority,
            denied: None,
            lets_others_go_first: false,
            finished: false,
        }
    }

    pub fn play(&mut self, pause_ms: u64, next: &Move) {
        self.now = self.now + Duration::from_millis(pause_ms);
        let input = match next {
            Move::Wake => Some(Input::Wake),
            Move::Alarm => {
                if let Some(due) = self.machine.wake_at() {
                    self.now = self.now.max(due);
                }
                Some(Input::Wake)
            }
            Move::Answer {
                which,
                how,
                left_ms,
                raise,
            } => self.answer(*which, *how, Duration::from_millis(*left_ms), *raise),
            Move::Stray { call, kind, epoch } => self.stray(*call, *kind, *epoch),
            Move::Hint { kind, epoch } => Some(Input::Hint(self.hint(*kind, *epoch))),
            Move::Drained { late } => self.app(*late).map(|epoch| self.drained(epoch)),
            Move::AppEnded { late } => self.app(*late).map(|epoch| Input::AppEnded {
                epoch,
                cooldown: Duration::from_secs(1),
            }),
            Move::AppUnfit { late } => self.app(*late).map(|epoch| Input::AppUnfit {
                epoch,
                cooldown: Duration::from_secs(1),
            }),
            Move::Candidacy(candidate) => {
                self.candidate = *candidate;
                Some(Input::Candidacy(*candidate))
            }
            Move::Health { healthy, score } => {
                let health = AppHealth {
                    healthy: *healthy,
                    score: Percent::new(*score).unwrap(),
                };
                self.health = Some(health);
                Some(Input::Health(health))
            }
            Move::StepDown {
                cooldown_ms,
                to_self,
            } => Some(Input::StepDown {
                cooldown: Duration::from_millis(*cooldown_ms),
                to: to_self.then(|| node("self")),
            }),
            Move::Stop => Some(Input::Stop),
        };
        if let Some(input) = input {
            self.step(input);
        }
    }

    pub fn may_lead(&self) -> bool {
        self.candidate && self.health.is_none_or(|health| health.healthy)
    }

    /// The epoch of the app of so many tenures ago.
    pub fn app(&self, ago: u64) -> Option<Epoch> {
        let ago = usize::try_from(ago).unwrap();
        self.led.iter().rev().nth(ago).copied()
    }

    pub fn drained(&mut self, epoch: Epoch) -> Input {
        self.working.take_if(|working| *working == epoch);
        Input::Drained(epoch)
    }

    /// Answers one open call in one of the ways a store may.
    pub fn answer(&mut self, which: u8, how: u8, left: Duration, raise: u64) -> Option<Input> {
        let ids: Vec<u64> = self.open.keys().copied().collect();
        let id = *ids.get(usize::from(which) % ids.len().max(1))?;
        let open = self.open.remove(&id)?;
        let call = CallId(id);
        let ok = !how.is_multiple_of(4);
        Some(match open.kind {
            Kind::Acquire if !ok => Input::Acquired(call, Err(trouble(how / 4))),
            Kind::Acquire => {
                let answer = match how % 4 {
                    1 => {
                        // A grant is above the bid's floor, as every store keeps it.
                        self.newest = self.newest.max(self.floor.map_or(0, Epoch::get)) + 1 + raise;
                        self.sends.insert(epoch(self.newest), open.sent_at);
                        Acquired::Won {
                            epoch: epoch(self.newest),
                            left,
                        }
                    }
                    2 => Acquired::Held {
                        holder: holder((self.newest + raise).max(1), "other"),
                        left: left.min(Duration::from_secs(1)),
                    },
                    _ => Acquired::Hold {
                        retry_in: left,
                        why: HoldReason::Standing,
                    },
                };
                Input::Acquired(call, Ok(answer))
            }
            Kind::Observe if !ok => Input::Observed(call, Err(trouble(how / 4))),
            Kind::Observe => {
                let newest = self.newest + raise;
                let holder = (how % 4 > 1 && newest > 0)
                    .then(|| (holder(newest, "other"), left.min(Duration::from_secs(1))));
                let epoch = (newest > 0).then(|| epoch(newest));
                Input::Observed(call, Ok(Observed { epoch, holder }))
            }
            Kind::Renew if !ok => Input::Renewed(call, Err(trouble(how / 4))),
            Kind::Renew => {
                let answer = match how % 8 {
                    1 => Renewed::Lost(None),
                    2 => Renewed::Lost(Some(holder(self.newest + 1, "other"))),
                    _ => {
                        let sent = open.epoch.and_then(|epoch| self.sends.get_mut(&epoch));
                        if let Some(sent) = sent {
                            *sent = open.sent_at.max(*sent);
                        }
                        Renewed::Kept { left }
                    }
                };
                Input::Renewed(call, Ok(answer))
            }
            Kind::Release if !ok => Input::Released(call, Err(trouble(how / 4))),
            Kind::Release if how % 4 == 1 => Input::Released(call, Ok(Released::NotHeld)),
            Kind::Release => Input::Released(call, Ok(Released::Released)),
        })
    }

    pub fn stray(&self, call: u64, kind: u8, number: u64) -> Option<Input> {
        if self.open.contains_key(&call) {
            return None;
        }
        let (call, left) = (CallId(call), Duration::from_secs(1));
        Some(match kind % 3 {
            0 => Input::Acquired(
                call,
                Ok(Acquired::Won {
                    epoch: epoch(number),
                    left,
                }),
            ),
            1 => Input::Renewed(call, Ok(Renewed::Kept { left })),
            _ => Input::Released(call, Ok(Released::Released)),
        })
    }

    pub fn hint(&self, kind: u8, number: u64) -> Hint {
        match kind % 6 {
            0 => Hint::Gap,
            1 => Hint::Began(epoch(number)),
            2 => Hint::Ended {
                epoch: epoch(number),
                prefer: None,
            },
            3 => Hint::Ended {
                epoch: epoch(number),
                prefer: Some(node("other")),
            },
            4 => Hint::Present(Observed {
                epoch: Some(epoch(number)),
                holder: None,
            }),
            _ => Hint::Present(Observed {
                epoch: Some(epoch(number)),
                holder: Some((holder(number, "other"), Duration::from_millis(500))),
            }),
        }
    }

    pub fn step(&mut self, input: Input) {
        self.lets_others_go_first |= match &input {
            Input::StepDown { .. } | Input::AppEnded { .. } | Input::AppUnfit { .. } => true,
            Input::Health(health) => !health.healthy,
            Input::Hint(Hint::Ended { prefer, .. }) => prefer.is_some(),
            _ => false,
        };
        let now = self.now;
        let read = self.machine.snapshot().at(now);
        let before = self.machine.snapshot().clone();
        let wake = input == Input::Wake;
        if matches!(input, Input::Renewed(_, Ok(Renewed::Lost(None)))) {
            self.denied = before.tenure.or(self.denied);
        }
        let mut actions = Vec::new();
        self.machine.step(now, input, &mut actions);
        let after = self.machine.snapshot().clone();
        let announced = actions
            .iter()
            .filter_map(|action| match action {
                Action::Announce(transition) => Some(transition.revision),
                _ => None,
            })
            .collect::<Vec<_>>();
        let wanted: Vec<u64> = (before.revision + 1..=after.revision).collect();
        assert_eq!(
            announced, wanted,
            "each announcement raises the revision by one"
        );
        if wake {
            let seen = (read.revision, read.state(), read.tenure);
            assert_eq!(seen, (after.revision, after.state(), after.tenure));
        }
        assert!(after.term >= before.term, "the floor fell");
        assert!(
            self.machine.wake_at().is_none_or(|due| due > now),
            "it spins"
        );
        for action in actions {
            self.take(&before, action);
        }
        self.judge_tenure();
    }

    pub fn judge_tenure(&self) {
        let snapshot = self.machine.snapshot();
        let Some(tenure) = snapshot.tenure else {
            assert!(!snapshot.is_leader(self.now));
            return;
        };
        let sent = self.sends[&tenure.epoch];
        assert!(tenure.ends_at <= self.timing.ends_at(sent, self.timing.ttl()));
        assert_eq!(tenure.leads_until, self.timing.leads_until(tenure.ends_at));
        assert!(tenure.leads_until <= tenure.ends_at);
        assert!(
            Some(tenure.epoch) <= snapshot.term,
            "the own epoch is in the floor"
        );
        if snapshot.is_leader(self.now) {
            assert!(self.now < tenure.leads_until);
            assert!(!snapshot.stopping, "nobody leads while it stops");
        }
        assert!(
            !snapshot.is_leader(tenure.leads_until),
            "the deadline itself is too late"
        );
    }

    pub fn open_call(&mut self, call: CallId, kind: Kind, epoch: Option<Epoch>) {
        let asks = |kind| matches!(kind, Kind::Acquire | Kind::Observe);
        let rival = |open: &Open| {
            (open.kind == kind || asks(kind) && asks(open.kind)) && open.epoch == epoch
        };
        assert!(
            !self.open.values().any(rival),
            "two {kind:?} at a time for {epoch:?}"
        );
        let sent_at = self.now;
        let open = Open {
            kind,
            epoch,
            sent_at,
        };
        assert!(
            self.open.insert(call.0, open).is_none(),
            "{call:?} is used twice"
        );
    }

    pub fn take(&mut self, before: &tenure::machine::Snapshot, action: Action) {
        match action {
            Action::Acquire {
                call,
                floor,
                hold,
                incumbent,
            } => {
                if incumbent {
                    let denied = self.denied.expect("an incumbent of nothing");
                    assert!(self.now < denied.leads_until, "an incumbent of the past");
                    assert_eq!(floor, Some(denied.epoch), "another tenure came since");
                }
                assert!(floor >= self.floor, "a bid's floor fell");
                assert!(
                    floor >= self.led.last().copied(),
                    "a led epoch is not in the floor"
                );
                assert!(hold >= self.timing.hold(self.timing.ttl()));
                assert!(!self.finished, "it has ended");
                assert!(self.may_lead(), "it asks for what it must not have");
                self.floor = floor;
                self.open_call(call, Kind::Acquire, None);
            }
            Action::Observe { call } => {
                let delay = campaign_delay(self.priority, self.health, self.timing.call_timeout());
                assert!(
                    !self.may_lead() || !delay.is_zero() || self.lets_others_go_first,
                    "it only looks at what it may have"
                );
                self.open_call(call, Kind::Observe, None);
            }
            Action::Renew { call, epoch } => {
                let tenure = self
                    .machine
                    .snapshot()
                    .tenure
                    .expect("a renewal without a lease");
                assert_eq!(tenure.epoch, epoch);
                let over = match self.machine.snapshot().role {
                    Role::Leading => tenure.leads_until,
                    _ => tenure.ends_at,
                };
                assert!(self.now < over, "a dead lease is renewed");
                self.open_call(call, Kind::Renew, Some(epoch));
            }
            Action::Release { call, epoch, .. } => {
                assert!(!self.machine.snapshot().is_leader(self.now));
                assert!(self.working != Some(epoch), "released while the app works");
                self.open_call(call, Kind::Release, Some(epoch));
            }
            Action::Drain => {
                assert!(self.drains);
                assert!(
                    !self.machine.snapshot().is_leader(self.now),
                    "drains while it leads"
                );
            }
            Action::Announce(transition) => {
                assert!(transition.at <= self.now);
                if transition.kind == EventKind::Acquired {
                    let epoch = transition.epoch.expect("a tenure has an epoch");
                    assert!(self.led.insert(epoch), "epoch {epoch} is led twice");
                    assert!(Some(epoch) > before.term, "epoch {epoch} was dead");
                    assert!(self.may_lead(), "it leads though it is no candidate");
                    self.working = self.drains.then_some(epoch);
                }
            }
            Action::WarnSameId(_) => {}
            Action::Finished => {
                assert!(!self.finished, "it ends once");
                self.finished = true;
            }
        }
    }

    /// Everything is answered, every alarm rings, the app drains: it must end.
    pub fn wind_down(&mut self) {
        self.step(Input::Stop);
        for turn in 0..200u8 {
            if self.finished {
                break;
            }
            if let Some(input) = self.answer(0, turn, Duration::from_secs(1), 0) {
                self.now = self.now + Duration::from_millis(5);
                self.step(input);
            } else if let Some(epoch) = self.working
                && turn % 2 == 0
            {
                let drained = self.drained(epoch);
                self.step(drained);
            } else if let Some(due) = self.machine.wake_at() {
                self.now = self.now.max(due);
                self.step(Input::Wake);
            }
        }
        assert!(self.finished, "asked to stop, it never ended");
        assert_eq!(self.machine.wake_at(), None);
    }
}
