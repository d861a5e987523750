//! Opens one connection, and says plainly why it cannot be used.

use std::fmt;
use std::io;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::server::{self, Expected, Server};
use super::trouble;
use crate::lease::StoreError;
use crate::time::{millis, within};
use crate::wire::{Dialer, Endpoint, Loaded, Stream, broken};

/// Longer than any first line of a Redis.
const GREETING_LIMIT: usize = 512;

/// A connection that has passed every check.
pub(super) struct Opened {
    pub connection: MultiplexedConnection,
    /// Moves the bytes; the connection is dead when it ends.
    pub driver: Driver,
    /// Who answers.
    pub server: Server,
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
    /// What must answer there.
    pub expected: Expected,
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
    let (mut connection, driver) = shake(target, timeout, pushes).await?;
    let server = server::check(&mut connection, target).await?;
    Ok(Opened {
        connection,
        driver,
        server,
    })
}

/// Connects and logs in, where the server asks for it or is one that keeps data: a
/// Sentinel may know no users, and refuse one.
///
/// # Errors
/// As [`open`].
pub(super) async fn shake(
    target: &Address<'_>,
    timeout: Duration,
    pushes: impl AsyncPushSender,
) -> Result<(MultiplexedConnection, Driver), StoreError> {
    let dialer = Dialer {
        kind: "a Redis",
        timeout,
    };
    let mut stream = dialer
        .dial(target.endpoint, target.name, target.loaded)
        .await?;
    let greeted = greet(&mut stream, target, timeout).await?;
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(timeout))
        .set_push_sender(pushes);
    let asked = greeted == Greeting::AsksForLogin || target.expected != Expected::Sentinel;
    let login = login(target, asked);
    let shaken = MultiplexedConnection::new_with_config(&login, stream, config);
    let (connection, driver) = within(timeout, shaken)
        .await
        .ok_or_else(|| silent(target, timeout))?
        .map_err(|error| refused(&error, target))?;
    Ok((connection, Driver(tokio::spawn(driver))))
}

fn silent(target: &Address<'_>, timeout: Duration) -> StoreError {
    StoreError::Unavailable(format!(
        "{target} accepts connections but does not answer within {} ms: it hangs, is \
         overloaded, or is no Redis",
        millis(timeout)
    ))
}

/// What a PING that nobody logged in for is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    Open,
    AsksForLogin,
}

/// One plain PING before anything else: whatever is no Redis answers it in a way that
/// can be named, and so does a Redis that takes nobody.
async fn greet(
    stream: &mut Stream,
    target: &Address<'_>,
    timeout: Duration,
) -> Result<Greeting, StoreError> {
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

fn judge_greeting(line: &[u8], target: &Address<'_>) -> Result<Greeting, StoreError> {
    let text = String::from_utf8_lossy(line);
    let text = text.lines().next().unwrap_or_default().trim_end();
    if text == "+PONG" {
        return Ok(Greeting::Open);
    }
    if let Some(refusal) = text.strip_prefix('-') {
        let (code, detail) = refusal.split_once(' ').unwrap_or((refusal, ""));
        return match code {
            // Logging in comes next.
            "NOAUTH" | "NOPERM" => Ok(Greeting::AsksForLogin),
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

fn login(target: &Address<'_>, asked: bool) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(target.database))
        .set_lib_name("tenure", env!("CARGO_PKG_VERSION"));
    if !asked {
        return info;
    }
    if let Some(user) = target.loaded.user() {
        info = info.set_username(user);
    }
    if let Some(password) = target.loaded.password() {
        info = info.set_password(password);
    }
    info
}

pub(super) fn refused(error: &RedisError, target: &Address<'_>) -> StoreError {
    match error.kind() {
        ErrorKind::RESP3NotSupported => server::too_old(target, "older than 6"),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::wire::{CredentialFiles, Credentials, StoreUrl};

    /// Runs `check` on an address with a password that must not be shown.
    pub(in super::super) fn with_target<T>(check: impl FnOnce(&Address<'_>) -> T) -> T {
        let url = StoreUrl::parse("redis://:hunter2@db:1", 1).unwrap();
        let name = url.to_string();
        let credentials = Credentials::load(CredentialFiles::default(), url.login, None).unwrap();
        check(&Address {
            endpoint: &url.servers[0],
            name: &name,
            database: 0,
            loaded: &credentials.newest(),
            expected: Expected::Alone,
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
}
