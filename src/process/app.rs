//! The app, where this process runs it, and those who have to do with it: who drains in
//! which order, who asks how it is.

use crate::child::{self, Running, Setup};
use crate::config::Config;
use crate::health::{OnUnhealthy, Prober};
use crate::sidecar::{Part, Sidecar};

/// What concerns the app, before it is begun with.
pub(super) struct Concerns {
    /// The hook's parts in the drains, in the order of the elections.
    pub hook_parts: Vec<Part>,
    /// Who asks it.
    pub prober: Option<Prober>,
    /// Who runs it.
    pub running: Option<Running>,
}

impl Concerns {
    /// Begins to run the app, where there is one. Without one, the first process of a
    /// container has the dead to bury all the same. `open_files` is the limit of file
    /// descriptors that stood before this process raised it.
    ///
    /// # Errors
    /// Where the system gives no signals or no timer.
    pub fn begin(
        sidecar: &Sidecar,
        config: &Config,
        api_url: &str,
        open_files: Option<u64>,
    ) -> std::io::Result<Self> {
        let (hook_parts, app_part) = parts(sidecar, config);
        let check = config.app_health.as_ref();
        let mut prober = check.map(|check| Prober::new(check, sidecar.elections()));
        let mut running = None;
        if let (Some(app), Some(election), Some(part)) =
            (&config.app, sidecar.elections().first(), app_part)
        {
            let restarts = check.is_some_and(|it| it.on_unhealthy == OnUnhealthy::Restart);
            let setup = Setup {
                app: app.clone(),
                election: election.clone(),
                api_url: api_url.to_owned(),
                open_files,
                drain_timeout: config.drain_timeout,
                part,
                ailments: prober.as_ref().filter(|_| restarts).map(Prober::ailments),
                once: config.once,
            };
            let app = Running::start(setup)?;
            prober = prober.map(|prober| prober.while_runs(app.report().runs()));
            running = Some(app);
        } else if rustix::process::getpid().is_init() {
            tokio::spawn(child::reap_orphans());
        }
        Ok(Self {
            hook_parts,
            prober,
            running,
        })
    }
}

/// Who has to be done with a leadership: the app is asked to drain first, and stopped
/// afterwards.
fn parts(sidecar: &Sidecar, config: &Config) -> (Vec<Part>, Option<Part>) {
    let (hooked, run) = (config.hook.is_some(), config.app.is_some());
    let (mut of_hook, mut of_app) = (Vec::new(), None);
    for election in sidecar.elections() {
        let all = election.drained_by(usize::from(hooked) + usize::from(run));
        let mut parts = all.into_iter();
        if hooked {
            of_hook.extend(parts.next());
        }
        if run {
            of_app = of_app.or_else(|| parts.next());
        }
    }
    (of_hook, of_app)
}
