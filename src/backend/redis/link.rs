//! One connection that carries commands and hints, and what is given up with it.
//!
//! The connection is given up, never repaired: at a request without an answer, at a
//! server that is no longer the writable one, at any break. Giving it up closes the
//! socket, so that no request waits in it to be sent later. `supervisor` makes the
//! next one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, ServerErrorKind, Value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::access::Access;
use super::reply;
use super::route::Route;
use super::scripts::Named;
use super::topic::Topic;
use super::trouble::{self, Trouble};
use crate::lease::StoreError;
use crate::time::{Moment, millis, within};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Commands and hints.
    All,
    /// Commands alone. A cluster's hints have a connection of their own: a node says
    /// by itself that it ends a subscription, and the client library would take that
    /// for the answer to a command.
    Commands,
    /// Hints alone.
    Hints,
}

/// A connection that stands, as far as anybody knows.
#[derive(Clone)]
pub(super) struct Live {
    pub connection: MultiplexedConnection,
    pub driver: AbortHandle,
    pub generation: u64,
    /// The server that answers on it.
    pub run_id: Arc<str>,
    /// What the user is told it is.
    pub name: Arc<str>,
    /// Its hints belong to a slot.
    pub sharded: bool,
    /// How many replicas it must have to take writes, as its own setting ensures.
    pub ensured: u8,
}

impl Live {
    /// How its scripts wake those who wait.
    pub(super) fn spread(&self) -> &'static str {
        if self.sharded { "SPUBLISH" } else { "PUBLISH" }
    }
}

/// A script, and how it is to be run.
pub(super) struct Request<'a> {
    pub script: &'a Named,
    pub keys: &'a [&'a str],
    pub arguments: &'a [&'a [u8]],
    /// The node is told that its slot is on its way to it.
    pub asking: bool,
}

pub(super) enum State {
    /// An attempt is under way; why the one before it failed.
    Connecting(Option<StoreError>),
    /// Requests can be made.
    Up(Live),
    /// The last attempt or connection failed; the next attempt comes soon.
    Down(StoreError),
}

impl State {
    pub(super) fn is_up(&self, generation: u64) -> bool {
        matches!(self, Self::Up(live) if live.generation == generation)
    }
}

pub(super) struct Link {
    pub access: Arc<Access>,
    pub route: Route,
    pub duty: Duty,
    /// What the user is told it leads to.
    address: String,
    pub state: watch::Sender<State>,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
    /// Channels that are being left: only their end is no surprise.
    parting: Mutex<HashSet<String>>,
    /// The set of topics that somebody listens to has changed.
    pub wanted: Notify,
    /// Told when the connection is given up, or cannot be made.
    on_trouble: Box<dyn Fn() + Send + Sync>,
}

impl Link {
    pub(super) fn new(
        access: Arc<Access>,
        route: Route,
        duty: Duty,
        on_trouble: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            address: route.name(&access),
            access,
            route,
            duty,
            state: watch::channel(State::Connecting(None)).0,
            topics: Mutex::default(),
            parting: Mutex::default(),
            wanted: Notify::new(),
            on_trouble: Box::new(on_trouble),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
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

    /// Takes over a topic that another link had.
    pub(super) fn adopt(&self, topic: &Arc<Topic>) {
        let channel = topic.channel().to_owned();
        self.topics().insert(channel, Arc::clone(topic));
        self.listeners_changed();
    }

    /// Leaves a topic to another link.
    pub(super) fn leave(&self, channel: &str) {
        self.topics().remove(channel);
        self.listeners_changed();
    }

    pub(super) fn topics(&self) -> MutexGuard<'_, HashMap<String, Arc<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn parting(&self) -> MutexGuard<'_, HashSet<String>> {
        self.parting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// The connection, where there is one. An attempt under way is waited for, but
    /// only for half of a call: the caller gives up after a whole one, and would
    /// have to count a request that was never sent as one that may have been.
    pub(super) async fn live(&self) -> Result<Live, StoreError> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting(_)));
        let _ = within(self.access.call_timeout / 2, settled).await;
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
    pub(super) async fn run(&self, live: &Live, request: &Request<'_>) -> Result<Value, Trouble> {
        let mut patience = self.patience(live);
        let mut connection = live.connection.clone();
        let mut answer = exchange(&mut connection, request, true).await;
        if is_noscript(&answer) {
            // A server that was restarted, or told SCRIPT FLUSH.
            answer = exchange(&mut connection, request, false).await;
        }
        patience.answered = true;
        answer
            .and_then(Value::extract_error)
            .map_err(|error| self.failed(live, &error))
    }

    /// How many replicas have acknowledged all that was written over this connection,
    /// once `replicas` have, or after `limit`.
    pub(super) async fn acknowledged(
        &self,
        live: &Live,
        replicas: u8,
        limit: std::time::Duration,
    ) -> Result<u64, Trouble> {
        let mut patience = self.patience(live);
        let mut question = redis::cmd("WAIT");
        // 0 would wait for ever.
        question.arg(replicas).arg(millis(limit).max(1));
        let mut connection = live.connection.clone();
        let answer = connection.send_packed_command(&question).await;
        patience.answered = true;
        answer
            .and_then(Value::extract_error)
            .and_then(|value| redis::from_redis_value(value).map_err(RedisError::from))
            .map_err(|error| self.failed(live, &error))
    }

    fn patience(&self, live: &Live) -> Patience<'_> {
        Patience {
            link: self,
            generation: live.generation,
            sent_at: self.access.clock.now(),
            answered: false,
        }
    }

    /// Judges a failure, and gives up the connection where that is the remedy. A node
    /// of a cluster that turns a request away is not at fault.
    pub(super) fn failed(&self, live: &Live, error: &RedisError) -> Trouble {
        let trouble = trouble::judge(error, &live.name);
        let turned = self.access.is_cluster() && trouble.turn.is_some();
        if trouble.cut && !turned {
            self.cut(live.generation, &trouble.error.to_string());
        }
        trouble
    }

    /// Gives up whatever connection stands.
    pub(super) fn cut_any(&self, why: &str) {
        let generation = match &*self.state.borrow() {
            State::Up(live) => live.generation,
            _ => return,
        };
        self.cut(generation, why);
    }

    /// Gives up the connection of that generation, tells every listener, and closes
    /// its socket.
    pub(super) fn cut(&self, generation: u64, why: &str) {
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
            self.troubled();
        }
    }

    pub(super) fn troubled(&self) {
        (self.on_trouble)();
    }

    /// A push message of the connection of that generation.
    pub(super) fn pushed(&self, generation: u64, push: &PushInfo) {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Disconnection, _) => {
                self.cut(
                    generation,
                    &format!("{} closed the connection", self.address),
                );
            }
            (
                PushKind::Message | PushKind::SMessage,
                [Value::BulkString(channel), Value::BulkString(message)],
            ) => {
                let topic = std::str::from_utf8(channel)
                    .ok()
                    .and_then(|channel| self.topics().get(channel).cloned());
                if let (Some(topic), Some(hint)) = (topic, reply::hint(message)) {
                    topic.tell(hint);
                }
            }
            (PushKind::SUnsubscribe, [Value::BulkString(channel), ..]) => {
                let channel = String::from_utf8_lossy(channel);
                if !self.parting().remove(&*channel) {
                    let why = format!("{} gave the slot of {channel} away", self.address);
                    self.cut(generation, &why);
                }
            }
            _ => {}
        }
    }
}

/// Sends a script, by its hash or whole. `ASKING` counts for the next command of its
/// connection only: the two are sent as one.
async fn exchange(
    connection: &mut MultiplexedConnection,
    request: &Request<'_>,
    by_hash: bool,
) -> Result<Value, RedisError> {
    let script = request.script;
    let (command, text) = if by_hash {
        ("EVALSHA", script.sha1.as_str())
    } else {
        ("EVAL", script.code)
    };
    let command = command_of(command, text, request.keys, request.arguments);
    if !request.asking {
        return connection.send_packed_command(&command).await;
    }
    let mut both = redis::pipe();
    both.cmd("ASKING").add_command(command);
    let answers = connection.send_packed_commands(&both, 1, 1).await?;
    let none = || RedisError::from((redis::ErrorKind::UnexpectedReturnType, "no answer"));
    answers.into_iter().next().ok_or_else(none)
}

fn is_noscript(answer: &Result<Value, RedisError>) -> bool {
    match answer {
        Err(error) => error.kind() == ServerErrorKind::NoScript.into(),
        Ok(Value::ServerError(error)) => error.kind() == Some(ServerErrorKind::NoScript),
        Ok(_) => false,
    }
}

fn command_of(command: &str, script: &str, keys: &[&str], arguments: &[&[u8]]) -> redis::Cmd {
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
        let waited = self.link.access.clock.now().since(self.sent_at);
        if waited >= self.link.access.call_timeout * 3 / 4 {
            let why = format!("{} did not answer in time", self.link.address);
            self.link.cut(self.generation, &why);
        }
    }
}
