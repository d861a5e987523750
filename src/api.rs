//! The localhost HTTP API. Every answer about leadership is computed from the
//! deadline and the clock when the request is served; nothing is cached.

mod checkpoint;
mod events;
mod extract;
mod guard;
mod leadership;
mod listener;
mod page;
mod problem;
mod process;
mod route;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;

pub use listener::serve;
pub use status::Status;

use crate::backend::Guarantees;
use crate::child::Report;
use crate::lease::SessionId;
use crate::sidecar::{Election, Sidecar};

/// What the routes share.
#[derive(Clone)]
pub struct Shared(Arc<Context>);

/// See [`Shared`].
pub struct Context {
    elections: Vec<Election>,
    guarantees: Guarantees,
    store_address: String,
    boot_id: SessionId,
    allow_hosts: Vec<String>,
    child: Option<Arc<Report>>,
    seats: events::Seats,
}

impl std::ops::Deref for Shared {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.0
    }
}

impl Shared {
    /// The API of a running sidecar. `boot_id` is new at each start; `allow_hosts`
    /// are names, beside loopback ones, that a `Host` header may carry; at most
    /// `max_event_readers` are served `/events` at once.
    #[must_use]
    pub fn new(
        sidecar: &Sidecar,
        boot_id: SessionId,
        allow_hosts: Vec<String>,
        max_event_readers: usize,
    ) -> Self {
        Self::with_app(sidecar, boot_id, allow_hosts, max_event_readers, None)
    }

    /// The same, where the sidecar runs an app.
    pub(crate) fn with_app(
        sidecar: &Sidecar,
        boot_id: SessionId,
        allow_hosts: Vec<String>,
        max_event_readers: usize,
        child: Option<Arc<Report>>,
    ) -> Self {
        Self(Arc::new(Context {
            elections: sidecar.elections().to_vec(),
            guarantees: sidecar.guarantees(),
            store_address: sidecar.store_address(),
            boot_id,
            allow_hosts,
            child,
            seats: events::Seats::new(max_event_readers),
        }))
    }

    /// The routes, ready to be served.
    pub fn router(&self) -> Router {
        route::router(self.clone())
    }

    /// The elections, in the order of the options.
    #[must_use]
    pub fn elections(&self) -> &[Election] {
        &self.0.elections
    }

    /// New at each start of the process.
    #[must_use]
    pub fn boot_id(&self) -> &SessionId {
        &self.0.boot_id
    }

    /// The status body of an election.
    #[must_use]
    pub fn status(&self, election: &Election) -> Status {
        Status::now(self, election)
    }
}

impl Context {
    fn worst_case_failover(&self, election: &Election) -> Duration {
        let timing = election.timing();
        timing.worst_case_failover(self.guarantees.expiry_step, election.largest_delay())
    }
}
