//! The loop that turns one machine: clock, store, hints and commands in, calls out.
//!
//! It decides nothing. Its one duty beyond carrying is order: a changed snapshot is
//! published before the calls of the same step are made, so that nobody can read
//! "leader" after the release was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use super::abstention::Abstentions;
use super::calls::Caller;
use super::heartbeat::Heart;
use super::history::History;
use crate::backend::Hints;
use crate::lease::{Epoch, NodeId};
use crate::machine::{
    Action, AppHealth, EventKind, Input, Machine, Reason, Role, Snapshot, Transition,
};
use crate::time::{Alarm, Clock, Moment};

/// What the handles ask of the loop.
#[derive(Debug)]
pub(super) enum Command {
    StepDown {
        cooldown: Duration,
        to: Option<NodeId>,
        reply: oneshot::Sender<Departure>,
    },
    Drained(Epoch),
    AppEnded {
        epoch: Epoch,
        cooldown: Duration,
    },
    AppUnfit {
        epoch: Epoch,
        cooldown: Duration,
    },
    Stop,
}

/// How a step-down went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The lease is free.
    Released,
    /// The store could not be told; the lease frees itself at its end.
    LeftToExpire {
        /// That end, by this node's clock.
        free_at: Moment,
    },
    /// This node did not lead.
    NotLeader,
}

pub(super) struct Driver {
    pub clock: Arc<dyn Clock>,
    pub machine: Machine,
    pub caller: Caller,
    pub hints: Hints,
    pub commands: mpsc::Receiver<Command>,
    pub abstentions: watch::Receiver<Abstentions>,
    pub health: watch::Receiver<Option<AppHealth>>,
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    pub history: Arc<History>,
    /// The moment of the last turn, in nanoseconds; what liveness is judged by.
    pub last_turn: Arc<AtomicU64>,
    /// The loop turns at least this often, though nothing be due.
    pub turn_every: Duration,
    /// Who is told of each turn.
    pub pulse: Option<Pulse>,
}

/// One loop's part in the heartbeat of all of them.
pub(super) struct Pulse {
    pub heart: Arc<Heart>,
    pub which: usize,
}

impl Driver {
    /// Turns until the machine has finished.
    pub(super) async fn run(mut self) -> std::io::Result<()> {
        let mut alarm = Alarm::new()?;
        let mut calls = FuturesUnordered::new();
        let mut waiting = Vec::new();
        let mut orphaned = false;
        let candidacy = self.candidacy();
        let mut finished = self.step(candidacy, &mut calls, &mut waiting);
        while !finished || !calls.is_empty() {
            let next_turn = self.clock.now() + self.turn_every;
            let wake = self
                .machine
                .wake_at()
                .map_or(next_turn, |due| due.min(next_turn));
            let input = tokio::select! {
                Some(answer) = calls.next(), if !calls.is_empty() => answer,
                command = self.commands.recv(), if !orphaned => {
                    orphaned = command.is_none();
                    accept(command, &mut waiting)
                }
                Some(hint) = self.hints.next() => Input::Hint(hint),
                Ok(()) = self.abstentions.changed() => self.candidacy(),
                Ok(()) = self.health.changed() => self.app_health(),
                fired = alarm.until(&*self.clock, wake) => {
                    fired?;
                    Input::Wake
                }
            };
            // Before anything else is taken in: whoever abstains is granted nothing more.
            if self.abstentions.has_changed().unwrap_or(false) {
                let candidacy = self.candidacy();
                finished |= self.step(candidacy, &mut calls, &mut waiting);
            }
            finished |= self.step(input, &mut calls, &mut waiting);
        }
        if let Some(pulse) = &self.pulse {
            pulse.heart.ended(pulse.which, self.clock.now());
        }
        Ok(())
    }

    fn app_health(&mut self) -> Input {
        let health = *self.health.borrow_and_update();
        health.map_or(Input::Wake, Input::Health)
    }

    fn candidacy(&mut self) -> Input {
        Input::Candidacy(self.abstentions.borrow_and_update().is_empty())
    }

    /// One turn; whether the machine has finished.
    fn step(
        &mut self,
        input: Input,
        calls: &mut FuturesUnordered<BoxFuture<'static, Input>>,
        waiting: &mut Vec<oneshot::Sender<Departure>>,
    ) -> bool {
        // A step that ends a tenure forgets it.
        let tenure = self.machine.snapshot().tenure;
        let (now, actions) = self.turn(input);
        let free_at = tenure.map_or(now, |tenure| tenure.ends_at);
        let mut finished = false;
        for action in actions {
            match action {
                Action::Announce(transition) => self.announce(&transition, free_at, waiting),
                Action::WarnSameId(session) => tracing::warn!(
                    election = %self.caller.name,
                    id = %self.caller.profile.node,
                    %session,
                    "another process holds the lease under this id: an earlier start of this \
                     node, or a second one with the same --id; give each node its own"
                ),
                Action::Drain => {}
                Action::Finished => finished = true,
                call => calls.extend(self.caller.make(call)),
            }
        }
        self.answer_idle(waiting);
        finished
    }

    /// Turns the machine and publishes, in one piece: a reader that finds a deadline
    /// passed cannot be overtaken by a step that began before it (see `Published`).
    /// Readers find in the history every event of the snapshot that they see.
    fn turn(&mut self, input: Input) -> (Moment, Vec<Action>) {
        let mut turned = Moment::default();
        let mut actions = Vec::new();
        self.snapshots.send_modify(|published| {
            turned = self.clock.now();
            self.machine.step(turned, input, &mut actions);
            for action in &actions {
                if let Action::Announce(transition) = action {
                    self.history.add(transition, turned, self.clock.wall());
                }
            }
            *published = Arc::new(self.machine.snapshot().clone());
        });
        let metrics = &self.caller.metrics;
        metrics.turned(turned, self.machine.snapshot());
        self.last_turn.store(turned.as_nanos(), Ordering::Release);
        if let Some(pulse) = &self.pulse {
            pulse.heart.turned(pulse.which, turned);
        }
        (turned, actions)
    }

    fn announce(
        &self,
        transition: &Transition,
        free_at: Moment,
        waiting: &mut Vec<oneshot::Sender<Departure>>,
    ) {
        self.caller.metrics.transition(transition);
        self.log(transition);
        if transition.kind == EventKind::Lost {
            let departure = match transition.reason {
                Reason::Released => Departure::Released,
                _ => Departure::LeftToExpire { free_at },
            };
            for reply in waiting.drain(..) {
                let _ = reply.send(departure);
            }
        }
    }

    /// A step-down that found nothing to give up is answered at once.
    fn answer_idle(&self, waiting: &mut Vec<oneshot::Sender<Departure>>) {
        if self.machine.snapshot().role != Role::Draining {
            for reply in waiting.drain(..) {
                let _ = reply.send(Departure::NotLeader);
            }
        }
    }

    fn log(&self, transition: &Transition) {
        let election = &self.caller.name;
        let epoch = transition.epoch.map_or(0, Epoch::get);
        let reason = transition.reason.as_str();
        match transition.kind {
            EventKind::Acquired => tracing::info!(%election, epoch, "leading"),
            EventKind::Releasing => tracing::info!(%election, epoch, reason, "stepping down"),
            EventKind::Lost => tracing::info!(%election, epoch, reason, "no longer leading"),
            EventKind::LeaderChanged => match &transition.leader {
                Some(leader) => tracing::info!(%election, epoch, %leader, "following"),
                None => tracing::info!(%election, "no leader known"),
            },
            EventKind::HealthChanged => {
                let health = self.machine.snapshot().health;
                let score = health.map_or(0, |health| health.score.get());
                match transition.reason {
                    Reason::Unhealthy => {
                        tracing::warn!(%election, "the app is not healthy; no candidate");
                    }
                    _ => tracing::info!(%election, score, "the app is healthy"),
                }
            }
            EventKind::BackendUp => tracing::info!(%election, "store answers"),
            EventKind::BackendDown => {
                let trouble = self.machine.snapshot().store.trouble.clone();
                let trouble = trouble.unwrap_or_default();
                tracing::warn!(%election, trouble, "store trouble; retrying");
            }
        }
    }
}

fn accept(command: Option<Command>, waiting: &mut Vec<oneshot::Sender<Departure>>) -> Input {
    match command {
        Some(Command::StepDown {
            cooldown,
            to,
            reply,
        }) => {
            waiting.push(reply);
            Input::StepDown { cooldown, to }
        }
        Some(Command::Drained(epoch)) => Input::Drained(epoch),
        Some(Command::AppEnded { epoch, cooldown }) => Input::AppEnded { epoch, cooldown },
        Some(Command::AppUnfit { epoch, cooldown }) => Input::AppUnfit { epoch, cooldown },
        // Every handle is gone: nobody wants this leadership.
        Some(Command::Stop) | None => Input::Stop,
    }
}
