//! When the app is started and stopped, and what follows its end.
//!
//! The order is always the same: (1) not leader, everywhere; (2) the app stops; (3) the
//! lease is released, once the guard, or in its place the sidecar, has found that nothing
//! of the app is left. While there is an app this node is no candidate, so no second one
//! can be started beside it.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::forwarded::Forwarded;
use super::guarded::Guarded;
use super::message::{Ended, FromGuard};
use super::policy::{Next, Policy};
use super::report::Report;
use super::running::Setup;
use super::tree;
use crate::exit::Exit;
use crate::lease::Epoch;
use crate::machine::{Role, Snapshot, Tenure};
use crate::sidecar::Abstention;
use crate::time::{Alarm, Moment, millis_up, pause};

/// From one attempt to end what a dead guard left to the next.
const KILL_AGAIN: Duration = Duration::from_millis(10);

/// How a tenure's app ended.
enum Ending {
    /// It was asked to.
    Asked,
    /// By itself.
    ByItself(Next),
    /// This process is being aborted.
    Aborted,
}

pub struct Supervisor {
    setup: Setup,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    policy: Policy,
    deaths: Signal,
    forwarded: Forwarded,
    alarm: Alarm,
    report: Arc<Report>,
    aborted: watch::Receiver<bool>,
    /// The newest tenure that had its app. None has a second one: the word that the first
    /// is gone would be taken for the second's, too.
    served: Option<Epoch>,
}

impl Supervisor {
    pub fn new(
        setup: Setup,
        report: Arc<Report>,
        aborted: watch::Receiver<bool>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            snapshots: setup.election.snapshots(),
            policy: Policy::new(setup.app.restart, setup.app.crash_loop, setup.once),
            deaths: signal(SignalKind::child())?,
            forwarded: Forwarded::new()?,
            alarm: Alarm::new()?,
            report,
            aborted,
            served: None,
            setup,
        })
    }

    /// Until the app is run no more: how the process ends then, and what keeps this node
    /// from being granted a lease that nobody would give back.
    pub async fn run(mut self) -> (Exit, Option<Abstention>) {
        while let Some(tenure) = self.leading().await {
            let alive = self.setup.election.abstain("its app is there");
            let exit = match self.tenure(tenure).await {
                Ending::ByItself(Next::Exit(code)) => Exit::App(code),
                Ending::Asked if self.setup.once => Exit::Ok,
                Ending::Aborted => Exit::Ok,
                Ending::ByItself(_) | Ending::Asked => continue,
            };
            return (exit, Some(alive));
        }
        (Exit::Ok, None)
    }

    /// Waits for a tenure to begin; `None` where none will.
    async fn leading(&mut self) -> Option<Tenure> {
        loop {
            if *self.aborted.borrow() {
                return None;
            }
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            let leads = snapshot.fence_token(self.now());
            if leads > self.served {
                self.served = leads;
                return snapshot.tenure;
            }
            self.pass_over(&snapshot).await;
            tokio::select! {
                changed = self.snapshots.changed() => changed.ok()?,
                _ = self.aborted.changed() => {}
                _ = self.deaths.recv() => { tree::reap(|_, _| {}); }
                _ = self.forwarded.next() => {}
            }
        }
    }

    /// A tenure that was given up before its app was started has nothing to stop.
    async fn pass_over(&mut self, snapshot: &Snapshot) {
        let epoch = snapshot.tenure.map(|tenure| tenure.epoch);
        if let Some(epoch) = epoch.filter(|_| snapshot.role == Role::Draining)
            && Some(epoch) > self.served
        {
            self.served = Some(epoch);
            self.setup.part.done(epoch).await;
        }
    }

    fn now(&self) -> Moment {
        self.setup.election.clock().now()
    }

    /// Runs the app for one tenure; returns when nothing of it is left.
    async fn tenure(&mut self, tenure: Tenure) -> Ending {
        let election = self.setup.election.clone();
        // What was said of an earlier app while that was stopping is not said of this one.
        if let Some(ailments) = &mut self.setup.ailments {
            ailments.mark_unchanged();
        }
        self.report.starting();
        let mut run = match Guarded::start(&self.setup, &tenure) {
            Ok(guarded) => Run::new(tenure, self.now(), guarded),
            Err(error) => {
                tracing::error!(%error, "the app cannot be started");
                let next = self.ended_by_itself(&tenure, Duration::ZERO, Ended::Code(126));
                election
                    .app_ended(tenure.epoch, election.timing().ttl())
                    .await;
                self.report.gone();
                self.setup.part.done(tenure.epoch).await;
                return Ending::ByItself(next);
            }
        };
        self.attend(&mut run).await;
        self.report.gone();
        tracing::info!(election = %election.name(), epoch = %tenure.epoch, "the app is gone");
        if run.next.is_some() {
            // Whatever came before, nobody leads without an app: one that is said to be
            // drained is not heard while this node leads.
            let ttl = election.timing().ttl();
            election.app_ended(tenure.epoch, ttl).await;
            // It ended by itself: there is nobody left whom a hook could ask to drain.
            election.drained(tenure.epoch).await;
        } else {
            self.setup.part.done(tenure.epoch).await;
        }
        match run.next {
            _ if *self.aborted.borrow() => Ending::Aborted,
            Some(next) => Ending::ByItself(next),
            None => Ending::Asked,
        }
    }

    /// Until nothing of the app is left.
    async fn attend(&mut self, run: &mut Run) {
        let clock = self.setup.election.clone();
        let mut over = false;
        self.follow(run);
        loop {
            if *self.aborted.borrow() {
                run.asked = true;
                // At once; and then the guard has its time for that, or it would be hanging.
                run.guarded.stop(self.now());
            }
            let overdue_at = run.guarded.overdue_at();
            tokio::select! {
                // The guard's end is seen before the orphans that follow from it.
                biased;
                word = run.guarded.next() => match word {
                    Some(FromGuard::Gone) => return,
                    Some(word) => self.take(run, word).await,
                    None => return self.without_guard(run).await,
                },
                // Looked at before the step-down that follows from it, which asks the app to
                // stop. How one that was asked to stop is, does not matter any more.
                () = ailing(&mut self.setup.ailments), if run.is_judged() => self.ailed(run).await,
                changed = self.snapshots.changed(), if !over => {
                    over = changed.is_err();
                    self.follow(run);
                }
                _ = self.deaths.recv() => { tree::reap(|pid, _| run.guarded.buried(pid)); }
                Ok(()) = self.aborted.changed() => {}
                () = self.setup.part.turn(run.tenure.epoch), if run.waits_since.is_some() => {
                    self.follow(run);
                }
                signal = self.forwarded.next() => run.guarded.signal(signal),
                _ = self.alarm.until(clock.clock(), overdue_at), if !run.overdue => {
                    run.overdue = true;
                    tracing::warn!("the guard of the app hangs; killing it");
                    run.guarded.kill_guard();
                }
            }
        }
    }

    /// What the newest snapshot means for the app.
    fn follow(&mut self, run: &mut Run) {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        let now = self.now();
        let own = snapshot.tenure.filter(|own| own.epoch == run.tenure.epoch);
        match own {
            Some(tenure) => {
                run.guarded.prolong(&tenure);
                if snapshot.role != Role::Leading {
                    run.asked = true;
                    self.stop_in_turn(run, now);
                }
            }
            // Lost: the guard knows when all must be over, and that may be sooner.
            None => {
                run.asked = true;
                let budget = self.setup.election.timing().stop_budget();
                run.guarded.stop(now + budget);
            }
        }
    }

    /// Whoever drains before the app is stopped goes first, and takes of the time for both;
    /// but the app is left what it is left when a lease is lost.
    fn stop_in_turn(&self, run: &mut Run, now: Moment) {
        let since = *run.waits_since.get_or_insert(now);
        if self.setup.part.is_turn(run.tenure.epoch) {
            run.waits_since = None;
            let limit = self.setup.drain_timeout;
            let least = self.setup.election.timing().stop_budget().min(limit);
            let kill_at = (since + limit).max(now + least);
            run.guarded.stop(kill_at);
        }
    }

    /// The app turned out to be unhealthy: it ends of that, as if by itself. Leadership
    /// ends here, for the app may be well again before the election looks.
    async fn ailed(&mut self, run: &mut Run) {
        let ran = self.now().since(run.since);
        tracing::warn!(election = %self.setup.election.name(), "the app is unhealthy: starting it anew");
        let next = self.ended_by_itself(&run.tenure, ran, Ended::Signal(15));
        run.next = Some(next);
        let ttl = self.setup.election.timing().ttl();
        self.setup.election.app_unfit(run.tenure.epoch, ttl).await;
    }

    async fn take(&mut self, run: &mut Run, word: FromGuard) {
        let election = &self.setup.election;
        let epoch = run.tenure.epoch;
        match word {
            FromGuard::Started(pid) => {
                run.began = true;
                run.group = Some(pid);
                self.report.started(pid);
                let pid = pid.as_raw_nonzero();
                tracing::info!(election = %election.name(), %epoch, pid, "the app runs");
            }
            FromGuard::Stopping => {
                run.asked = true;
                // Should the lease have been prolonged at that very moment, the app that
                // leadership is for is stopping all the same.
                election.app_ended(epoch, Duration::ZERO).await;
            }
            FromGuard::Exited(ended) => self.exited(run, ended).await,
            FromGuard::Gone => {}
        }
    }

    /// The main process has ended.
    async fn exited(&mut self, run: &mut Run, ended: Ended) {
        let election = self.setup.election.clone();
        tracing::info!(election = %election.name(), %ended, asked = run.asked, "the app ended");
        // Buried: its number is anybody's as soon as its group is empty.
        run.group = None;
        if run.is_judged() {
            let ran = self.now().since(run.since);
            // Before leadership ends, so that nobody takes this for an app that was asked.
            run.next = Some(self.ended_by_itself(&run.tenure, ran, ended));
            let ttl = election.timing().ttl();
            election.app_ended(run.tenure.epoch, ttl).await;
        }
    }

    /// Judges an end that nobody asked for, and begins the rest that it earns.
    fn ended_by_itself(&mut self, tenure: &Tenure, ran: Duration, ended: Ended) -> Next {
        let election = &self.setup.election;
        let next = self.policy.ended(self.now(), ran, ended);
        self.report.ended_by_itself();
        let (why, span) = match next {
            Next::Exit(_) => return next,
            Next::Rest(span) => ("its app ended", span),
            Next::StayOut(span) => ("crash loop", span),
        };
        let shown = Duration::from_millis(millis_up(span));
        let shown = humantime::format_duration(shown);
        let trouble = match next {
            Next::StayOut(_) => {
                let limit = self.setup.app.crash_loop;
                let text = format!(
                    "crash loop: the app ended {limit}, at last with {ended}; this node stays \
                     out for {shown}, others may lead"
                );
                tracing::error!(election = %election.name(), epoch = %tenure.epoch, "{text}");
                text
            }
            _ => format!("the app ended with {ended}; this node rests for {shown}"),
        };
        self.report.trouble(Some(trouble));
        let abstention = election.abstain(why);
        tokio::spawn(rest(abstention, span, Arc::clone(&self.report)));
        next
    }

    /// The guard is dead, and with it the app's main process. What else there was is this
    /// process' child by now, or will be in a moment; this process has no other children
    /// but, as the first of a container, the orphans of others.
    async fn without_guard(&mut self, run: &mut Run) {
        let ended = if !run.began {
            tracing::error!("the guard ended before it started the app");
            Ended::Code(126)
        } else {
            if !run.overdue {
                tracing::error!("the guard of the app was killed; ending what it guarded");
            }
            Ended::Signal(9)
        };
        if run.is_judged() {
            let ran = self.now().since(run.since);
            run.next = Some(self.ended_by_itself(&run.tenure, ran, ended));
            let ttl = self.setup.election.timing().ttl();
            self.setup.election.app_ended(run.tenure.epoch, ttl).await;
        }
        tree::kill(run.group.take());
        while tree::reap(|pid, _| run.guarded.buried(pid)) {
            tokio::select! {
                _ = self.deaths.recv() => {}
                () = pause(KILL_AGAIN) => {}
            }
            tree::kill(None);
        }
    }
}

/// One app of one tenure.
struct Run {
    tenure: Tenure,
    since: Moment,
    guarded: Guarded,
    /// There was an app.
    began: bool,
    /// The app's group, while its main process is not buried.
    group: Option<Pid>,
    /// It is being stopped: its end is not its own.
    asked: bool,
    /// What follows its end, where that was its own.
    next: Option<Next>,
    /// Leadership is given up since then, and others drain before the app is stopped.
    waits_since: Option<Moment>,
    /// The guard was killed because it hung.
    overdue: bool,
}

impl Run {
    fn new(tenure: Tenure, since: Moment, guarded: Guarded) -> Self {
        Self {
            tenure,
            since,
            guarded,
            began: false,
            group: None,
            asked: false,
            next: None,
            waits_since: None,
            overdue: false,
        }
    }

    /// Its end would be its own: it was not asked to stop, and has not ended yet.
    fn is_judged(&self) -> bool {
        !self.asked && self.next.is_none()
    }
}

/// The app turned out to be unhealthy and is to be started anew.
async fn ailing(ailments: &mut Option<watch::Receiver<u64>>) {
    let ailed = match ailments {
        Some(ailments) => ailments.changed().await.is_ok(),
        None => false,
    };
    if !ailed {
        std::future::pending().await
    }
}

async fn rest(abstention: Abstention, span: Duration, report: Arc<Report>) {
    pause(span).await;
    report.trouble(None);
    drop(abstention);
}
