//! One sidecar process: the elections on one thread, the API on another.
//!
//! The threads are apart so that no number of HTTP clients can delay a renewal.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

mod address;
mod app;
mod banner;
mod beside;
mod ending;
mod output;
#[cfg(feature = "peers")]
mod peers;
mod serving;
mod socket;
mod supervised;
mod telling;

pub use banner::effective;

use address::Addresses;
use app::Concerns;
use banner::Banner;
use beside::Beside;
use ending::{Signals, until_end};
use output::{Outlet, Output};
use serving::Serving;
use telling::tell_status;

use crate::api::{Admission, Shared};
use crate::backend::Store;
use crate::bearer::TokenFile;
use crate::child::Running;
use crate::config::{Config, Problem, Target};
use crate::exit::{Exit, refuse};
use crate::lease::{NodeId, Profile, SessionId};
use crate::memory::{Memory, MemoryError, StateDir};
use crate::sidecar::{Options, Sidecar, StartError};
use crate::systemd::{ServiceManager, watchdog};
use crate::time::{BootClock, Clock};

/// What runs beside the sidecar in the same process: it is told the API's URL once
/// that answers, and uses nothing else.
pub type Companion = fn(api_url: String);

/// Runs a sidecar until it is told to stop.
pub fn run(config: &Config, companion: Option<Companion>) -> Exit {
    let output = match Output::start(config.logging) {
        Ok(output) => output,
        Err(error) => {
            return refuse(&[Problem::new(format!("no thread for the output: {error}"))]);
        }
    };
    let exit = run_with(config, companion, &output);
    output.flush();
    exit
}

fn run_with(config: &Config, companion: Option<Companion>, output: &Output) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return refuse(&[Problem::new(format!("no event loop can be made: {error}"))]);
        }
    };
    let exit = runtime.block_on(async {
        // First of all: until it listens, the first process of a container is deaf to them.
        let signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return refuse(&[Problem::new(format!("no signals: {error}"))]),
        };
        prepare_and_run(config, companion, output, signals).await
    });
    // A name that is being looked up, or a file read, is not waited for.
    runtime.shutdown_background();
    exit
}

async fn prepare_and_run(
    config: &Config,
    companion: Option<Companion>,
    output: &Output,
    mut signals: Signals,
) -> Exit {
    let prepared = tokio::select! {
        prepared = Prepared::new(config) => prepared,
        // Nothing is led yet that would have to be given back.
        _ = signals.next() => return Exit::Ok,
    };
    match prepared {
        Ok(prepared) => prepared.run(config, companion, output, signals).await,
        Err(problems) => refuse(&problems),
    }
}

/// Everything that can be refused before anything is started.
struct Prepared {
    addresses: Addresses,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tokens: Option<Arc<TokenFile>>,
}

impl Prepared {
    /// Every problem that this machine has with the configuration, together.
    async fn new(config: &Config) -> Result<Self, Vec<Problem>> {
        let clock: Arc<dyn Clock> = Arc::new(BootClock);
        match (
            Addresses::bind(config),
            open(config, &clock).await,
            tokens(config),
        ) {
            (Ok(addresses), Ok(store), Ok(tokens)) => Ok(Self {
                addresses,
                store,
                clock,
                tokens,
            }),
            (addresses, store, tokens) => {
                let memory = remembered(config).map_err(|error| of_memory(config, &error));
                let rest = [store.err(), tokens.err(), memory.err()];
                let addresses = addresses.err().unwrap_or_default();
                Err(addresses
                    .into_iter()
                    .chain(rest.into_iter().flatten())
                    .collect())
            }
        }
    }
}

fn tokens(config: &Config) -> Result<Option<Arc<TokenFile>>, Problem> {
    let Some(path) = &config.listeners.token_file else {
        return Ok(None);
    };
    let file = TokenFile::open(path.clone())
        .map_err(|error| Problem::new(format!("--api-token-file {}: {error}", path.display())))?;
    Ok(Some(Arc::new(file)))
}

/// Whether the node's memory can be read, where nothing is going to be started.
fn remembered(config: &Config) -> Result<(), MemoryError> {
    if let Some(path) = &config.state_dir {
        let dir = StateDir::open(path)?;
        for election in &config.elections {
            Memory::load(Some(dir.clone()), election)?;
        }
    }
    Ok(())
}

fn of_memory(config: &Config, error: &MemoryError) -> Problem {
    let path = config.state_dir.as_deref().unwrap_or(Path::new(""));
    Problem::new(format!("--state-dir {}: {error}", path.display()))
}

impl Prepared {
    async fn run(
        self,
        config: &Config,
        companion: Option<Companion>,
        output: &Output,
        mut signals: Signals,
    ) -> Exit {
        let Self {
            addresses,
            store,
            clock,
            tokens,
        } = self;
        let Addresses { api, probes, id } = addresses;
        let manager = ServiceManager::of_environment();
        let options = options(config, id.clone(), clock, manager.is_some());
        let (sidecar, boot_id) = match start(&store, &options, config) {
            Ok(started) => started,
            Err(problem) => return refuse(&[problem]),
        };
        let banner = Banner {
            config,
            id: id.as_str(),
            store: &store.address(),
            guarantees: &store.guarantees(),
            api: &api.url,
            probes: probes.as_ref().map(|probes| probes.url.as_str()),
        };
        let open_files = serving::raise_limit_of_files();
        let concerns = match Concerns::begin(&sidecar, config, &api.url, open_files) {
            Ok(concerns) => concerns,
            Err(error) => return refuse(&[Problem::new(format!("no app can be run: {error}"))]),
        };
        said(config, output).say(banner.text().into_bytes());
        let report = concerns.running.as_ref().map(Running::report);
        let admission = Admission {
            allow_hosts: config.listeners.allow_hosts.clone(),
            tokens: tokens.clone(),
            max_event_readers: serving::event_readers(config),
        };
        let shared = Shared::with_app(&sidecar, boot_id, admission, report);
        // The sockets' files are removed when this returns, however it does.
        let mut files = vec![api.file];
        let mut serving = Serving::new(tokens);
        serving.add(api.listener, shared.api());
        if let Some(probes) = probes {
            let door = shared.probes(config.listeners.probe_status);
            serving.add(probes.listener, door);
            files.push(probes.file);
        }
        let (stop_api, stop) = watch::channel(false);
        let served = match serving.start_apart(stop) {
            Ok(served) => served,
            Err(error) => {
                return refuse(&[Problem::new(format!("no thread for the API: {error}"))]);
            }
        };
        let Concerns {
            hook_parts,
            prober,
            running: app,
        } = concerns;
        let told = (hook_parts, prober, manager);
        let beside = match Beside::start(&sidecar, &shared, config, told) {
            Ok(beside) => beside,
            Err(problem) => return refuse(&[problem]),
        };
        if let Some(companion) = companion {
            let url = api.url;
            std::thread::spawn(move || companion(url));
        }
        let exit = tokio::select! {
            exit = until_end(&sidecar, config, output, app.as_ref(), &mut signals) => exit,
            () = tell_status(&shared, config, said(config, output)) => Exit::Ok,
            why = store.ended() => {
                tracing::error!(%why, "stopping: no waiting makes the store of use to this process");
                Exit::Unavailable
            }
        };
        beside.stopping();
        // The API goes on answering "not leader" while the lease is given back.
        if let Err(aborted) = ending::stop(sidecar, config, app, &mut signals).await {
            return aborted;
        }
        let farewell = async {
            beside.finish().await;
            let _ = stop_api.send(true);
            // Bounded by the listener's own goodbye.
            let _ = tokio::task::spawn_blocking(move || served.join()).await;
        };
        tokio::select! {
            () = farewell => exit,
            number = signals.next() => Exit::Signal(number),
        }
    }
}

fn options(config: &Config, id: NodeId, clock: Arc<dyn Clock>, managed: bool) -> Options {
    Options {
        elections: config.elections.clone(),
        profile: Profile {
            node: id,
            url: config.url.clone(),
            metadata: Vec::new(),
        },
        timing: config.timing,
        state_dir: config.state_dir.clone(),
        drain: config.drains().then_some(config.drain_timeout),
        priority: config.priority,
        has_health: config.app_health.is_some(),
        // Twice in the time that systemd waits: one may be late.
        heartbeat: watchdog().filter(|_| managed).map(|span| span / 2),
        clock,
    }
}

/// Where data goes: with an app, stdout is the app's.
fn said<'a>(config: &Config, output: &'a Output) -> &'a Outlet {
    match config.app {
        Some(_) => &output.err,
        None => &output.out,
    }
}

fn start(
    store: &Arc<dyn Store>,
    options: &Options,
    config: &Config,
) -> Result<(Sidecar, SessionId), Problem> {
    let sidecar = Sidecar::start(Arc::clone(store), options);
    let sidecar = sidecar.map_err(|error| match error {
        StartError::Memory(error) => of_memory(config, &error),
        other => Problem::new(other.to_string()),
    })?;
    let boot_id = SessionId::random().map_err(|error| Problem::new(error.to_string()))?;
    Ok((sidecar, boot_id))
}

/// Opens a store. Only what this machine alone decides can fail here: a server that
/// is away is trouble to wait out, not a reason to end.
#[cfg_attr(not(feature = "peers"), allow(clippy::unused_async))]
async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Store>, Problem> {
    match &config.target {
        #[cfg(feature = "file")]
        Target::File(path) => {
            let store = crate::backend::file::FileStore::open(path, Arc::clone(clock));
            let store = store
                .map_err(|error| Problem::new(format!("--backend {}: {error}", config.target)))?;
            Ok(Arc::new(store))
        }
        #[cfg(feature = "etcd")]
        Target::Etcd(target) => {
            let options = crate::backend::etcd::EtcdOptions {
                target: target.clone(),
                credentials: config.credentials.clone(),
                call_timeout: config.timing.call_timeout(),
            };
            let store = crate::backend::etcd::EtcdStore::open(options, Arc::clone(clock));
            Ok(Arc::new(
                store.map_err(|error| Problem::new(error.to_string()))?,
            ))
        }
        #[cfg(feature = "redis")]
        Target::Redis(target) => {
            let options = crate::backend::redis::RedisOptions {
                target: target.clone(),
                credentials: config.credentials.clone(),
                call_timeout: config.timing.call_timeout(),
                wait: config.redis_wait,
            };
            let store = crate::backend::redis::RedisStore::open(options, Arc::clone(clock));
            Ok(Arc::new(
                store.map_err(|error| Problem::new(error.to_string()))?,
            ))
        }
        #[cfg(feature = "peers")]
        Target::Peers(cluster) => peers::open(config, cluster, clock).await,
    }
}
