//! Opens a connection to one member, and says plainly why it cannot be used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::http::Uri;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::{Channel, Endpoint as Settings};

use super::client::Client;
use super::rpc::StatusResponse;
use super::{stranger, trouble};
use crate::lease::StoreError;
use crate::time::{millis, within};
use crate::wire::{Dialer, Endpoint, Loaded, Stream};

/// The first version whose members tell that they have lost their cluster, and whose
/// watches take no bug of ours to be quiet.
const OLDEST: (u32, u32) = (3, 4);
/// Between pings on a connection that is silent. etcd closes a connection that is
/// pinged more often than every 5 s, by default.
const PING_EVERY: Duration = Duration::from_secs(6);

/// Where to connect, and as whom.
pub(super) struct Address<'a> {
    pub endpoint: &'a Endpoint,
    /// What the member is called in messages; without secrets.
    pub name: &'a str,
    pub loaded: &'a Loaded,
}

/// A connection that has passed every check.
pub(super) struct Opened {
    pub client: Client,
    pub driver: Driver,
    pub version: String,
}

/// The tasks behind a connection.
#[derive(Clone)]
pub(super) struct Driver(Arc<Mutex<Option<JoinSet<()>>>>);

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Driver {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(JoinSet::new()))))
    }

    /// Closes the socket and ends every call on it, so that no request waits there to be
    /// sent later.
    pub(super) fn close(&self) {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(tasks);
    }
}

/// What the transport spawns its tasks with.
struct Spawner(Driver);

impl hyper::rt::Executor<Task> for Spawner {
    fn execute(&self, task: Task) {
        let mut tasks = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tasks) = &mut *tasks else {
            return;
        };
        // One more for each stream: those that have ended are let go.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// A request met a connection that had ended before: it was never sent.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection has ended")]
pub(super) struct Ended;

/// Connects, logs in and checks the server. `timeout` bounds each step that waits for
/// the network.
///
/// # Errors
/// `Unavailable` where it may pass by itself, else `Rejected` or `Misconfigured`.
pub(super) async fn open(target: &Address<'_>, timeout: Duration) -> Result<Opened, StoreError> {
    let stream = dial(target, timeout).await?;
    let driver = Driver::new();
    let shaken = within(timeout, check(stream, &driver, target, timeout)).await;
    match shaken {
        Some(Ok((client, status))) => {
            judge_version(&status.version, target.name)?;
            Ok(Opened {
                client,
                driver,
                version: status.version,
            })
        }
        Some(Err(Failure::Told(error))) => Err(error),
        Some(Err(Failure::Broken(error))) => {
            Err(stranger::named(target, timeout).await.unwrap_or(error))
        }
        None => Err(stranger::named(target, timeout)
            .await
            .unwrap_or_else(|| silent(target.name, timeout))),
    }
}

/// A failure of the first calls.
enum Failure {
    /// An etcd told it.
    Told(StoreError),
    /// The connection broke: perhaps it is no etcd that answers.
    Broken(StoreError),
}

pub(super) async fn dial(target: &Address<'_>, timeout: Duration) -> Result<Stream, StoreError> {
    let dialer = Dialer {
        kind: "an etcd",
        timeout,
    };
    dialer
        .dial(target.endpoint, target.name, target.loaded)
        .await
}

async fn check(
    stream: Stream,
    driver: &Driver,
    target: &Address<'_>,
    timeout: Duration,
) -> Result<(Client, StatusResponse), Failure> {
    let judge = |status: &Status| {
        let trouble = trouble::judge(status, target.name);
        let error = sure(trouble.error);
        if trouble.cut {
            Failure::Broken(error)
        } else {
            Failure::Told(error)
        }
    };
    let channel = speak(stream, driver, timeout)
        .await
        .map_err(|error| judge(&Status::from_error(error.into())))?;
    let mut client = Client::new(channel);
    if let (Some(user), Some(password)) = (target.loaded.user(), target.loaded.password()) {
        client = client
            .log_in(user, password)
            .await
            .map_err(|status| judge(&status))?;
    }
    let status = client.status().await.map_err(|status| judge(&status))?;
    Ok((client, status))
}

/// HTTP/2 on this stream and no other: a connection is never repaired, for a request
/// must not be sent a second time, nor later.
async fn speak(
    stream: Stream,
    driver: &Driver,
    timeout: Duration,
) -> Result<Channel, tonic::transport::Error> {
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| std::future::ready(once.take().ok_or(Ended)));
    // The name is for the header only; the stream leads where it leads.
    Settings::from_static("http://etcd")
        .executor(Spawner(driver.clone()))
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(timeout)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// While connecting, no request has been made that could have been applied.
fn sure(error: StoreError) -> StoreError {
    match error {
        StoreError::Indeterminate(why) => StoreError::Unavailable(why),
        other => other,
    }
}

fn silent(name: &str, timeout: Duration) -> StoreError {
    StoreError::Unavailable(format!(
        "{name} accepts connections but does not answer within {} ms: it hangs, is overloaded, \
         or is no etcd",
        millis(timeout)
    ))
}

fn judge_version(version: &str, name: &str) -> Result<(), StoreError> {
    if number(version) >= OLDEST {
        return Ok(());
    }
    Err(StoreError::Misconfigured(format!(
        "{name} runs etcd {version}: Tenure needs {}.{} or newer",
        OLDEST.0, OLDEST.1
    )))
}

fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

/// Whether leases of that version are known to outlive what they told (etcd#15247: a
/// member that was stopped and led before may renew a lease that its successor ends).
pub(super) fn has_known_lease_bugs(version: &str) -> bool {
    let patch = version
        .rsplit('.')
        .next()
        .and_then(|part| part.parse::<u32>().ok());
    match (number(version), patch) {
        ((3, 4), Some(patch)) => patch < 31,
        ((3, 5), Some(patch)) => patch < 13,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_checked() {
        for old in ["3.3.27", "2.3.8", "3", "", "x"] {
            assert!(judge_version(old, "a").is_err(), "{old:?} was taken");
        }
        for new in ["3.4.23", "3.5.1", "3.6.0", "4.0.0"] {
            assert!(judge_version(new, "a").is_ok(), "{new} was refused");
        }
        for (version, buggy) in [
            ("3.4.23", true),
            ("3.4.31", false),
            ("3.5.1", true),
            ("3.5.13", false),
            ("3.6.0", false),
        ] {
            assert_eq!(has_known_lease_bugs(version), buggy, "{version}");
        }
    }
}
