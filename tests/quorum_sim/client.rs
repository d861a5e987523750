//! A sidecar as small as it can be, with an app that counts: it asks, renews, reads what
//! it resumes from, writes, and leads exactly as long as C3 and C4 allow.

use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Epoch, Hint, Profile,
    Renewed, Revision, SessionId, StoreError,
};
use tenure::quorum::{Answer, Request, Ticket};
use tenure::time::{Moment, UnixMs};

use crate::invariants::Asked;
use crate::plan::Plan;

/// What the world notes of an answer.
pub enum Noted {
    Nothing,
    /// Leads now, until that moment on its own clock.
    Leads(Epoch, Moment),
    Stops,
    Acknowledged(Epoch, Revision, Vec<u8>),
    Read(Asked, Option<tenure::lease::Checkpoint>, Option<Epoch>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Acquire,
    Renew,
    Release,
    Read,
    Write,
}

struct Under {
    call: Call,
    ticket: Ticket,
    sent_at: Moment,
    asked: Option<Asked>,
    bytes: Vec<u8>,
}

struct Tenure {
    epoch: Epoch,
    until: Moment,
    renew_at: Moment,
    /// What the next write replaces, once it was read.
    value: Option<Option<(Revision, u64)>>,
    act_at: Moment,
}

pub struct Client {
    pub session: SessionId,
    profile: Profile,
    floor: Option<Epoch>,
    try_at: Moment,
    tenure: Option<Tenure>,
    under: Vec<Under>,
    next_ticket: Ticket,
}

impl Client {
    pub fn new(index: usize, session: SessionId, now: Moment) -> Self {
        let node = format!("n{index}").parse().unwrap();
        let profile = Profile {
            node,
            url: None,
            metadata: vec![1, 2],
        };
        Self {
            session,
            profile,
            floor: None,
            try_at: now,
            tenure: None,
            under: Vec::new(),
            next_ticket: 1,
        }
    }

    fn waits_for(&self, call: Call) -> bool {
        self.under.iter().any(|under| under.call == call)
    }

    pub fn wake_at(&self, plan: &Plan) -> Moment {
        let timeouts = self
            .under
            .iter()
            .map(|under| under.sent_at + plan.call_timeout());
        let due = match &self.tenure {
            Some(tenure) => {
                let act = (!self.waits_for(Call::Read) && !self.waits_for(Call::Write))
                    .then_some(tenure.act_at);
                let renew = (!self.waits_for(Call::Renew)).then_some(tenure.renew_at);
                [act, renew]
                    .into_iter()
                    .flatten()
                    .chain([tenure.until])
                    .min()
            }
            None => (!self.waits_for(Call::Acquire)).then_some(self.try_at),
        };
        timeouts.chain(due).min().unwrap()
    }

    /// What is due: questions to ask, and whether the tenure ended.
    pub fn wake(
        &mut self,
        now: Moment,
        plan: &Plan,
        asked: Asked,
    ) -> (Vec<(Ticket, Request)>, bool) {
        let limit = plan.call_timeout();
        let mut requests = Vec::new();
        for late in self
            .under
            .extract_if(.., |under| under.sent_at + limit <= now)
        {
            if late.call == Call::Acquire {
                self.try_at = now;
            }
            if let Some(tenure) = &mut self.tenure
                && late.call == Call::Write
            {
                tenure.value = None;
            }
        }
        let over = self.tenure.take_if(|tenure| tenure.until <= now);
        if let Some(over) = &over {
            self.floor = self.floor.max(Some(over.epoch));
            self.try_at = now;
        }
        if self.tenure.is_some() {
            self.hold(now, plan, asked, &mut requests);
        } else if self.try_at <= now && !self.waits_for(Call::Acquire) {
            let bid = Bid {
                session: self.session.clone(),
                profile: self.profile.clone(),
                ttl: plan.ttl,
                floor: self.floor,
                incumbent: false,
                hold: plan.ttl,
            };
            let wall = UnixMs(1);
            let request = Request::Acquire { bid, wall };
            requests.push(self.ask(now, Call::Acquire, request, None, Vec::new()));
        }
        (requests, over.is_some())
    }

    fn hold(
        &mut self,
        now: Moment,
        plan: &Plan,
        asked: Asked,
        requests: &mut Vec<(Ticket, Request)>,
    ) {
        let claim = self.claim(plan);
        let Some(tenure) = &mut self.tenure else {
            return;
        };
        let (epoch, value) = (tenure.epoch, tenure.value);
        let acts = tenure.act_at <= now;
        if tenure.renew_at <= now && !self.waits_for(Call::Renew) {
            let request = Request::Renew(claim);
            requests.push(self.ask(now, Call::Renew, request, None, Vec::new()));
        }
        if !acts || self.waits_for(Call::Read) || self.waits_for(Call::Write) {
            return;
        }
        match value {
            None => {
                requests.push(self.ask(now, Call::Read, Request::Read, Some(asked), Vec::new()))
            }
            Some(newest) => {
                let count = newest.map_or(0, |(_, count)| count) + 1;
                let write = CheckpointWrite {
                    epoch,
                    session: self.session.clone(),
                    expected: newest.map(|(revision, _)| revision),
                    bytes: bytes_of(count, epoch),
                };
                let bytes = write.bytes.clone();
                requests.push(self.ask(now, Call::Write, Request::Write(write), None, bytes));
            }
        }
    }

    fn claim(&self, plan: &Plan) -> Claim {
        Claim {
            epoch: self
                .tenure
                .as_ref()
                .map_or(Epoch::MAX, |tenure| tenure.epoch),
            session: self.session.clone(),
            ttl: plan.ttl,
            hold: plan.ttl,
        }
    }

    fn ask(
        &mut self,
        now: Moment,
        call: Call,
        request: Request,
        asked: Option<Asked>,
        bytes: Vec<u8>,
    ) -> (Ticket, Request) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.under.push(Under {
            call,
            ticket,
            sent_at: now,
            asked,
            bytes,
        });
        (ticket, request)
    }

    /// Stops leading, then gives the lease back.
    pub fn step_down(&mut self, now: Moment, plan: &Plan) -> Option<(Ticket, Request)> {
        let claim = self.claim(plan);
        let tenure = self.tenure.take()?;
        self.floor = self.floor.max(Some(tenure.epoch));
        self.try_at = now + plan.call_timeout() * 2;
        let prefer = None;
        let request = Request::Release { claim, prefer };
        Some(self.ask(now, Call::Release, request, None, Vec::new()))
    }

    pub fn hint(&mut self, now: Moment, hint: &Hint) {
        match hint {
            Hint::Ended { .. } => self.try_at = self.try_at.min(now),
            Hint::Present(observed) if observed.holder.is_none() => {
                self.try_at = self.try_at.min(now);
            }
            Hint::Began(epoch) => {
                if let Some(tenure) = &mut self.tenure
                    && *epoch > tenure.epoch
                {
                    tenure.renew_at = now;
                }
            }
            _ => {}
        }
    }

    pub fn answer(
        &mut self,
        now: Moment,
        plan: &Plan,
        ticket: Ticket,
        answer: Result<Answer, StoreError>,
    ) -> Noted {
        let Some(at) = self.under.iter().position(|under| under.ticket == ticket) else {
            return Noted::Nothing;
        };
        let under = self.under.remove(at);
        if let Err(error) = &answer
            && under.call == Call::Acquire
        {
            let pause = if matches!(error, StoreError::Rejected(_)) {
                4
            } else {
                1
            };
            self.try_at = now + plan.call_timeout() * pause / 3;
        }
        match answer {
            Ok(Answer::Acquired(acquired)) => self.acquired(now, plan, under.sent_at, acquired),
            Ok(Answer::Renewed(renewed)) => self.renewed(now, plan, under.sent_at, renewed),
            Ok(Answer::Read(read)) => self.read(now, under.asked.unwrap(), read),
            Ok(Answer::Written(written)) => self.written(now, plan, under.bytes, written),
            _ => {
                let retry = now + plan.call_timeout() / 2;
                if let Some(tenure) = &mut self.tenure {
                    match under.call {
                        Call::Renew => tenure.renew_at = retry,
                        Call::Write | Call::Read => {
                            tenure.value = None;
                            tenure.act_at = retry;
                        }
                        Call::Acquire | Call::Release => {}
                    }
                }
                Noted::Nothing
            }
        }
    }

    fn acquired(&mut self, now: Moment, plan: &Plan, sent_at: Moment, acquired: Acquired) -> Noted {
        match acquired {
            Acquired::Won { epoch, left } => {
                let until = sent_at + usable(plan, left);
                if until <= now || Some(epoch) <= self.floor {
                    self.floor = self.floor.max(Some(epoch));
                    self.try_at = now;
                    return Noted::Nothing;
                }
                self.floor = self.floor.max(Epoch::new(epoch.get() - 1).ok());
                self.tenure = Some(Tenure {
                    epoch,
                    until,
                    renew_at: sent_at + plan.ttl / 3,
                    value: None,
                    act_at: now,
                });
                Noted::Leads(epoch, until)
            }
            Acquired::Held { holder, left } => {
                if holder.session != self.session {
                    self.floor = self.floor.max(Some(holder.epoch));
                }
                self.try_at = now + left;
                Noted::Nothing
            }
            Acquired::Hold { retry_in, .. } => {
                self.try_at = now + retry_in;
                Noted::Nothing
            }
        }
    }

    fn renewed(&mut self, now: Moment, plan: &Plan, sent_at: Moment, renewed: Renewed) -> Noted {
        let Some(tenure) = &mut self.tenure else {
            return Noted::Nothing;
        };
        match renewed {
            Renewed::Kept { left } => {
                if tenure.until <= now {
                    return Noted::Nothing;
                }
                tenure.until = tenure.until.max(sent_at + usable(plan, left));
                tenure.renew_at = sent_at + plan.ttl / 3;
                Noted::Leads(tenure.epoch, tenure.until)
            }
            Renewed::Lost(_) => {
                self.floor = self.floor.max(Some(tenure.epoch));
                self.tenure = None;
                self.try_at = now;
                Noted::Stops
            }
        }
    }

    fn read(&mut self, now: Moment, asked: Asked, read: CheckpointRead) -> Noted {
        let found = match read {
            CheckpointRead::Present(checkpoint) => Some(checkpoint),
            _ => None,
        };
        // Who does not lead any more resumes from nothing.
        let leads = self.tenure.as_mut().filter(|tenure| now < tenure.until);
        let by = leads.map(|tenure| {
            let count =
                |found: &tenure::lease::Checkpoint| (found.revision, count_of(&found.bytes));
            tenure.value = Some(found.as_ref().map(count));
            tenure.epoch
        });
        Noted::Read(asked, found, by)
    }

    fn written(
        &mut self,
        now: Moment,
        plan: &Plan,
        bytes: Vec<u8>,
        written: CheckpointWritten,
    ) -> Noted {
        let CheckpointWritten::Written(revision) = written else {
            if let Some(tenure) = &mut self.tenure {
                tenure.value = None;
                tenure.act_at = now + plan.call_timeout() / 2;
            }
            return Noted::Nothing;
        };
        if let Some(tenure) = &mut self.tenure {
            tenure.value = Some(Some((revision, count_of(&bytes))));
            tenure.act_at = now + plan.ttl / 7;
        }
        Noted::Acknowledged(revision.epoch, revision, bytes)
    }
}

/// What the core itself counts on: T(1−ρ) − 1 ms. Real sidecars take more off.
fn usable(plan: &Plan, left: std::time::Duration) -> std::time::Duration {
    let drift = plan.drift.lengthen(left).saturating_sub(left);
    (left - drift).saturating_sub(std::time::Duration::from_millis(1))
}

fn bytes_of(count: u64, epoch: Epoch) -> Vec<u8> {
    [count.to_be_bytes(), epoch.get().to_be_bytes()].concat()
}

fn count_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}
