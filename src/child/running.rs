//! An app that is being run: what the process holds of it.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{getpid, set_child_subreaper};
use tokio::sync::watch;

use super::report::Report;
use super::supervisor::Supervisor;
use crate::config::App;
use crate::exit::Exit;
use crate::sidecar::{Election, Part};

/// What is run, and for which election.
pub struct Setup {
    /// The app.
    pub app: App,
    /// It runs while this node leads this.
    pub election: Election,
    /// When it has to be gone, and what waits for it.
    pub part: Part,
    /// What it finds in its environment.
    pub api_url: String,
    /// Its limit of file descriptors, where this process has raised its own.
    pub open_files: Option<u64>,
    /// For how long the app may stop when leadership is given up.
    pub drain_timeout: Duration,
    /// Rises each time that the app turns out to be unhealthy, where it is to be started
    /// anew then.
    pub ailments: Option<watch::Receiver<u64>>,
    /// One tenure is enough.
    pub once: bool,
}

/// An app that is being run.
pub struct Running {
    report: Arc<Report>,
    abort: watch::Sender<bool>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Running {
    /// Begins to run the app whenever this node leads, on this event loop.
    ///
    /// # Errors
    /// Where the system gives no signals or no timer.
    pub fn start(setup: Setup) -> std::io::Result<Self> {
        // Whoever loses its guard becomes this process' child.
        set_child_subreaper(Some(getpid()))?;
        let report = Arc::new(Report::default());
        let (abort, aborted) = watch::channel(false);
        let (say_exit, exit) = watch::channel(None);
        let supervisor = Supervisor::new(setup, Arc::clone(&report), aborted)?;
        tokio::spawn(async move {
            let (exit, kept) = supervisor.run().await;
            say_exit.send_replace(Some(exit));
            if kept.is_some() {
                std::future::pending::<()>().await;
            }
        });
        Ok(Self {
            report,
            abort,
            exit,
        })
    }

    /// What is to be told of the app.
    #[must_use]
    pub fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report)
    }

    /// Waits until the app is run no more: its policy says so, or the election is over
    /// and nothing of the app is left.
    pub async fn exit(&self) -> Exit {
        let mut exit = self.exit.clone();
        let said = exit.wait_for(Option::is_some).await;
        said.ok().and_then(|exit| *exit).unwrap_or(Exit::Failure)
    }

    /// Kills the app, and runs it no more.
    pub async fn abort(&self) {
        self.abort.send_replace(true);
        self.exit().await;
    }
}
