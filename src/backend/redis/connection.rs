//! Opens one connection, and says plainly why it cannot be used.

use std::fmt;
use std::io;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::trouble;
use crate::backend::wire::{Dialer, Endpoint, Loaded, Stream, broken};
use crate::lease::StoreError;
use crate::time::{millis, within};

/// The first version with `SET … NX PXAT`.
const OLDEST: (u32, u32) = (6, 2);
/// Longer than any first line of a Redis.
const GREETING_LIMIT: usize = 512;

/// A connection that has passed every check.
pub(super) struct Opened {
    pub connection: MultiplexedConnection,
    /// Moves the bytes; the connection is dead when it ends.
    pub driver: Driver,
    /// Which start of which server this is.
    pub run_id: String,
    pub version: String,
}

/// The task behind a connection. Dropping this closes the socket, so that no request
/// waits in it to be sent later.
pub(super) struct Driver(pub JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where to connect, and as whom.
pub(super) struct Address<'a> {
    pub endpoint: &'a Endpoint,
    /// What the user calls it; without secrets.
    pub name: &'a str,
    pub database: u32,
    pub loaded: &'a Loaded,
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Connects, logs in and checks the server. `timeout` bounds each step that waits
/// for the network, and later each answer.
///
/// # Errors
/// `Unavailable` where it may pass by itself, else `Rejected` or `Misconfigured`.
pub(super) async fn open(
    target: &Address<'_>,
    timeout: Duration,
    pushes: impl AsyncPushSender,
) -> Result<Opened, StoreError> {
    let dialer = Dialer {
        kind: "a Redis",
        timeout,
    };
    let mut stream = dialer
        .dial(target.endpoint, target.name, target.loaded)
        .await?;
    greet(&mut stream, target, timeout).await?;
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(timeout))
        .set_push_sender(pushes);
    let login = login(target);
    let shaken = MultiplexedConnection::new_with_config(&login, stream, config);
    let (mut connection, driver) = within(timeout, shaken)
        .await
        .ok_or_else(|| silent(target, timeout))?
        .map_err(|error| refused(&error, target))?;
    let driver = Driver(tokio::spawn(driver));
    let (run_id, version) = check(&mut connection, target).await?;
    Ok(Opened {
        connection,
        driver,
        run_id,
        version,
    })
}

fn silent(target: &Address<'_>, timeout: Duration) -> StoreError {
    StoreError::Unavailable(format!(
        "{target} accepts connections but does not answer within {} ms: it hangs, is \
         overloaded, or is no Redis",
        millis(timeout)
    ))
}

/// One plain PING before anything else: whatever is no Redis answers it in a way that
/// can be named, and so does a Redis that takes nobody.
async fn greet(
    stream: &mut Stream,
    target: &Address<'_>,
    timeout: Duration,
) -> Result<(), StoreError> {
    let exchange = async {
        stream.write_all(b"PING\r\n").await?;
        first_line(stream).await
    };
    let line = within(timeout, exchange)
        .await
        .ok_or_else(|| silent(target, timeout))?
        .map_err(|error| hung_up(&error, target))?;
    judge_greeting(&line, target)
}

/// Over TLS 1.3 a server judges the client's certificate only after the handshake.
fn hung_up(error: &io::Error, target: &Address<'_>) -> StoreError {
    broken(error, target.name, &target.endpoint.host).unwrap_or_else(|| {
        StoreError::Unavailable(format!(
            "{target} closed the connection at the first command ({error}): is it a Redis, and \
             does it speak TLS only (rediss://)?"
        ))
    })
}

/// A Redis answers one command with one line, and nothing after it.
async fn first_line(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = [0; GREETING_LIMIT];
    loop {
        let length = stream.read(&mut part).await?;
        if length == 0 && line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(part.get(..length).unwrap_or_default());
        let a_redis = matches!(line.first(), Some(b'+' | b'-'));
        let whole = line.ends_with(b"\n") || line.len() >= GREETING_LIMIT || length == 0;
        if whole || !a_redis {
            return Ok(line);
        }
    }
}

fn judge_greeting(line: &[u8], target: &Address<'_>) -> Result<(), StoreError> {
    let text = String::from_utf8_lossy(line);
    let text = text.lines().next().unwrap_or_default().trim_end();
    if text == "+PONG" {
        return Ok(());
    }
    if let Some(refusal) = text.strip_prefix('-') {
        let (code, detail) = refusal.split_once(' ').unwrap_or((refusal, ""));
        return match code {
            // Logging in comes next.
            "NOAUTH" | "NOPERM" => Ok(()),
            _ => Err(sure(
                trouble::refused(code, detail, &target.to_string()).error,
            )),
        };
    }
    let who = if text.starts_with("HTTP/") || text.starts_with('<') {
        "an HTTP server answers there".to_owned()
    } else if matches!(line.first(), Some(0x15 | 0x16)) {
        "a TLS server answers there; if it is a Redis, write rediss://".to_owned()
    } else {
        let shown: String = text.chars().take(40).collect();
        format!("what answers there begins with {shown:?}")
    };
    Err(StoreError::Misconfigured(format!(
        "{target} is no Redis: {who}; check host and port (a Redis listens on 6379 by default)"
    )))
}

/// While connecting, no request has been made that could have been applied.
fn sure(error: StoreError) -> StoreError {
    match error {
        StoreError::Indeterminate(why) => StoreError::Unavailable(why),
        other => other,
    }
}

fn login(target: &Address<'_>) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(target.database))
        .set_lib_name("tenure", env!("CARGO_PKG_VERSION"));
    if let Some(user) = target.loaded.user() {
        info = info.set_username(user);
    }
    if let Some(password) = target.loaded.password() {
        info = info.set_password(password);
    }
    info
}

fn refused(error: &RedisError, target: &Address<'_>) -> StoreError {
    match error.kind() {
        ErrorKind::RESP3NotSupported => too_old(target, "older than 6"),
        ErrorKind::AuthenticationFailed => sure(
            trouble::refused(
                "WRONGPASS",
                error.detail().unwrap_or(""),
                &target.to_string(),
            )
            .error,
        ),
        _ => sure(trouble::judge(error, &target.to_string()).error),
    }
}

fn too_old(target: &Address<'_>, version: &str) -> StoreError {
    StoreError::Misconfigured(format!(
        "{target} runs a Redis that is {version}: Tenure needs {}.{} or newer",
        OLDEST.0, OLDEST.1
    ))
}

/// Asks who the server is. One request with three answers: `INFO` takes several
/// sections at once only from version 7.
async fn check(
    connection: &mut MultiplexedConnection,
    target: &Address<'_>,
) -> Result<(String, String), StoreError> {
    let mut questions = redis::pipe();
    for section in ["server", "replication", "memory"] {
        questions.cmd("INFO").arg(section);
    }
    let answers: Vec<String> = questions
        .query_async(connection)
        .await
        .map_err(|error| refused(&first_of(error), target))?;
    let facts = Facts(answers.concat());
    let version = facts.of("redis_version").unwrap_or("unknown").to_owned();
    judge_version(&version, target)?;
    judge_kind(&facts, target)?;
    warn_of_eviction(&facts, target);
    let run_id = facts.of("run_id").filter(|id| !id.is_empty());
    let run_id = run_id.ok_or_else(|| {
        StoreError::Misconfigured(format!(
            "{target} does not tell its run_id (INFO server): Tenure cannot notice that another \
             server answers, so use a Redis that does"
        ))
    })?;
    Ok((run_id.to_owned(), version))
}

/// A pipeline's failure wraps those of its commands.
fn first_of(error: RedisError) -> RedisError {
    let errors = error.clone().into_server_errors();
    match errors.as_deref() {
        Some([(_, first), ..]) => first.clone().into(),
        _ => error,
    }
}

fn judge_version(version: &str, target: &Address<'_>) -> Result<(), StoreError> {
    let mut parts = version.split('.').map(str::parse::<u32>);
    let number = match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if number < OLDEST {
        return Err(too_old(target, version));
    }
    Ok(())
}

fn judge_kind(facts: &Facts, target: &Address<'_>) -> Result<(), StoreError> {
    let wrong = |what: &str| Err(StoreError::Misconfigured(format!("{target} {what}")));
    match facts.of("redis_mode") {
        Some("sentinel") => {
            return wrong(
                "is a Redis Sentinel, which this version does not serve: give the address of \
                 the master itself",
            );
        }
        Some("cluster") => {
            return wrong(
                "is part of a Redis Cluster, which this version does not serve: give a Redis \
                 that runs alone",
            );
        }
        _ => {}
    }
    if facts.of("role") == Some("slave") {
        let master = facts.of("master_host").unwrap_or("unknown");
        let port = facts.of("master_port").unwrap_or("unknown");
        return wrong(&format!(
            "is a read-only replica: give the address of its master, {master} port {port}"
        ));
    }
    Ok(())
}

/// No refusal: the other data may be worth it to whoever set it so. What is evicted
/// is noticed as data loss.
fn warn_of_eviction(facts: &Facts, target: &Address<'_>) {
    let limited = facts.of("maxmemory").is_some_and(|limit| limit != "0");
    let policy = facts.of("maxmemory_policy").unwrap_or("noeviction");
    // The volatile policies evict the lease and leave the state.
    if limited && policy != "noeviction" {
        tracing::warn!(
            store = %target,
            policy,
            "Redis may evict leases when its memory is full: set maxmemory-policy to noeviction"
        );
    }
}

/// The lines of INFO.
struct Facts(String);

impl Facts {
    fn of(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::backend::wire::{CredentialFiles, Credentials, StoreUrl};

    /// Runs `check` on an address with a password that must not be shown.
    fn with_target<T>(check: impl FnOnce(&Address<'_>) -> T) -> T {
        let url = StoreUrl::parse("redis://:hunter2@db:1", 1).unwrap();
        let name = url.to_string();
        let credentials = Credentials::load(CredentialFiles::default(), url.login, None).unwrap();
        check(&Address {
            endpoint: &url.servers[0],
            name: &name,
            database: 0,
            loaded: &credentials.newest(),
        })
    }

    #[test]
    fn whatever_answers_is_named() {
        let told = |line: &[u8]| {
            let judged = with_target(|target| judge_greeting(line, target));
            judged.err().map(|error| error.to_string())
        };
        assert_eq!(told(b"+PONG\r\n"), None);
        assert_eq!(told(b"-NOAUTH Authentication required.\r\n"), None);
        for (line, named) in [
            (b"HTTP/1.1 400 Bad Request\r\n".as_slice(), "HTTP"),
            (b"<!DOCTYPE HTML>\n", "HTTP"),
            (b"\x15\x03\x01", "TLS"),
            (b"SSH-2.0\r\n", "SSH"),
            (
                b"-DENIED Redis is running in protected mode\r\n",
                "protected",
            ),
            (b"-ERR max number of clients reached\r\n", "maxclients"),
            (b"-LOADING Redis is loading\r\n", "loading"),
        ] {
            let text = told(line).unwrap_or_default();
            assert!(text.contains(named), "{named}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn the_version_and_the_kind_are_checked() {
        for old in ["6.0.16", "5.0.7", "2.8", "x", ""] {
            let judged = with_target(|target| judge_version(old, target));
            assert!(judged.is_err(), "{old:?} was taken");
        }
        for new in ["6.2.0", "7.0.15", "8.2.1", "10.0.0"] {
            let judged = with_target(|target| judge_version(new, target));
            assert!(judged.is_ok(), "{new} was refused");
        }
        let kind = |text: &str| with_target(|target| judge_kind(&Facts(text.to_owned()), target));
        assert!(kind("redis_mode:standalone\r\nrole:master\r\n").is_ok());
        assert!(kind("redis_mode:sentinel\r\n").is_err());
        assert!(kind("redis_mode:cluster\r\n").is_err());
        assert!(kind("role:slave\r\nmaster_host:a\r\n").is_err());
    }
}
