//! Keeps a link connected: one connection after the other.
//!
//! Only credentials that have changed are taken up before the old connection goes: a
//! second one is made with them, and the first one rests once that one serves.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::PushInfo;
use redis::aio::MultiplexedConnection;
use tokio::task::AbortHandle;

use super::connection::{Driver, Opened};
use super::link::{Duty, Link, Live, State};
use super::rights;
use super::scripts::teach;
use super::server;
use super::subscriptions::subscribe;
use crate::lease::StoreError;
use crate::time::pause;
use crate::wire::{Endpoint, Loaded};

/// Between attempts to connect: doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Between attempts with changed credentials that are refused so far, while the
/// connection in use stands.
const TRY_CHANGED_EVERY: Duration = Duration::from_secs(5);
/// Between looks at whether the server is still the writable one, where another may be
/// promoted without a word to this node.
const LOOK_AT_ROLE_EVERY: Duration = Duration::from_secs(5);

/// A link that is kept connected.
pub(super) struct Kept {
    pub link: Arc<Link>,
    _supervisor: Supervisor,
}

impl Kept {
    pub(super) fn new(link: Link) -> Self {
        let link = Arc::new(link);
        let supervisor = Supervisor::start(&link);
        Self {
            link,
            _supervisor: supervisor,
        }
    }
}

/// The supervisor's task; it ends with this value.
struct Supervisor(AbortHandle);

impl Supervisor {
    /// Keeps `link` connected from now on.
    fn start(link: &Arc<Link>) -> Self {
        Self(tokio::spawn(supervise(Arc::clone(link))).abort_handle())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn supervise(link: Arc<Link>) {
    let mut generation = 0;
    let mut failures = 0;
    let mut told = None;
    let mut advised = None;
    loop {
        generation += 1;
        let failed = told.clone();
        link.state.send_replace(State::Connecting(failed));
        let loaded = link.access.credentials.newest();
        match connect(&link, loaded, generation).await {
            Ok(connected) => {
                tell_of(&link, &connected, &mut advised);
                told = None;
                let up_at = link.access.clock.now();
                generation = serve_in_turn(&link, connected).await;
                // A server that drops everybody at once is not asked at full speed.
                let lasted = link.access.clock.now().since(up_at) > LAST_PAUSE;
                failures = if lasted { 0 } else { failures + 1 };
            }
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    tracing::warn!(store = %link.address(), %error, "no connection to Redis");
                }
                told = Some(error.clone());
                link.state.send_replace(State::Down(error));
                link.troubled();
                failures += 1;
            }
        }
        pause(pause_after(failures)).await;
        // What was refused may have been rotated meanwhile.
        link.access.credentials.look_again().await;
    }
}

/// A connection, and what it was made with.
struct Connected {
    opened: Opened,
    loaded: Arc<Loaded>,
    generation: u64,
    endpoint: Endpoint,
}

async fn connect(
    link: &Arc<Link>,
    loaded: Arc<Loaded>,
    generation: u64,
) -> Result<Connected, StoreError> {
    let access = &link.access;
    let endpoint = link.route.find(access).await?;
    let pushes = pushes_to(link, generation);
    let expected = link.route.expected();
    let opened = access.open(&endpoint, expected, &loaded, pushes).await?;
    let sharded = opened.server.sharded;
    if sharded {
        let name = access.name_of(&endpoint, expected);
        let user = rights::User {
            duty: link.duty,
            sharded,
            waits: access.wait > 0 || opened.server.replication.ensured() > 0,
        };
        rights::check(access, &opened.connection, &name, user).await?;
    }
    Ok(Connected {
        opened,
        loaded,
        generation,
        endpoint,
    })
}

/// Serves with one connection after the other, as credentials change; the generation
/// of the last one, which was given up.
async fn serve_in_turn(link: &Arc<Link>, mut connected: Connected) -> u64 {
    let mut resting = None;
    loop {
        let generation = connected.generation;
        let Some((fresh, driver)) = serve(link, connected, resting.take()).await else {
            return generation;
        };
        tracing::info!(store = %link.address(), "connected to Redis with changed credentials");
        connected = fresh;
        resting = Some(driver);
    }
}

/// A connection made with credentials that are newer than `used`. Those that are
/// refused are told, and tried again: the server may be about to learn them.
async fn successor(link: &Arc<Link>, used: &Arc<Loaded>, generation: u64) -> Connected {
    loop {
        let loaded = link.access.credentials.newer_than(used).await;
        match connect(link, loaded, generation).await {
            Ok(connected) => return connected,
            Err(error) => tracing::warn!(
                store = %link.address(),
                %error,
                "changed credentials do not work yet; the connection in use stays"
            ),
        }
        pause(TRY_CHANGED_EVERY).await;
    }
}

/// Doubling, and spread so that many nodes do not come back in one moment.
fn pause_after(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE * (1 << failures.saturating_sub(1).min(8));
    doubled.min(LAST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// The driver holds this; weak, or a dropped store would keep its connection.
fn pushes_to(
    link: &Arc<Link>,
    generation: u64,
) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
    let link = Arc::downgrade(link);
    move |push| {
        Weak::upgrade(&link)
            .map(|link| link.pushed(generation, &push))
            .ok_or(())
    }
}

/// Keeps subscriptions as listeners want them, until the connection is given up or
/// has a successor; then that one, and the driver of this one. `resting` drives the
/// connection before this one, which still brings answers and wake-ups.
async fn serve(
    link: &Arc<Link>,
    connected: Connected,
    resting: Option<Driver>,
) -> Option<(Connected, Driver)> {
    let live = live_of(link, &connected);
    let Connected {
        opened,
        loaded,
        generation,
        endpoint,
    } = connected;
    let mut driver = opened.driver;
    let mut state = link.state.subscribe();
    link.state.send_replace(State::Up(live.clone()));
    let mut subscribed = HashSet::new();
    // First what somebody may be waiting for.
    subscribe(link, &live, &mut subscribed).await;
    if let Some(resting) = resting {
        tokio::spawn(rest(resting, link.access.call_timeout));
    }
    if link.duty != Duty::Hints {
        teach(live.connection.clone()).await;
    }
    let mut fresh = std::pin::pin!(successor(link, &loaded, generation + 1));
    let mut moved = std::pin::pin!(no_longer_right(link, &endpoint, live.connection.clone()));
    loop {
        subscribe(link, &live, &mut subscribed).await;
        tokio::select! {
            _ = state.wait_for(|state| !state.is_up(generation)) => return None,
            _ = &mut driver.0 => {
                link.cut(generation, &format!("{} closed the connection", live.name));
                return None;
            }
            why = &mut moved => {
                link.cut(generation, &why);
                return None;
            }
            () = link.wanted.notified() => {}
            fresh = &mut fresh => return Some((fresh, driver)),
        }
    }
}

fn live_of(link: &Link, connected: &Connected) -> Live {
    let server = &connected.opened.server;
    let name = link
        .access
        .name_of(&connected.endpoint, link.route.expected());
    Live {
        connection: connected.opened.connection.clone(),
        driver: connected.opened.driver.0.abort_handle(),
        generation: connected.generation,
        run_id: server.run_id.as_str().into(),
        name: name.into(),
        sharded: link.access.is_cluster() && server.sharded,
        ensured: u8::try_from(server.replication.ensured()).unwrap_or(u8::MAX),
    }
}

/// Ends once the server is not the one that takes writes, with what tells so.
async fn no_longer_right(
    link: &Link,
    endpoint: &Endpoint,
    mut connection: MultiplexedConnection,
) -> String {
    let expected = link.route.expected();
    let demoted = async {
        loop {
            if !expected.is_replicated() {
                return std::future::pending().await;
            }
            pause(LOOK_AT_ROLE_EVERY).await;
            if server::is_master(&mut connection).await == Some(false) {
                return format!(
                    "{} has become a replica",
                    link.access.name_of(endpoint, expected)
                );
            }
        }
    };
    tokio::select! {
        why = link.route.moved_from(endpoint) => why,
        why = demoted => why,
    }
}

/// What was found, and what should be changed there; that only once.
fn tell_of(link: &Link, connected: &Connected, advised: &mut Option<String>) {
    let server = &connected.opened.server;
    let expected = link.route.expected();
    let store = link.access.name_of(&connected.endpoint, expected);
    tracing::info!(%store, version = %server.version, "connected to Redis");
    let advice = server.replication.advice();
    let advice = advice.filter(|_| expected.is_replicated() && link.duty != Duty::Hints);
    if advice.is_some() && *advised != advice {
        tracing::warn!(%store, advice, "exclusion may not survive a failover of Redis");
        *advised = advice;
    }
}

/// Requests that were made are answered within a call's time; then the socket closes.
async fn rest(driver: Driver, call_timeout: Duration) {
    pause(call_timeout).await;
    drop(driver);
}
