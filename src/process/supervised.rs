//! Under systemd: ready, how things are, alive, stopping.

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use tokio::sync::watch;

use super::beside::Phase;
use crate::sidecar::{Election, Watch};
use crate::systemd::{ServiceManager, Word};

/// Tells systemd of this process.
pub(super) struct Supervised {
    pub manager: ServiceManager,
    pub elections: Vec<Election>,
    /// Changes while the election loops turn; `None` where nobody asks.
    pub heartbeat: Option<watch::Receiver<u64>>,
    pub phase: watch::Receiver<Phase>,
}

impl Supervised {
    /// Tells until the elections have ended.
    pub async fn run(mut self) {
        self.until_all_turned().await;
        let mut told = self.status();
        self.manager.tell(&Word::Ready(&told)).await;
        let watches = self.elections.iter().map(Election::watch);
        let mut watches: Vec<Watch> = watches.flatten().collect();
        let mut stopping = false;
        loop {
            tokio::select! {
                () = beat(&mut self.heartbeat) => self.manager.tell(&Word::Alive).await,
                () = changed(&mut watches) => {
                    let status = self.status();
                    if status != told && !stopping {
                        self.manager.tell(&Word::Status(&status)).await;
                        told = status;
                    }
                }
                phase = self.phase.changed() => {
                    let over = phase.is_err() || *self.phase.borrow() == Phase::Over;
                    if !stopping {
                        stopping = true;
                        self.manager.tell(&Word::Stopping).await;
                    }
                    if over {
                        return;
                    }
                }
            }
        }
    }

    /// Until each loop has published something: what follows its first turn.
    async fn until_all_turned(&self) {
        for election in &self.elections {
            let _ = election.snapshots().changed().await;
        }
    }

    fn status(&self) -> String {
        let lines: Vec<String> = self.elections.iter().map(of_election).collect();
        lines.join("; ")
    }
}

/// Who leads, under which epoch; nothing that changes by itself.
fn of_election(election: &Election) -> String {
    let (name, snapshot) = (election.name(), election.snapshot());
    let state = snapshot.state();
    match (&snapshot.tenure, &snapshot.leader) {
        (Some(tenure), _) => format!("{name}: {state}, epoch {}", tenure.epoch),
        (None, Some(leader)) => {
            let (node, epoch) = (&leader.holder.profile.node, leader.holder.epoch);
            format!("{name}: {state} of {node}, epoch {epoch}")
        }
        (None, None) => match &snapshot.store.trouble {
            Some(trouble) => format!("{name}: {state}, store trouble: {trouble}"),
            None => format!("{name}: {state}, no leader known"),
        },
    }
}

/// A sign of life from the election loops; where none comes, none is passed on.
async fn beat(heartbeat: &mut Option<watch::Receiver<u64>>) {
    let beats = match heartbeat {
        Some(beats) => beats.changed().await.is_ok(),
        None => false,
    };
    if !beats {
        std::future::pending().await
    }
}

/// A change of any election.
async fn changed(watches: &mut Vec<Watch>) {
    if watches.is_empty() {
        return std::future::pending().await;
    }
    let all = watches.iter_mut().map(|watch| watch.changed().boxed());
    let (snapshot, which, others) = select_all(all).await;
    drop(others);
    if snapshot.is_none() {
        watches.swap_remove(which);
    }
}
