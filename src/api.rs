//! The localhost HTTP API. Every answer about leadership is computed from the
//! deadline and the clock when the request is served; nothing is cached.

mod checkpoint;
mod cluster;
mod door;
mod events;
mod extract;
mod fence_token;
mod guard;
mod last_word;
mod leadership;
mod listener;
mod metrics;
mod openapi;
mod page;
mod problem;
mod process;
mod route;
mod status;
mod step_down;
mod wait;

use std::sync::Arc;
use std::time::Duration;

pub use door::Door;
pub use listener::{Listener, serve};
pub use status::Status;

use crate::backend::{Guarantees, Membership};
use crate::bearer::TokenFile;
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
    membership: Membership,
    store_address: String,
    boot_id: SessionId,
    allow_hosts: Vec<String>,
    tokens: Option<Arc<TokenFile>>,
    child: Option<Arc<Report>>,
    seats: events::Seats,
}

/// Who may ask.
#[derive(Debug)]
pub struct Admission {
    /// Names, beside loopback ones, that a `Host` header may carry.
    pub allow_hosts: Vec<String>,
    /// The tokens of which a client must show one.
    pub tokens: Option<Arc<TokenFile>>,
    /// So many are served `/events` at once.
    pub max_event_readers: usize,
}

impl std::ops::Deref for Shared {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.0
    }
}

impl Shared {
    /// The API of a running sidecar. `boot_id` is new at each start.
    #[must_use]
    pub fn new(sidecar: &Sidecar, boot_id: SessionId, admission: Admission) -> Self {
        Self::with_app(sidecar, boot_id, admission, None)
    }

    /// The same, where the sidecar runs an app.
    pub(crate) fn with_app(
        sidecar: &Sidecar,
        boot_id: SessionId,
        admission: Admission,
        child: Option<Arc<Report>>,
    ) -> Self {
        Self(Arc::new(Context {
            elections: sidecar.elections().to_vec(),
            guarantees: sidecar.guarantees(),
            membership: sidecar.membership(),
            store_address: sidecar.store_address(),
            boot_id,
            allow_hosts: admission.allow_hosts,
            tokens: admission.tokens,
            child,
            seats: events::Seats::new(admission.max_event_readers),
        }))
    }

    /// The API, for those who may ask.
    #[must_use]
    pub fn api(&self) -> Door {
        Door::new(route::api(self.clone()), Some(self.clone()))
    }

    /// The probes, for anybody; with the status where `status` is set.
    #[must_use]
    pub fn probes(&self, status: bool) -> Door {
        Door::new(route::probes(self.clone(), status), None)
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
