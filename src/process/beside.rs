//! What runs beside the elections, on a thread of its own: the calls of the app, and the
//! words to systemd. However slow either is, no renewal waits for it.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::supervised::Supervised;
use crate::api::Shared;
use crate::config::{Config, Problem};
use crate::health::Prober;
use crate::hook::Hooks;
use crate::sidecar::{Part, Sidecar};
use crate::systemd::ServiceManager;
use crate::time::pause;

/// The longest that the app may take to hear the last word: an end is not kept waiting by
/// a hook that is away.
const GOODBYE_TIME: Duration = Duration::from_secs(2);

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    Stopping,
    /// The elections have ended.
    Over,
}

/// The jobs, before they are begun.
#[derive(Default)]
struct Jobs {
    hooks: Option<Hooks>,
    prober: Option<Prober>,
    supervised: Option<Supervised>,
    /// How long the app may take to hear the last word.
    goodbye: Duration,
}

/// The thread.
pub struct Beside {
    phase: watch::Sender<Phase>,
    thread: JoinHandle<()>,
}

impl Beside {
    /// Begins what the configuration and the environment ask for; `parts` are those of
    /// the hook in the drains of the elections.
    ///
    /// # Errors
    /// Where the system gives no thread, or the keys of the hook are gone since they were
    /// looked at.
    pub fn start(
        sidecar: &Sidecar,
        shared: &Shared,
        config: &Config,
        (parts, prober, manager): (Vec<Part>, Option<Prober>, Option<ServiceManager>),
    ) -> Result<Self, Problem> {
        let phase = watch::Sender::new(Phase::Running);
        let mut jobs = Jobs::default();
        if let Some(hook) = &config.hook {
            let hooks = Hooks::new(hook, config.drain_timeout, shared, parts);
            let of_file = |error| Problem::new(format!("--hook-secret-file: {error}"));
            jobs.hooks = Some(hooks.map_err(of_file)?);
            jobs.goodbye = hook.timeout.min(GOODBYE_TIME);
        }
        jobs.prober = prober;
        jobs.supervised = manager.map(|manager| Supervised {
            manager,
            elections: sidecar.elections().to_vec(),
            heartbeat: sidecar.heartbeat(),
            phase: phase.subscribe(),
        });
        let thread = jobs.begin(phase.subscribe());
        let no_thread = |error| Problem::new(format!("no thread for the app: {error}"));
        Ok(Self {
            phase,
            thread: thread.map_err(no_thread)?,
        })
    }

    /// The process is asked to end.
    pub fn stopping(&self) {
        self.phase.send_replace(Phase::Stopping);
    }

    /// The elections have ended: waits until the app knows, or for as long as is decent.
    pub async fn finish(self) {
        self.phase.send_replace(Phase::Over);
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

impl Jobs {
    fn begin(self, phase: watch::Receiver<Phase>) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("tenure-beside".to_owned())
            .spawn(move || {
                runtime.block_on(self.run(phase));
                // A name that is being looked up, or a file read, is not waited for.
                runtime.shutdown_background();
            })
    }

    async fn run(self, phase: watch::Receiver<Phase>) {
        let over = |mut phase: watch::Receiver<Phase>| async move {
            // A sender that is gone cannot ask for anything but the end.
            let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
        };
        let hooks = async {
            if let Some(hooks) = self.hooks {
                hooks.run().await;
            }
        };
        let told = async { tokio::join!(hooks, over(phase.clone())) };
        let untold = async {
            over(phase.clone()).await;
            pause(self.goodbye).await;
        };
        let ask = async {
            match self.prober {
                Some(prober) => prober.run().await,
                None => std::future::pending().await,
            }
        };
        let say = async {
            if let Some(supervised) = self.supervised {
                supervised.run().await;
            }
            std::future::pending().await
        };
        tokio::select! {
            _ = told => {}
            () = untold => tracing::warn!("the hook did not take the last word"),
            () = ask => {}
            () = say => {}
        }
    }
}
