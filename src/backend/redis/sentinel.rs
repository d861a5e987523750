//! Sentinels: asks them who the master is, and hears of a switch at once.
//!
//! Each answer comes with the number of the configuration that it belongs to
//! (`config-epoch`), which rises with each failover. A Sentinel that was cut off or is
//! late answers with an older one; it is never followed back to an older master.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::access::Access;
use super::server::Expected;
use super::trouble;
use crate::lease::StoreError;
use crate::time::pause;
use crate::wire::Endpoint;

/// Between attempts to listen to a Sentinel that is away.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// Between looks at a Sentinel that says nothing: a message may have been lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a Sentinel tells of a failover: that it promoted a replica and names it from
/// now on, while it still tells the other replicas; and that it is done, or has heard
/// so of another Sentinel.
const SWITCHES: [&str; 2] = ["+failover-state-reconf-slaves", "+switch-master"];

/// What a Sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    /// The number of its configuration; 0 where it does not tell.
    number: u64,
    master: Endpoint,
}

/// The Sentinels of one store.
pub(super) struct Sentinels {
    access: Arc<Access>,
    servers: Vec<Endpoint>,
    /// What they call the master.
    master: String,
    /// The newest answer of any of them.
    newest: watch::Sender<Option<Answer>>,
    /// Which one answered last: it is asked first.
    first: Mutex<usize>,
}

/// Listens to all Sentinels until it is dropped.
pub(super) struct Listeners(Vec<AbortHandle>);

impl Drop for Listeners {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Sentinels {
    pub(super) fn new(access: Arc<Access>, master: &str) -> Self {
        Self {
            servers: access.target.servers().to_vec(),
            access,
            master: master.to_owned(),
            newest: watch::channel(None).0,
            first: Mutex::new(0),
        }
    }

    /// One task for each of them.
    pub(super) fn listen(self: &Arc<Self>) -> Listeners {
        let tasks = (0..self.servers.len()).map(|at| {
            let sentinels = Arc::clone(self);
            tokio::spawn(async move { sentinels.listen_to(at).await }).abort_handle()
        });
        Listeners(tasks.collect())
    }

    /// Ends once the master is known to be another than `present`.
    pub(super) async fn another_than(&self, present: &Endpoint) -> Endpoint {
        let mut newest = self.newest.subscribe();
        let moved = |answer: &Option<Answer>| {
            answer
                .as_ref()
                .is_some_and(|answer| answer.master != *present)
        };
        let found = match newest.wait_for(moved).await {
            Ok(answer) => answer.as_ref().map(|answer| answer.master.clone()),
            Err(_) => None,
        };
        match found {
            Some(master) => master,
            // The sender lives as long as this.
            None => std::future::pending().await,
        }
    }

    /// Asks one after the other, until one answers that is up to date.
    ///
    /// # Errors
    /// Where none does; what each of them said is told.
    pub(super) async fn find(&self) -> Result<Endpoint, StoreError> {
        let begin = *self.first();
        let mut troubles = Vec::new();
        let mut late = Vec::new();
        for step in 0..self.servers.len() {
            let at = (begin + step) % self.servers.len();
            match self.ask_anew(at).await {
                Ok(answer) if self.note(&answer) => {
                    *self.first() = at;
                    return Ok(answer.master);
                }
                Ok(answer) => late.push(answer),
                Err(error) => troubles.push(error),
            }
        }
        let newest = late.into_iter().max_by_key(|answer| answer.number);
        match newest {
            // All of them begin anew (SENTINEL RESET): so do we.
            Some(answer) if troubles.is_empty() => {
                self.newest.send_replace(Some(answer.clone()));
                Ok(answer.master)
            }
            // Those that answer are behind: the master that is known stays.
            Some(_) => self.known().ok_or_else(|| nobody(&self.access, &troubles)),
            None => Err(nobody(&self.access, &troubles)),
        }
    }

    fn known(&self) -> Option<Endpoint> {
        let newest = self.newest.borrow();
        newest.as_ref().map(|answer| answer.master.clone())
    }

    fn first(&self) -> MutexGuard<'_, usize> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up an answer that is not older than what is known; whether it was.
    fn note(&self, answer: &Answer) -> bool {
        let mut fresh = true;
        self.newest.send_if_modified(|newest| {
            fresh = newest
                .as_ref()
                .is_none_or(|newest| newest.number <= answer.number);
            let changed = fresh && newest.as_ref() != Some(answer);
            if changed {
                *newest = Some(answer.clone());
            }
            changed
        });
        fresh
    }

    async fn ask_anew(&self, at: usize) -> Result<Answer, StoreError> {
        let server = self.server(at)?;
        let ignore = |_: PushInfo| Ok::<(), ()>(());
        let (mut connection, _driver) = self.access.open_sentinel(server, ignore).await?;
        self.ask(server, &mut connection).await
    }

    fn server(&self, at: usize) -> Result<&Endpoint, StoreError> {
        let none = || StoreError::Misconfigured(format!("{} names no Sentinel", self.access.name));
        self.servers.get(at).ok_or_else(none)
    }

    async fn ask(
        &self,
        server: &Endpoint,
        connection: &mut MultiplexedConnection,
    ) -> Result<Answer, StoreError> {
        let name = self.access.name_of(server, Expected::Sentinel);
        let failed = |error: &RedisError| match trouble::judge(error, &name).error {
            _ if unknown_command(error) => StoreError::Misconfigured(format!(
                "{name} is a Redis server and no Sentinel: write redis://{server}, or give the \
                 Sentinels, which listen on 26379 by default"
            )),
            // Nothing was asked that changes anything.
            StoreError::Indeterminate(why) => StoreError::Unavailable(why),
            other => other,
        };
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer = connection.send_packed_command(&question).await;
        let place = answer
            .and_then(Value::extract_error)
            .map_err(|error| failed(&error))?;
        let Some(master) = place_of(place) else {
            return Err(self.unknown_name(&name, connection).await);
        };
        let number = number_of(&self.master, connection).await.unwrap_or(0);
        Ok(Answer { number, master })
    }

    /// With the names that would have been known.
    async fn unknown_name(&self, name: &str, connection: &mut MultiplexedConnection) -> StoreError {
        let mut question = redis::cmd("SENTINEL");
        question.arg("MASTERS");
        let answer = connection.send_packed_command(&question).await;
        let known = match answer.and_then(Value::extract_error) {
            Ok(Value::Array(masters)) => {
                let names = masters.iter().filter_map(|master| field(master, "name"));
                let names: Vec<String> = names.collect();
                match names.as_slice() {
                    [] => "it watches none".to_owned(),
                    names => format!("it watches {}", names.join(", ")),
                }
            }
            _ => "it may not tell which it watches".to_owned(),
        };
        StoreError::Misconfigured(format!(
            "{name} knows no master called \"{}\"; {known}",
            self.master
        ))
    }

    async fn listen_to(&self, at: usize) {
        loop {
            if let Err(error) = self.hear(at).await {
                tracing::debug!(store = %self.access.name, %error, "a Sentinel is not heard");
            }
            pause(LISTEN_AGAIN).await;
        }
    }

    /// Hears one Sentinel until its connection ends. After each message, and now and
    /// then, it is asked: its answer has a number, the message has none.
    async fn hear(&self, at: usize) -> Result<(), StoreError> {
        let server = self.server(at)?;
        let (news, mut heard) = mpsc::unbounded_channel();
        let pushes = move |push: PushInfo| {
            let told = matches!(push.kind, PushKind::Message);
            if told {
                news.send(()).map_err(drop)
            } else {
                Ok(())
            }
        };
        let (mut connection, mut driver) = self.access.open_sentinel(server, pushes).await?;
        // Refused, switches are found at the looks.
        let _ = connection.subscribe(&SWITCHES).await;
        loop {
            let answer = self.ask(server, &mut connection).await?;
            if self.note(&answer) {
                *self.first() = at;
            }
            tokio::select! {
                _ = &mut driver.0 => return Ok(()),
                news = heard.recv() => if news.is_none() { return Ok(()) },
                () = pause(LOOK_EVERY) => {}
            }
        }
    }
}

fn nobody(access: &Access, troubles: &[StoreError]) -> StoreError {
    let told: Vec<String> = troubles.iter().map(ToString::to_string).collect();
    let what = format!(
        "no Sentinel of {} tells the master: {}",
        access.name,
        told.join("; ")
    );
    // One that can be reached and is wrong outweighs others that are away.
    let wrong = |error: &&StoreError| !matches!(error, StoreError::Unavailable(_));
    match troubles.iter().find(wrong) {
        Some(StoreError::Rejected(_)) => StoreError::Rejected(what),
        Some(_) => StoreError::Misconfigured(what),
        None => StoreError::Unavailable(what),
    }
}

fn unknown_command(error: &RedisError) -> bool {
    let told = error.detail().unwrap_or("");
    error.code() == Some("ERR") && told.to_lowercase().contains("unknown command")
}

fn place_of(answer: Value) -> Option<Endpoint> {
    let (host, port): (String, u16) = redis::from_redis_value(answer).ok()?;
    Some(Endpoint { host, port })
}

/// The number of the configuration.
async fn number_of(master: &str, connection: &mut MultiplexedConnection) -> Option<u64> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("MASTER").arg(master);
    let answer = connection.send_packed_command(&question).await;
    let answer = answer.and_then(Value::extract_error).ok()?;
    field(&answer, "config-epoch")?.parse().ok()
}

/// A field of what a Sentinel tells of a master, in RESP3 or RESP2.
fn field(told: &Value, name: &str) -> Option<String> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let is_it = |key: &Value| text(key).as_deref() == Some(name);
    match told {
        Value::Map(pairs) => {
            let (_, value) = pairs.iter().find(|(key, _)| is_it(key))?;
            text(value)
        }
        Value::Array(flat) => {
            let pair = flat.chunks_exact(2).find(|pair| is_it(&pair[0]))?;
            pair.get(1).and_then(text)
        }
        _ => None,
    }
}
