//! A node for tests: one machine, one election, the real clock. It can be stopped as
//! by SIGSTOP and dropped as by SIGKILL.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use tenure::backend::Backend;
use tenure::lease::{
    Acquired, Bid, Claim, Epoch, Hint, NodeId, Profile, SessionId, StoreError, Timing,
};
use tenure::machine::{Action, EventKind, Input, Machine, Percent, Settings, Snapshot, State};
use tenure::time::{Alarm, BootClock, Clock as _, within};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::recorder::{Grant, Recorder};

/// Nothing that is waited for takes as long, however loaded the machine is.
pub const BOUND: Duration = Duration::from_secs(30);

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brake {
    Off,
    /// Stop before the next grant is looked at.
    AtGrant,
    On,
}

/// What a node is given.
pub struct Start {
    pub id: NodeId,
    pub backend: Arc<dyn Backend>,
    pub timing: Timing,
    /// The highest epoch that an earlier life remembered.
    pub floor: Option<Epoch>,
    pub recorder: Arc<Recorder>,
}

/// A running node. Dropping it is a crash: nothing is released.
pub struct Node {
    pub id: NodeId,
    pub session: SessionId,
    commands: mpsc::UnboundedSender<Input>,
    brake: watch::Sender<Brake>,
    hears: watch::Receiver<bool>,
    snapshots: watch::Receiver<Snapshot>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    pub fn start(start: Start) -> Self {
        let session = SessionId::random().unwrap();
        let settings = Settings {
            node: start.id.clone(),
            timing: start.timing,
            drain: None,
            priority: Percent::FULL,
            health: None,
            seed: fastrand::u64(..),
        };
        let machine = Machine::new(settings, start.floor);
        let (commands, inbox) = mpsc::unbounded_channel();
        let brake = watch::channel(Brake::Off).0;
        let (publish, snapshots) = watch::channel(machine.snapshot().clone());
        let (heard, hears) = watch::channel(false);
        let id = start.id.clone();
        let run = Run {
            brake: brake.clone(),
            session: session.clone(),
            machine,
            inbox,
            heard,
            publish,
            start,
        };
        Self {
            id,
            session,
            commands,
            brake,
            hears,
            snapshots,
            task: tokio::spawn(run.run()),
        }
    }

    /// The epoch under which it leads now.
    pub fn leads(&self) -> Option<Epoch> {
        self.snapshots.borrow().fence_token(BootClock.now())
    }

    /// The highest epoch that it has seen.
    pub fn floor(&self) -> Option<Epoch> {
        self.snapshots.borrow().term
    }

    pub fn state(&self) -> State {
        self.snapshots.borrow().at(BootClock.now()).state()
    }

    /// Waits until its snapshot is like that, and returns it.
    pub async fn until(&self, what: &str, like: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut snapshots = self.snapshots.clone();
        let found = within(BOUND, snapshots.wait_for(|snapshot| like(snapshot))).await;
        match found {
            Some(Ok(snapshot)) => snapshot.clone(),
            _ => panic!(
                "{} never {what}: {:#?}",
                self.id,
                self.snapshots.borrow().clone()
            ),
        }
    }

    pub async fn until_leads(&self) -> Epoch {
        let leads = |snapshot: &Snapshot| snapshot.is_leader(BootClock.now());
        let snapshot = self.until("led", leads).await;
        snapshot.tenure.unwrap().epoch
    }

    pub async fn until_follows(&self) {
        let follows = |snapshot: &Snapshot| snapshot.state() == State::Follower;
        self.until("followed", follows).await;
    }

    /// Waits until what the store tells from now on reaches it. It may know the leader
    /// before, by asking; but a preferred successor is told to those who listen only.
    pub async fn until_listens(&self) {
        let mut hears = self.hears.clone();
        let heard = within(BOUND, hears.wait_for(|heard| *heard)).await;
        heard.expect("the store told nothing").unwrap();
    }

    /// Waits until it names the leader of that epoch.
    pub async fn until_knows(&self, epoch: Epoch) {
        let knows = |snapshot: &Snapshot| {
            let leader = snapshot.leader.as_ref();
            leader.is_some_and(|leader| leader.holder.epoch == epoch)
        };
        self.until("knew the leader", knows).await;
    }

    pub async fn until_lost(&self) {
        self.until("lost it", |snapshot| snapshot.tenure.is_none())
            .await;
    }

    pub fn step_down(&self, cooldown: Duration, to: Option<NodeId>) {
        let _ = self.commands.send(Input::StepDown { cooldown, to });
    }

    /// Ends it in order.
    pub async fn stop(mut self) {
        let _ = self.commands.send(Input::Stop);
        let ended = within(BOUND, &mut self.task).await;
        ended.expect("the node did not end").unwrap();
    }

    /// SIGSTOP, at the next turn.
    pub fn freeze(&self) {
        self.brake.send_replace(Brake::On);
    }

    /// SIGSTOP at the moment when a grant reaches it.
    pub fn freeze_at_grant(&self) {
        self.brake.send_replace(Brake::AtGrant);
    }

    pub async fn until_frozen(&self) {
        let mut brake = self.brake.subscribe();
        let frozen = within(BOUND, brake.wait_for(|brake| *brake == Brake::On)).await;
        frozen.expect("no grant reached the node").unwrap();
    }

    pub async fn until_thawed(&self) {
        let mut brake = self.brake.subscribe();
        let _ = brake.wait_for(|brake| *brake != Brake::On).await;
    }

    /// SIGKILL.
    pub fn crash(&self) {
        self.task.abort();
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.brake.send_replace(Brake::Off);
    }
}

struct Run {
    start: Start,
    session: SessionId,
    machine: Machine,
    inbox: mpsc::UnboundedReceiver<Input>,
    brake: watch::Sender<Brake>,
    heard: watch::Sender<bool>,
    publish: watch::Sender<Snapshot>,
}

type Calls = FuturesUnordered<BoxFuture<'static, Input>>;

impl Run {
    async fn run(mut self) {
        let mut alarm = Alarm::new().unwrap();
        let mut hints = self.start.backend.changes();
        let mut calls = Calls::new();
        let mut finished = self.turn(Input::Wake, &mut calls);
        while !finished {
            let idle = BootClock.now() + BOUND;
            let wake = self.machine.wake_at().unwrap_or(idle);
            let input = tokio::select! {
                Some(answer) = calls.next(), if !calls.is_empty() => answer,
                Some(command) = self.inbox.recv() => command,
                Some(hint) = hints.next() => {
                    if matches!(hint, Hint::Present(_)) {
                        self.heard.send_replace(true);
                    }
                    Input::Hint(hint)
                }
                fired = alarm.until(&BootClock, wake) => {
                    fired.unwrap();
                    Input::Wake
                }
            };
            self.stand_still(&input).await;
            finished = self.turn(input, &mut calls);
        }
        while calls.next().await.is_some() {}
    }

    async fn stand_still(&self, input: &Input) {
        let granted = matches!(input, Input::Acquired(_, Ok(Acquired::Won { .. })));
        if granted && *self.brake.borrow() == Brake::AtGrant {
            self.brake.send_replace(Brake::On);
        }
        let mut brake = self.brake.subscribe();
        let _ = brake.wait_for(|brake| *brake != Brake::On).await;
    }

    fn turn(&mut self, input: Input, calls: &mut Calls) -> bool {
        let mut actions = Vec::new();
        let now = BootClock.now();
        let before = self.machine.snapshot().tenure;
        self.machine.step(now, input, &mut actions);
        let snapshot = self.machine.snapshot().clone();
        let (id, recorder) = (&self.start.id, &self.start.recorder);
        let mut finished = false;
        for action in &actions {
            match action {
                Action::Announce(event) => match (event.kind, event.epoch) {
                    (EventKind::Acquired, _) => {
                        recorder.began(id, now, snapshot.tenure.unwrap());
                    }
                    (EventKind::Releasing, Some(epoch)) => {
                        recorder.leads_until(id, epoch, event.at)
                    }
                    (EventKind::Lost, Some(epoch)) => {
                        // What was draining led until then only.
                        let until = before.map_or(event.at, |tenure| tenure.leads_until);
                        if event.from == State::Leader {
                            recorder.leads_until(id, epoch, until.min(event.at));
                        }
                    }
                    _ => {}
                },
                Action::Finished => finished = true,
                _ => {}
            }
        }
        if let Some(tenure) = snapshot.tenure
            && snapshot.is_leader(now)
        {
            recorder.leads_until(id, tenure.epoch, tenure.leads_until);
        }
        self.publish.send_replace(snapshot);
        calls.extend(actions.into_iter().filter_map(|action| self.call(action)));
        finished
    }

    fn call(&self, action: Action) -> Option<BoxFuture<'static, Input>> {
        let backend = Arc::clone(&self.start.backend);
        let recorder = Arc::clone(&self.start.recorder);
        let limit = self.start.timing.call_timeout();
        match action {
            Action::Acquire {
                call,
                floor,
                incumbent,
                hold,
            } => {
                let bid = self.bid(floor, incumbent, hold);
                let ask = async move {
                    let sent_at = BootClock.now();
                    let answer = bounded(limit, backend.acquire(&bid)).await;
                    note(&recorder, &bid.session, sent_at, &answer);
                    Input::Acquired(call, answer)
                };
                Some(ask.boxed())
            }
            Action::Observe { call } => {
                let look =
                    async move { Input::Observed(call, bounded(limit, backend.observe()).await) };
                Some(look.boxed())
            }
            Action::Renew { call, epoch } => {
                let claim = self.claim(epoch);
                let ask = async move {
                    Input::Renewed(call, bounded(limit, backend.renew(&claim)).await)
                };
                Some(ask.boxed())
            }
            Action::Release {
                call,
                epoch,
                prefer,
            } => {
                let claim = self.claim(epoch);
                let ask = async move {
                    let release = backend.release(&claim, prefer.as_ref());
                    Input::Released(call, bounded(limit, release).await)
                };
                Some(ask.boxed())
            }
            _ => None,
        }
    }

    fn bid(&self, floor: Option<Epoch>, incumbent: bool, hold: Duration) -> Bid {
        Bid {
            session: self.session.clone(),
            profile: Profile {
                node: self.start.id.clone(),
                url: None,
                metadata: Vec::new(),
            },
            ttl: self.start.timing.ttl(),
            floor,
            incumbent,
            hold,
        }
    }

    fn claim(&self, epoch: Epoch) -> Claim {
        let timing = &self.start.timing;
        Claim {
            epoch,
            session: self.session.clone(),
            ttl: timing.ttl(),
            hold: timing.hold(timing.ttl()),
        }
    }
}

/// Notes a grant.
pub fn note(
    recorder: &Recorder,
    session: &SessionId,
    sent_at: tenure::time::Moment,
    answer: &Result<Acquired, StoreError>,
) -> Option<Grant> {
    let Ok(Acquired::Won { epoch, left }) = answer else {
        return None;
    };
    let grant = Grant {
        epoch: *epoch,
        session: session.clone(),
        left: *left,
        sent_at,
        answered_at: BootClock.now(),
    };
    recorder.granted(grant.clone());
    Some(grant)
}

/// What does not answer in time may have happened.
pub async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let silent = || Err(StoreError::Indeterminate(format!("no answer in {limit:?}")));
    within(limit, work).await.unwrap_or_else(silent)
}
