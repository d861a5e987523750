//! Hooks: the sidecar calls the app, and gives a lease back only when the app has drained.
//!
//! What is told is a state, not a sequence: the newest one, until the app has it. It is
//! told in order, so an app that lags sees fewer states, never an older one after a newer.
//! All of it happens beside the election loops, on another thread: no app can delay a
//! renewal.

mod courier;
mod endpoint;
mod message;
mod secrets;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::task::JoinSet;

pub use secrets::{Secrets, SecretsError};

use courier::Courier;
use endpoint::Endpoint;

use crate::api::Shared;
use crate::sidecar::Part;

/// How the app is told of changes.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Where.
    pub url: Uri,
    /// The keys that it is signed with.
    pub secret_file: Option<PathBuf>,
    /// It need not be on the loopback.
    pub remote: bool,
    /// The longest that one call may take.
    pub timeout: Duration,
}

/// The couriers of all elections, ready to go.
pub struct Hooks {
    couriers: Vec<Courier>,
}

impl Hooks {
    /// One courier for each election; `parts` are theirs in the drains, in the order of the
    /// elections.
    ///
    /// # Errors
    /// Where the keys cannot be read.
    pub fn new(
        hook: &Hook,
        drain_timeout: Duration,
        shared: &Shared,
        parts: Vec<Part>,
    ) -> Result<Self, SecretsError> {
        let endpoint = Endpoint::new(hook.url.clone(), hook.secret_file.clone(), hook.timeout);
        let endpoint = Arc::new(endpoint?);
        let couriers = shared.elections().iter().zip(parts).enumerate();
        let couriers = couriers.map(|(index, (election, part))| Courier {
            shared: shared.clone(),
            election: election.clone(),
            index,
            boot_id: shared.boot_id().to_string(),
            endpoint: Arc::clone(&endpoint),
            part: Arc::new(part),
            drain_timeout,
        });
        Ok(Self {
            couriers: couriers.collect(),
        })
    }

    /// Calls the app until the elections have ended and the app knows, which may be never:
    /// limit it.
    pub async fn run(self) {
        let mut couriers = JoinSet::new();
        for courier in self.couriers {
            couriers.spawn(courier.run());
        }
        while let Some(ended) = couriers.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::error!(%error, "the hook cannot be called: no timer");
            }
        }
    }
}
