//! The store: one [`Register`] with its clock, a checkpoint that counts, a resource
//! that fences by token, and the planted bugs of a store.

use tenure::lease::register::{LeaderKey, Present, Register};
use tenure::lease::{
    Acquired, Bid, CheckpointWrite, CheckpointWritten, Claim, Epoch, Hint, HoldReason, NodeId,
    Observed, Released, Renewed, Revision,
};
use tenure::time::UnixMs;

use super::clock::{MS, SimClock, TrueNs};
use super::mutants::Mutant;
use super::plan::Plan;

#[derive(Clone, Debug)]
pub enum Request {
    Acquire {
        bid: Bid,
        /// Only a planted bug takes a lease that stands.
        seize: bool,
    },
    Observe,
    Renew(Claim),
    Release(Claim, Option<NodeId>),
    ReadCheckpoint,
    WriteCheckpoint(CheckpointWrite),
    /// A write to the app's own resource, which knows only the token.
    UseResource(Epoch),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Acquired(Acquired),
    Observed(Observed),
    Renewed(Renewed),
    Released(Released),
    Read(Option<Stored>),
    Written(CheckpointWritten),
    Resource { accepted: bool },
}

/// The checkpoint: a counter.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub revision: Revision,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Up,
    /// Refuses: surely not applied.
    Down,
    /// Swallows: not applied, no answer.
    Silent,
    /// Applies or not, and answers with an error.
    Uncertain,
}

#[derive(Clone, Debug)]
pub struct Copy {
    pub register: Register,
    pub checkpoint: Option<Stored>,
}

pub struct Store {
    pub register: Register,
    pub checkpoint: Option<Stored>,
    pub health: Health,
    pub health_id: u64,
    pub server: u32,
    pub copies: Vec<Copy>,
    pub wall_off_ms: i64,
    pub lease_off_ms: u64,
    resource_newest: Option<Epoch>,
    clock: SimClock,
    wall_start_ms: u64,
    mutant: Option<Mutant>,
}

impl Store {
    pub fn new(plan: &Plan, mutant: Option<Mutant>) -> Self {
        Self {
            register: Register::default(),
            checkpoint: None,
            health: Health::Up,
            health_id: 0,
            server: 1,
            copies: Vec::new(),
            wall_off_ms: 0,
            lease_off_ms: 60_000,
            resource_newest: None,
            clock: plan.store_clock,
            wall_start_ms: plan.wall_start_ms,
            mutant,
        }
    }

    /// The clock that leases expire by.
    pub fn lease_ms(&self, now: TrueNs) -> u64 {
        self.clock.at(now).as_millis() + self.lease_off_ms
    }

    pub fn wall_ms(&self, now: TrueNs) -> u64 {
        (self.wall_start_ms + now / MS).saturating_add_signed(self.wall_off_ms)
    }

    pub fn observe(&mut self, now: TrueNs) -> Observed {
        self.with(now, Register::observe)
    }

    fn with<T>(&mut self, now: TrueNs, change: impl FnOnce(&mut Register, Present<'_>) -> T) -> T {
        let server = format!("server-{}", self.server);
        let wall = match self.mutant {
            Some(Mutant::EpochExpires) => 0,
            _ => self.wall_ms(now),
        };
        let present = Present {
            lease_ms: self.lease_ms(now),
            wall: UnixMs(wall),
            server: &server,
        };
        change(&mut self.register, present)
    }

    /// Applies one request; what changed is hinted to everybody.
    pub fn apply(&mut self, now: TrueNs, request: &Request) -> (Answer, Option<Hint>) {
        self.plant_before(now);
        match request {
            Request::Acquire { bid, seize } => self.acquire(now, bid, *seize),
            Request::Observe => (Answer::Observed(self.observe(now)), None),
            Request::Renew(claim) => (Answer::Renewed(self.renew(now, claim)), None),
            Request::Release(claim, prefer) => {
                let held = self.register.leader.is_some();
                let answer = self.release(now, claim);
                let (epoch, prefer) = (claim.epoch, prefer.clone());
                let hint = (held && self.register.leader.is_none())
                    .then_some(Hint::Ended { epoch, prefer });
                (Answer::Released(answer), hint)
            }
            Request::ReadCheckpoint => (Answer::Read(self.checkpoint), None),
            Request::WriteCheckpoint(write) => (Answer::Written(self.write(write)), None),
            Request::UseResource(token) => (self.use_resource(*token), None),
        }
    }

    fn plant_before(&mut self, now: TrueNs) {
        let lease_ms = self.lease_ms(now);
        let leader = &mut self.register.leader;
        match self.mutant {
            Some(Mutant::EpochExpires)
                if leader
                    .as_ref()
                    .is_none_or(|leader| leader.expires_ms < lease_ms) =>
            {
                self.register = Register::default();
            }
            Some(Mutant::LeaseNeverExpires) => {
                if let Some(leader) = leader {
                    leader.expires_ms = lease_ms + 1_000_000;
                }
            }
            Some(Mutant::HoldNeverEnds) => {
                if let Some(state) = &mut self.register.state
                    && state.hold_until_ms > 0
                {
                    state.hold_until_ms = lease_ms + 1_000_000;
                }
            }
            _ => {}
        }
    }

    fn acquire(&mut self, now: TrueNs, bid: &Bid, seize: bool) -> (Answer, Option<Hint>) {
        let before = self.register.epoch();
        let mut bid = bid.clone();
        self.plant_in_bid(&mut bid);
        if seize
            && let (Some(_), Some(state)) = (self.register.leader.take(), &mut self.register.state)
        {
            state.ended = true;
        }
        let mut answer = self.with(now, |register, present| register.acquire(&bid, present));
        if let (Ok(Acquired::Hold { why, .. }), Some(state)) = (&answer, &mut self.register.state) {
            let skips = match self.mutant {
                Some(Mutant::NoHold) => {
                    matches!(why, HoldReason::StoreWentBack | HoldReason::LeaseVanished)
                }
                Some(Mutant::HoldForgotten) => *why == HoldReason::Standing,
                Some(Mutant::NoQuarantine) => *why == HoldReason::ServerChanged,
                _ => false,
            };
            if skips {
                state.hold_until_ms = 0;
                answer = self.with(now, |register, present| register.acquire(&bid, present));
            }
        }
        let answer = answer.expect("no history uses up the epochs");
        let hint = match answer {
            Acquired::Won { epoch, .. } if before != Some(epoch) => Some(Hint::Began(epoch)),
            _ => None,
        };
        (Answer::Acquired(answer), hint)
    }

    fn plant_in_bid(&self, bid: &mut Bid) {
        match (self.mutant, &self.register.leader) {
            (Some(Mutant::AcquireIgnoresFloor), Some(leader)) if leader.session == bid.session => {
                bid.floor = Epoch::new(leader.epoch.get() - 1).ok();
            }
            (Some(Mutant::EpochExpires), _) => bid.floor = None,
            _ => {}
        }
    }

    fn renew(&mut self, now: TrueNs, claim: &Claim) -> Renewed {
        let answer = self.with(now, |register, present| register.renew(claim, present));
        if self.mutant == Some(Mutant::RenewResurrects) && self.register.leader.is_none() {
            let ttl_ms = tenure::time::millis(claim.ttl);
            self.register.leader = Some(LeaderKey {
                epoch: claim.epoch,
                session: claim.session.clone(),
                expires_ms: self.lease_ms(now) + ttl_ms,
            });
            return Renewed::Kept { left: claim.ttl };
        }
        answer
    }

    fn release(&mut self, now: TrueNs, claim: &Claim) -> Released {
        if self.mutant == Some(Mutant::ReleaseWithoutOwner) {
            self.register.leader = None;
            if let Some(state) = &mut self.register.state {
                state.ended = true;
            }
            return Released::Released;
        }
        self.with(now, |register, present| register.release(claim, present))
    }

    fn write(&mut self, write: &CheckpointWrite) -> CheckpointWritten {
        let stored = self.checkpoint.map(|stored| stored.revision);
        let mut write = write.clone();
        match (self.mutant, &self.register.state) {
            (Some(Mutant::WriteWithoutRevision), _) => write.expected = stored,
            (Some(Mutant::WriteWithoutSession), Some(state)) => {
                write.session = state.session.clone().unwrap_or(write.session);
            }
            _ => {}
        }
        let answer = self.register.write_checkpoint(&write, stored);
        if let CheckpointWritten::Written(revision) = answer {
            let count = count_of(&write.bytes);
            self.checkpoint = Some(Stored { revision, count });
        }
        answer
    }

    fn use_resource(&mut self, token: Epoch) -> Answer {
        let accepted = match self.resource_newest {
            None => true,
            Some(newest) if self.mutant == Some(Mutant::EpochsAsText) => {
                token.to_string() >= newest.to_string()
            }
            Some(newest) => token >= newest,
        };
        if accepted {
            self.resource_newest = Some(token);
        }
        Answer::Resource { accepted }
    }

    pub fn copy(&self) -> Copy {
        Copy {
            register: self.register.clone(),
            checkpoint: self.checkpoint,
        }
    }
}

pub fn bytes_of(count: u64) -> Vec<u8> {
    count.to_be_bytes().to_vec()
}

pub fn count_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}
