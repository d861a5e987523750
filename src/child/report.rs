//! What `/status` and the metrics say of the app.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// The app, as `/status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = Child)]
pub struct Status {
    /// Its main process.
    pub pid: Option<i32>,
    /// It, or something that it started, is there.
    pub running: bool,
    /// How often it was started again after it had ended by itself.
    pub restarts: u64,
    /// Why it is not started though it might be.
    pub trouble: Option<String>,
}

/// Shared by whoever runs the app and whoever tells of it.
#[derive(Debug, Default)]
pub struct Report {
    state: Mutex<(Status, bool)>,
    runs: watch::Sender<bool>,
}

impl Report {
    /// The status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.lock().0.clone()
    }

    pub(super) fn starting(&self) {
        {
            let (status, ended_by_itself) = &mut *self.lock();
            status.running = true;
            status.restarts += u64::from(std::mem::take(ended_by_itself));
        }
        self.runs.send_replace(true);
    }

    pub(super) fn started(&self, pid: rustix::process::Pid) {
        self.lock().0.pid = Some(pid.as_raw_nonzero().get());
    }

    pub(super) fn ended_by_itself(&self) {
        self.lock().1 = true;
    }

    pub(super) fn gone(&self) {
        {
            let status = &mut self.lock().0;
            status.pid = None;
            status.running = false;
        }
        self.runs.send_replace(false);
    }

    /// Whether there is an app, for whoever asks it how it is.
    #[must_use]
    pub fn runs(&self) -> watch::Receiver<bool> {
        self.runs.subscribe()
    }

    pub(super) fn trouble(&self, trouble: Option<String>) {
        self.lock().0.trouble = trouble;
    }

    fn lock(&self) -> MutexGuard<'_, (Status, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
