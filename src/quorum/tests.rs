//! What a member knows after a restart of a grant that was given up, and whom it follows.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::lease::{Acquired, Bid, Claim, Drift, Profile, Released, SessionId};
use crate::peers::DiskId;
use crate::time::UnixMs;

const TTL: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_millis(450);
const COUNT: usize = 3;

fn id(member: usize) -> MemberId {
    (member + 1).to_string().parse().unwrap()
}

/// Three members on a network that takes no time, and their disks.
struct Cluster {
    now: Moment,
    sessions: u128,
    disks: Vec<(DiskId, Option<Record>)>,
    members: Vec<(QuorumLease, SessionId)>,
    under_way: VecDeque<(usize, usize, Box<Envelope>)>,
    answers: Vec<Result<Answer, StoreError>>,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            now: Moment::from_millis(1_000_000),
            sessions: 0,
            disks: Vec::new(),
            members: Vec::new(),
            under_way: VecDeque::new(),
            answers: Vec::new(),
        };
        for member in 0..COUNT {
            cluster.disks.push((DiskId::random().unwrap(), None));
            let started = cluster.started(member);
            cluster.members.push(started);
        }
        cluster
    }

    fn started(&mut self, member: usize) -> (QuorumLease, SessionId) {
        let settings = Settings {
            own: id(member),
            disk: self.disks[member].0.clone(),
            members: (0..COUNT).map(id).collect(),
            algorithm: Algorithm::Bully,
            drift: Drift::ONE_PERCENT,
            longest_lease: TTL,
            patience: PATIENCE,
            seed: 7,
            flaw: None,
        };
        let start = match self.disks[member].1.clone() {
            Some(record) => Start::Record(Box::new(record)),
            None => Start::Bootstrap,
        };
        self.sessions += 1;
        let session = SessionId::from_bits(self.sessions);
        (QuorumLease::new(self.now, settings, start), session)
    }

    /// What is not on the disk is lost.
    fn restart(&mut self, member: usize) {
        self.members[member] = self.started(member);
    }

    fn step(&mut self, member: usize, input: Input) {
        let mut out = Vec::new();
        self.members[member].0.step(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Persist(record) => self.disks[member].1 = Some(*record),
                Output::Send { to, envelope } => {
                    let to = (0..COUNT).find(|other| id(*other) == to).unwrap();
                    self.under_way.push_back((member, to, envelope));
                }
                Output::Answer { answer, .. } => self.answers.push(answer),
                Output::Hint(_) | Output::Warn(_) => {}
            }
        }
    }

    fn ask(&mut self, member: usize, request: Request) -> Result<Answer, StoreError> {
        self.answers.clear();
        self.step(member, Input::Ask { ticket: 1, request });
        self.deliver();
        self.answers.pop().unwrap()
    }

    fn deliver(&mut self) {
        while let Some((from, to, envelope)) = self.under_way.pop_front() {
            let from = id(from);
            self.step(to, Input::Message { from, envelope });
        }
    }

    fn bid(&self, member: usize) -> Request {
        let node = id(member).to_string().parse().unwrap();
        let bid = Bid {
            session: self.members[member].1.clone(),
            profile: Profile {
                node,
                url: None,
                metadata: Vec::new(),
            },
            ttl: TTL,
            floor: None,
            incumbent: false,
            hold: TTL * 2,
        };
        let wall = UnixMs(0);
        Request::Acquire { bid, wall }
    }

    fn acquire(&mut self, member: usize) -> Acquired {
        let request = self.bid(member);
        match self.ask(member, request) {
            Ok(Answer::Acquired(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// The epoch that this member is granted now, without any wait.
    #[track_caller]
    fn won(&mut self, member: usize) -> Epoch {
        match self.acquire(member) {
            Acquired::Won { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&self, member: usize, epoch: Epoch) -> Claim {
        Claim {
            epoch,
            session: self.members[member].1.clone(),
            ttl: TTL,
            hold: TTL * 2,
        }
    }

    #[track_caller]
    fn release(&mut self, member: usize, epoch: Epoch) {
        let claim = self.claim(member, epoch);
        let prefer = None;
        let answer = self.ask(member, Request::Release { claim, prefer });
        assert_eq!(answer, Ok(Answer::Released(Released::Released)));
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        for member in 0..COUNT {
            self.step(member, Input::Wake);
        }
        self.deliver();
    }

    /// Whether member `to` agrees to what `from` asks of it.
    fn agrees(&mut self, from: usize, to: usize, message: Message) -> bool {
        let disks = self.disks.iter().enumerate();
        let disks = disks.map(|(member, (disk, _))| (id(member), disk.clone()));
        let envelope = Box::new(Envelope {
            disk: self.disks[from].0.clone(),
            disks: Roster::of(disks),
            message,
        });
        let from = id(from);
        self.step(to, Input::Message { from, envelope });
        let answers = std::mem::take(&mut self.under_way);
        let ok = |(_, _, answer): &(usize, usize, Box<Envelope>)| match answer.message {
            Message::Ack { ok, .. } => Some(ok),
            _ => None,
        };
        answers.iter().find_map(ok).unwrap()
    }

    fn grant(&self, member: usize, epoch: u64) -> Grant {
        Grant {
            epoch: Epoch::new(epoch).unwrap(),
            member: id(member),
            session: self.members[member].1.clone(),
            lease_ms: crate::time::millis(TTL),
            profile: Profile {
                node: id(member).to_string().parse().unwrap(),
                url: None,
                metadata: Vec::new(),
            },
            since: UnixMs(0),
        }
    }

    fn noted(&self, member: usize) -> bool {
        self.disks[member].1.as_ref().unwrap().ended
    }
}

#[test]
fn a_released_grant_does_not_bind_its_holder_after_a_restart() {
    let mut cluster = Cluster::new();
    let first = cluster.won(2);
    cluster.release(2, first);
    cluster.restart(2);
    let second = cluster.won(1);
    cluster.pass(PATIENCE);
    cluster.release(1, second);
    // It was down then, and comes up while the lease that it released would still last.
    cluster.restart(1);
    assert!(cluster.won(2) > second);
}

#[test]
fn whoever_was_told_of_a_release_does_not_forget_it() {
    let mut cluster = Cluster::new();
    let epoch = cluster.won(0);
    cluster.release(0, epoch);
    // Nobody waits for these disks, and nobody overtakes them.
    assert!(cluster.noted(0) && !cluster.noted(1) && !cluster.noted(2));
    cluster.pass(PATIENCE);
    assert!(cluster.noted(1) && cluster.noted(2));
    for member in 0..COUNT {
        cluster.restart(member);
    }
    assert!(cluster.won(1) > epoch);
    assert!(!cluster.noted(1) && !cluster.noted(2));
}

#[test]
fn after_a_restart_a_late_renewal_does_not_bring_a_released_grant_back() {
    let mut cluster = Cluster::new();
    let epoch = cluster.won(0);
    let claim = cluster.claim(0, epoch);
    cluster.step(
        0,
        Input::Ask {
            ticket: 2,
            request: Request::Renew(claim),
        },
    );
    let late: Vec<_> = cluster.under_way.drain(..).collect();
    cluster.release(0, epoch);
    cluster.pass(PATIENCE);
    cluster.restart(2);
    cluster.under_way.extend(late);
    cluster.deliver();
    assert!(cluster.won(2) > epoch);
}

#[test]
fn a_release_of_another_grant_is_not_noted() {
    let mut cluster = Cluster::new();
    let first = cluster.won(0);
    let claim = cluster.claim(0, first);
    let prefer = None;
    cluster.step(
        0,
        Input::Ask {
            ticket: 2,
            request: Request::Release { claim, prefer },
        },
    );
    let late: Vec<_> = cluster.under_way.drain(..).collect();
    // Only the holder's own disk knows of the end, and the next lease is another one.
    cluster.now = cluster.now + TTL * 2;
    let second = cluster.won(0);
    cluster.under_way.extend(late);
    cluster.deliver();
    cluster.pass(PATIENCE);
    assert!((0..COUNT).all(|member| !cluster.noted(member)));
    cluster.restart(1);
    match cluster.acquire(2) {
        Acquired::Held { holder, .. } => assert_eq!(holder.epoch, second),
        other => panic!("{other:?}"),
    }
}

/// As after the stop of a leader whose heirs both claim: each has its own vote and the other's
/// nay, and that of the member that has gone is never given.
#[test]
fn a_claim_in_vain_does_not_wait_for_a_member_that_is_gone() {
    let mut cluster = Cluster::new();
    let mut claims = Vec::new();
    let request = cluster.bid(0);
    cluster.step(0, Input::Ask { ticket: 1, request });
    while let Some((from, to, envelope)) = cluster.under_way.pop_front() {
        match &envelope.message {
            Message::Coordinator { grant } => claims.push((grant.epoch, to, envelope.clone())),
            _ => cluster.step(
                to,
                Input::Message {
                    from: id(from),
                    envelope,
                },
            ),
        }
    }
    let (epoch, _, _) = claims[0];
    let grant = cluster.grant(2, epoch.get());
    assert!(cluster.agrees(2, 1, Message::Coordinator { grant }));
    let claim = claims.into_iter().find(|(_, to, _)| *to == 1).unwrap();
    cluster.under_way.push_back((0, 1, claim.2));
    cluster.deliver();
    assert_eq!(cluster.answers, [], "the third may vote for it");
    cluster.step(0, Input::Suspected(id(2)));
    assert!(
        matches!(
            cluster.answers.as_slice(),
            [Ok(Answer::Acquired(Acquired::Hold { .. }))]
        ),
        "{:?}",
        cluster.answers
    );
}

#[test]
fn a_record_of_an_earlier_version_reads_as_before() {
    let mut record = Record::default();
    let before = serde_json::to_string(&record).unwrap();
    assert!(!before.contains("ended"), "{before}");
    assert_eq!(serde_json::from_str::<Record>(&before).unwrap(), record);
    record.ended = true;
    let after = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&after).unwrap(), record);
}

#[test]
fn who_granted_an_epoch_to_a_claim_that_failed_follows_its_holder() {
    let mut cluster = Cluster::new();
    let (failed, held) = (cluster.grant(1, 5), cluster.grant(0, 5));
    let renewal = |grant: &Grant, seq| {
        let grant = grant.clone();
        Message::Heartbeat { grant, seq }
    };
    let claim = Message::Coordinator {
        grant: failed.clone(),
    };
    assert!(cluster.agrees(1, 2, claim));
    // What it granted may be counted upon until it is over.
    assert!(!cluster.agrees(0, 2, renewal(&held, 1)));
    cluster.now = cluster.now + TTL * 2;
    assert!(cluster.agrees(0, 2, renewal(&held, 2)));
    let noted = cluster.disks[2].1.as_ref().unwrap();
    assert_eq!(noted.grant.as_ref(), Some(&held));
    assert!(!cluster.agrees(1, 2, renewal(&failed, 1)), "two holders");
    // Nobody is granted that epoch anew.
    cluster.now = cluster.now + TTL * 2;
    let claim = Message::Coordinator { grant: failed };
    assert!(!cluster.agrees(1, 2, claim));
}
