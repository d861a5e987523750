//! One member of the cluster and the one connection to it.
//!
//! A connection is made when somebody asks for it, by a task of its own: an attempt
//! goes on when the one who asked has lost patience. It is given up, never repaired.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::client::Client;
use super::connection::{self, Address, Driver, Opened};
use crate::lease::StoreError;
use crate::time::{Clock, Moment, within};
use crate::wire::{Credentials, Endpoint, Loaded};

/// Between attempts to connect: doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// A connection that stands, as far as anybody knows.
#[derive(Clone)]
pub(super) struct Live {
    pub client: Client,
    /// What it is called in messages.
    pub name: Arc<str>,
    /// Which connection of which member it is.
    pub via: Via,
    /// Its version may end a lease before its time; see [`super::record`].
    pub ends_early: bool,
    loaded: Arc<Loaded>,
    driver: Driver,
}

/// Names one connection, among all that a store ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Via {
    pub member: usize,
    generation: u64,
}

enum State {
    /// Nobody has asked yet, or the connection ended after it had worked.
    Idle,
    /// An attempt is under way; why the one before it failed.
    Connecting(Option<StoreError>),
    /// Requests can be made.
    Up(Box<Live>),
    /// The last attempt failed; the next one is made from that moment on.
    Down(StoreError, Moment),
}

/// What all members have in common.
pub(super) struct Common {
    pub credentials: Credentials,
    pub call_timeout: Duration,
    pub clock: Arc<dyn Clock>,
}

pub(super) struct Member {
    number: usize,
    endpoint: Endpoint,
    name: Arc<str>,
    common: Arc<Common>,
    state: watch::Sender<State>,
    attempts: Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    made: u64,
    failed: u32,
    last: Option<AbortHandle>,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(attempt) = &self.attempts().last {
            attempt.abort();
        }
        if let State::Up(live) = &*self.state.borrow() {
            live.driver.close();
        }
    }
}

impl Member {
    pub(super) fn new(number: usize, endpoint: Endpoint, tls: bool, common: Arc<Common>) -> Self {
        let scheme = if tls { "etcds" } else { "etcd" };
        Self {
            number,
            name: format!("{scheme}://{endpoint}").into(),
            endpoint,
            common,
            state: watch::channel(State::Idle).0,
            attempts: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection; where there is none, one is made.
    ///
    /// # Errors
    /// `Unavailable` and the like: no request was made.
    pub(super) async fn live(self: &Arc<Self>, patience: Duration) -> Result<Live, StoreError> {
        let now = self.common.clock.now();
        let due = self.state.send_if_modified(|state| {
            let failed = match state {
                State::Idle => None,
                State::Down(why, next) if *next <= now => Some(why.clone()),
                _ => return false,
            };
            *state = State::Connecting(failed);
            true
        });
        if due {
            self.attempt();
        }
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting(_)));
        let _ = within(patience, settled).await;
        match &*self.state.borrow() {
            State::Up(live) => Ok((**live).clone()),
            State::Down(why, _) | State::Connecting(Some(why)) => Err(why.clone()),
            State::Idle | State::Connecting(None) => {
                let text = format!("still connecting to {}", self.name);
                Err(StoreError::Unavailable(text))
            }
        }
    }

    fn attempt(self: &Arc<Self>) {
        let mut attempts = self.attempts();
        attempts.made += 1;
        let generation = attempts.made;
        // Weak: a store that is dropped meanwhile is connected no more.
        let member = Arc::downgrade(self);
        let (common, endpoint) = (Arc::clone(&self.common), self.endpoint.clone());
        let name = Arc::clone(&self.name);
        let task = tokio::spawn(async move {
            // What was refused may have been rotated meanwhile.
            common.credentials.look_again().await;
            let loaded = common.credentials.newest();
            let address = Address {
                endpoint: &endpoint,
                name: &name,
                loaded: &loaded,
            };
            let opened = connection::open(&address, common.call_timeout).await;
            if let Some(member) = member.upgrade() {
                member.settle(opened, loaded, generation);
            }
        });
        attempts.last = Some(task.abort_handle());
    }

    fn settle(&self, opened: Result<Opened, StoreError>, loaded: Arc<Loaded>, generation: u64) {
        match opened {
            Ok(opened) => self.up(opened, loaded, generation),
            Err(error) => {
                let failed = {
                    let mut attempts = self.attempts();
                    attempts.failed = attempts.failed.saturating_add(1);
                    attempts.failed
                };
                if failed == 1 {
                    tracing::warn!(store = %self.name, %error, "no connection to etcd");
                }
                let next = self.common.clock.now() + pause_after(failed);
                self.state.send_replace(State::Down(error, next));
            }
        }
    }

    fn up(&self, opened: Opened, loaded: Arc<Loaded>, generation: u64) {
        tracing::info!(store = %self.name, version = %opened.version, "connected to etcd");
        let first = {
            let mut attempts = self.attempts();
            attempts.failed = 0;
            attempts.made == 1
        };
        let ends_early = connection::has_known_lease_bugs(&opened.version);
        if first && ends_early {
            tracing::warn!(
                store = %self.name,
                version = %opened.version,
                "this etcd has a known bug (etcd#15247): a member that hung while it led may end \
                 a lease that lives, or prolong one that is over; so after a change of its leader a \
                 crash of ours costs one TTL more, and each renewal reads along. Update to 3.4.31, 3.5.13 or newer"
            );
        }
        let live = Live {
            client: opened.client,
            name: Arc::clone(&self.name),
            via: Via {
                member: self.number,
                generation,
            },
            ends_early,
            loaded,
            driver: opened.driver,
        };
        self.state.send_replace(State::Up(Box::new(live)));
    }

    /// Gives up that connection, if it is still the one in use. Everything on it ends.
    pub(super) fn cut(&self, via: Via, why: &str) {
        let cut = self.state.send_if_modified(|state| {
            match state {
                State::Up(live) if live.via == via => live.driver.close(),
                _ => return false,
            }
            *state = State::Idle;
            true
        });
        if cut {
            tracing::warn!(store = %self.name, why, "the connection to etcd is given up");
        }
    }

    /// What the connection in use was made with.
    pub(super) fn shown(&self) -> Option<Arc<Loaded>> {
        match &*self.state.borrow() {
            State::Up(live) => Some(Arc::clone(&live.loaded)),
            _ => None,
        }
    }

    /// Puts a connection with changed credentials in the place of the one in use, and
    /// only then lets that one go: what is under way on it has `grace` to end.
    ///
    /// # Errors
    /// Where the new one does not work; the one in use stays.
    pub(super) async fn replace(
        &self,
        loaded: Arc<Loaded>,
        grace: Duration,
    ) -> Result<(), StoreError> {
        let address = Address {
            endpoint: &self.endpoint,
            name: &self.name,
            loaded: &loaded,
        };
        let opened = connection::open(&address, self.common.call_timeout).await?;
        let generation = {
            let mut attempts = self.attempts();
            attempts.made += 1;
            attempts.made
        };
        let resting = match &*self.state.borrow() {
            State::Up(live) => Some((**live).clone()),
            _ => None,
        };
        self.up(opened, loaded, generation);
        tokio::spawn(async move {
            crate::time::pause(grace).await;
            if let Some(live) = resting {
                live.driver.close();
            }
        });
        Ok(())
    }
}

/// Doubling, and spread so that many nodes do not come back in one moment.
fn pause_after(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE * (1 << failures.saturating_sub(1).min(8));
    doubled.min(LAST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
}
