//! Opens one connection, and says plainly why it cannot be used.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::target::RedisTarget;
use super::trouble;
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

/// Connects, logs in and checks the server. `timeout` bounds each step that waits
/// for the network, and later each answer.
///
/// # Errors
/// `Unavailable` where it may pass by itself, else `Rejected` or `Misconfigured`.
pub(super) async fn open(
    target: &RedisTarget,
    timeout: Duration,
    pushes: impl AsyncPushSender,
) -> Result<Opened, StoreError> {
    let mut stream = connect(target, timeout).await?;
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

/// The name is resolved at each attempt: a failover may have moved it.
async fn connect(target: &RedisTarget, timeout: Duration) -> Result<TcpStream, StoreError> {
    let place = (target.host(), target.port());
    let resolved = within(timeout, tokio::net::lookup_host(place)).await;
    let addresses: Vec<SocketAddr> = match resolved {
        Some(Ok(addresses)) => addresses.collect(),
        Some(Err(error)) => {
            return Err(StoreError::Unavailable(format!(
                "the host of {target} cannot be resolved ({error}): check the name and the DNS"
            )));
        }
        None => {
            return Err(StoreError::Unavailable(format!(
                "the host of {target} was not resolved within {} ms: check the DNS",
                millis(timeout)
            )));
        }
    };
    let mut last = None;
    for address in addresses {
        match within(timeout, TcpStream::connect(address)).await {
            Some(Ok(stream)) => {
                prepare(&stream, timeout).map_err(|error| unreachable(target, &error))?;
                return Ok(stream);
            }
            Some(Err(error)) => last = Some(error),
            None => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    let error = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    Err(unreachable(target, &error))
}

/// Small requests leave at once, and what nobody acknowledges ends the connection.
fn prepare(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let unheard = u32::try_from(millis(timeout)).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, unheard)?;
    // A follower may be silent for a TTL; a peer that vanished is noticed sooner.
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

fn unreachable(target: &RedisTarget, error: &io::Error) -> StoreError {
    let advice = if error.kind() == io::ErrorKind::ConnectionRefused {
        "is a Redis running there, on that port?"
    } else {
        "check the network and any firewall on the way"
    };
    StoreError::Unavailable(format!("{target} cannot be reached ({error}): {advice}"))
}

fn silent(target: &RedisTarget, timeout: Duration) -> StoreError {
    StoreError::Unavailable(format!(
        "{target} accepts connections but does not answer within {} ms: it hangs, is \
         overloaded, or is no Redis",
        millis(timeout)
    ))
}

/// One plain PING before anything else: whatever is no Redis answers it in a way that
/// can be named, and so does a Redis that takes nobody.
async fn greet(
    stream: &mut TcpStream,
    target: &RedisTarget,
    timeout: Duration,
) -> Result<(), StoreError> {
    let exchange = async {
        stream.write_all(b"PING\r\n").await?;
        first_line(stream).await
    };
    let line = within(timeout, exchange)
        .await
        .ok_or_else(|| silent(target, timeout))?
        .map_err(|error| {
            StoreError::Unavailable(format!(
                "{target} closed the connection at the first command ({error}): is it a Redis \
                 without TLS?"
            ))
        })?;
    judge_greeting(&line, target)
}

/// A Redis answers one command with one line, and nothing after it.
async fn first_line(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
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

fn judge_greeting(line: &[u8], target: &RedisTarget) -> Result<(), StoreError> {
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
        "a TLS server answers there, and this version does not speak TLS to Redis".to_owned()
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

fn login(target: &RedisTarget) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(target.database()))
        .set_lib_name("tenure", env!("CARGO_PKG_VERSION"));
    if let Some(user) = target.user() {
        info = info.set_username(user);
    }
    if let Some(password) = target.password() {
        info = info.set_password(password);
    }
    info
}

fn refused(error: &RedisError, target: &RedisTarget) -> StoreError {
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

fn too_old(target: &RedisTarget, version: &str) -> StoreError {
    StoreError::Misconfigured(format!(
        "{target} runs a Redis that is {version}: Tenure needs {}.{} or newer",
        OLDEST.0, OLDEST.1
    ))
}

/// Asks who the server is. One request with three answers: `INFO` takes several
/// sections at once only from version 7.
async fn check(
    connection: &mut MultiplexedConnection,
    target: &RedisTarget,
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

fn judge_version(version: &str, target: &RedisTarget) -> Result<(), StoreError> {
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

fn judge_kind(facts: &Facts, target: &RedisTarget) -> Result<(), StoreError> {
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
fn warn_of_eviction(facts: &Facts, target: &RedisTarget) {
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
mod tests {
    use super::*;

    fn target() -> RedisTarget {
        #[allow(clippy::unwrap_used)]
        "redis://:hunter2@db:1".parse().unwrap()
    }

    #[test]
    fn whatever_answers_is_named() {
        let told = |line: &[u8]| judge_greeting(line, &target()).err().map(|e| e.to_string());
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
            assert!(judge_version(old, &target()).is_err(), "{old:?} was taken");
        }
        for new in ["6.2.0", "7.0.15", "8.2.1", "10.0.0"] {
            assert!(judge_version(new, &target()).is_ok(), "{new} was refused");
        }
        let kind = |text: &str| judge_kind(&Facts(text.to_owned()), &target());
        assert!(kind("redis_mode:standalone\r\nrole:master\r\n").is_ok());
        assert!(kind("redis_mode:sentinel\r\n").is_err());
        assert!(kind("redis_mode:cluster\r\n").is_err());
        assert!(kind("role:slave\r\nmaster_host:a\r\n").is_err());
    }
}
