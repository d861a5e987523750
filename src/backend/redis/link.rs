//! The one connection that carries the commands and hints of all elections, and the
//! supervisor that keeps it.
//!
//! The connection is given up, never repaired: at a request without an answer, at a
//! server that is no longer the writable one, at any break. Giving it up closes the
//! socket, so that no request waits in it to be sent later. Only credentials that
//! have changed are taken up the other way round: a second connection is made with
//! them, and the first one rests once that one serves.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, ServerErrorKind, Value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::connection::{self, Driver, Opened};
use super::reply;
use super::scripts::{Named, teach};
use super::target::RedisTarget;
use super::topic::Topic;
use super::trouble;
use crate::backend::wire::{Credentials, Loaded};
use crate::lease::StoreError;
use crate::time::{Clock, Moment, within};

/// Between attempts to connect: doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Between attempts with changed credentials that are refused so far, while the
/// connection in use stands.
const TRY_CHANGED_EVERY: Duration = Duration::from_secs(5);

/// A connection that stands, as far as anybody knows.
#[derive(Clone)]
pub(super) struct Live {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    generation: u64,
    /// The server that answers on it.
    pub run_id: Arc<str>,
}

enum State {
    /// An attempt is under way; why the one before it failed.
    Connecting(Option<StoreError>),
    /// Requests can be made.
    Up(Live),
    /// The last attempt or connection failed; the next attempt comes soon.
    Down(StoreError),
}

impl State {
    fn is_up(&self, generation: u64) -> bool {
        matches!(self, Self::Up(live) if live.generation == generation)
    }
}

pub(super) struct Link {
    target: RedisTarget,
    credentials: Credentials,
    address: String,
    call_timeout: Duration,
    clock: Arc<dyn Clock>,
    state: watch::Sender<State>,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
    /// The set of topics that somebody listens to has changed.
    wanted: Notify,
}

impl Link {
    pub(super) fn new(
        target: RedisTarget,
        credentials: Credentials,
        call_timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            address: target.to_string(),
            target,
            credentials,
            call_timeout,
            clock,
            state: watch::channel(State::Connecting(None)).0,
            topics: Mutex::default(),
            wanted: Notify::new(),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The topic of that channel.
    pub(super) fn topic(&self, channel: &str) -> Arc<Topic> {
        let mut topics = self.topics();
        let topic = topics
            .entry(channel.to_owned())
            .or_insert_with(|| Arc::new(Topic::new(channel)));
        Arc::clone(topic)
    }

    /// Makes the supervisor compare subscriptions with listeners.
    pub(super) fn listeners_changed(&self) {
        self.wanted.notify_one();
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Arc<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, where there is one. An attempt under way is waited for, but
    /// only for half of a call: the caller gives up after a whole one, and would
    /// have to count a request that was never sent as one that may have been.
    pub(super) async fn live(&self) -> Result<Live, StoreError> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting(_)));
        let _ = within(self.call_timeout / 2, settled).await;
        match &*self.state.borrow() {
            State::Up(live) => Ok(live.clone()),
            State::Down(why) | State::Connecting(Some(why)) => Err(why.clone()),
            State::Connecting(None) => Err(StoreError::Unavailable(format!(
                "still connecting to {}",
                self.address
            ))),
        }
    }

    /// Runs a script and waits for its reply.
    pub(super) async fn run(
        &self,
        live: &Live,
        script: &Named,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let mut patience = Patience {
            link: self,
            generation: live.generation,
            sent_at: self.clock.now(),
            answered: false,
        };
        let mut connection = live.connection.clone();
        let by_hash = request("EVALSHA", &script.sha1, keys, arguments);
        let mut answer = connection.send_packed_command(&by_hash).await;
        if is_noscript(&answer) {
            // A server that was restarted, or told SCRIPT FLUSH.
            let whole = request("EVAL", script.code, keys, arguments);
            answer = connection.send_packed_command(&whole).await;
        }
        patience.answered = true;
        answer
            .and_then(Value::extract_error)
            .map_err(|error| self.failed(live, &error))
    }

    fn failed(&self, live: &Live, error: &RedisError) -> StoreError {
        let trouble = trouble::judge(error, &self.address);
        if trouble.cut {
            self.cut(live.generation, &trouble.error.to_string());
        }
        trouble.error
    }

    /// Gives up the connection of that generation, tells every listener, and closes
    /// its socket.
    fn cut(&self, generation: u64, why: &str) {
        let cut = self.state.send_if_modified(|state| {
            let State::Up(live) = state else {
                return false;
            };
            if live.generation != generation {
                return false;
            }
            live.driver.abort();
            *state = State::Down(StoreError::Unavailable(why.to_owned()));
            true
        });
        if cut {
            tracing::warn!(store = %self.address, why, "the connection to Redis is given up");
            let topics: Vec<_> = self.topics().values().cloned().collect();
            for topic in topics {
                topic.cut();
            }
        }
    }

    /// A push message of the connection of that generation.
    fn pushed(&self, generation: u64, push: &PushInfo) {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Disconnection, _) => {
                self.cut(
                    generation,
                    &format!("{} closed the connection", self.address),
                );
            }
            (PushKind::Message, [Value::BulkString(channel), Value::BulkString(message)]) => {
                let topic = std::str::from_utf8(channel)
                    .ok()
                    .and_then(|channel| self.topics().get(channel).cloned());
                if let (Some(topic), Some(hint)) = (topic, reply::hint(message)) {
                    topic.tell(hint);
                }
            }
            _ => {}
        }
    }
}

fn is_noscript(answer: &Result<Value, RedisError>) -> bool {
    match answer {
        Err(error) => error.kind() == ServerErrorKind::NoScript.into(),
        Ok(Value::ServerError(error)) => error.kind() == Some(ServerErrorKind::NoScript),
        Ok(_) => false,
    }
}

fn request(command: &str, script: &str, keys: &[&str], arguments: &[&[u8]]) -> redis::Cmd {
    let mut request = redis::cmd(command);
    request.arg(script).arg(keys.len()).arg(keys);
    for argument in arguments {
        request.arg(*argument);
    }
    request
}

/// Gives up a connection whose request was dropped, by a caller that lost patience,
/// after most of a call's time: the answer will not come, or not in time.
struct Patience<'a> {
    link: &'a Link,
    generation: u64,
    sent_at: Moment,
    answered: bool,
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let waited = self.link.clock.now().since(self.sent_at);
        if waited >= self.link.call_timeout * 3 / 4 {
            let why = format!("{} did not answer in time", self.link.address);
            self.link.cut(self.generation, &why);
        }
    }
}

/// The supervisor's task; it ends with this value.
pub(super) struct Supervisor(AbortHandle);

impl Supervisor {
    /// Keeps `link` connected from now on.
    pub(super) fn start(link: &Arc<Link>) -> Self {
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
    loop {
        generation += 1;
        let failed = told.clone();
        link.state.send_replace(State::Connecting(failed));
        let loaded = link.credentials.newest();
        match connect(&link, loaded, generation).await {
            Ok(connected) => {
                tracing::info!(
                    store = %link.address,
                    version = %connected.opened.version,
                    "connected to Redis"
                );
                told = None;
                let up_at = link.clock.now();
                generation = serve_in_turn(&link, connected).await;
                // A server that drops everybody at once is not asked at full speed.
                let lasted = link.clock.now().since(up_at) > LAST_PAUSE;
                failures = if lasted { 0 } else { failures + 1 };
            }
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    tracing::warn!(store = %link.address, %error, "no connection to Redis");
                }
                told = Some(error.clone());
                link.state.send_replace(State::Down(error));
                failures += 1;
            }
        }
        crate::time::pause(pause_after(failures)).await;
        // What was refused may have been rotated meanwhile.
        link.credentials.look_again().await;
    }
}

/// A connection, and what it was made with.
struct Connected {
    opened: Opened,
    loaded: Arc<Loaded>,
    generation: u64,
}

async fn connect(
    link: &Arc<Link>,
    loaded: Arc<Loaded>,
    generation: u64,
) -> Result<Connected, StoreError> {
    let [endpoint, ..] = link.target.servers() else {
        let why = format!("{} names no server", link.address);
        return Err(StoreError::Misconfigured(why));
    };
    let address = connection::Address {
        endpoint,
        name: &link.address,
        database: link.target.database(),
        loaded: &loaded,
    };
    let pushes = pushes_to(link, generation);
    let opened = connection::open(&address, link.call_timeout, pushes).await?;
    Ok(Connected {
        opened,
        loaded,
        generation,
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
        tracing::info!(store = %link.address, "connected to Redis with changed credentials");
        connected = fresh;
        resting = Some(driver);
    }
}

/// A connection made with credentials that are newer than `used`. Those that are
/// refused are told, and tried again: the server may be about to learn them.
async fn successor(link: &Arc<Link>, used: &Arc<Loaded>, generation: u64) -> Connected {
    loop {
        let loaded = link.credentials.newer_than(used).await;
        match connect(link, loaded, generation).await {
            Ok(connected) => return connected,
            Err(error) => tracing::warn!(
                store = %link.address,
                %error,
                "changed credentials do not work yet; the connection in use stays"
            ),
        }
        crate::time::pause(TRY_CHANGED_EVERY).await;
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
    let Connected {
        opened,
        loaded,
        generation,
    } = connected;
    let mut driver = opened.driver;
    let live = Live {
        connection: opened.connection,
        driver: driver.0.abort_handle(),
        generation,
        run_id: opened.run_id.into(),
    };
    let mut state = link.state.subscribe();
    link.state.send_replace(State::Up(live.clone()));
    let mut subscribed = HashSet::new();
    // First what somebody may be waiting for.
    subscribe(link, &live, &mut subscribed).await;
    if let Some(resting) = resting {
        tokio::spawn(rest(resting, link.call_timeout));
    }
    teach(live.connection.clone()).await;
    let mut fresh = std::pin::pin!(successor(link, &loaded, generation + 1));
    loop {
        subscribe(link, &live, &mut subscribed).await;
        tokio::select! {
            _ = state.wait_for(|state| !state.is_up(generation)) => return None,
            _ = &mut driver.0 => {
                link.cut(generation, &format!("{} closed the connection", link.address));
                return None;
            }
            () = link.wanted.notified() => {}
            fresh = &mut fresh => return Some((fresh, driver)),
        }
    }
}

/// Requests that were made are answered within a call's time; then the socket closes.
async fn rest(driver: Driver, call_timeout: Duration) {
    crate::time::pause(call_timeout).await;
    drop(driver);
}

/// Subscribes to what is listened to and not yet subscribed, and the reverse.
async fn subscribe(link: &Link, live: &Live, subscribed: &mut HashSet<String>) {
    let topics: Vec<Arc<Topic>> = {
        let mut topics = link.topics();
        // Held by nobody but this map: no election, no listener.
        topics
            .retain(|channel, topic| Arc::strong_count(topic) > 1 || subscribed.contains(channel));
        topics.values().cloned().collect()
    };
    let mut connection = live.connection.clone();
    let fresh: Vec<&Arc<Topic>> = topics
        .iter()
        .filter(|topic| topic.has_listeners() && !subscribed.contains(topic.channel()))
        .collect();
    if !fresh.is_empty() {
        let channels: Vec<&str> = fresh.iter().map(|topic| topic.channel()).collect();
        if let Err(error) = connection.subscribe(&channels).await {
            let why = link.failed(live, &error);
            if link.state.borrow().is_up(live.generation) {
                // Refused, not lost: without wake-ups followers wait for timers.
                tracing::warn!(store = %link.address, error = %why, "Redis sends no wake-ups");
            } else {
                return;
            }
        }
        for topic in fresh {
            subscribed.insert(topic.channel().to_owned());
            topic.ready();
        }
    }
    let left: Vec<&str> = topics
        .iter()
        .filter(|topic| subscribed.contains(topic.channel()) && topic.rest_if_unheard())
        .map(|topic| topic.channel())
        .collect();
    if !left.is_empty() {
        for channel in &left {
            subscribed.remove(*channel);
        }
        if let Err(error) = connection.unsubscribe(&left).await {
            link.failed(live, &error);
        }
    }
}
