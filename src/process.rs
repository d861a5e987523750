//! One sidecar process: the elections on one thread, the API on another.
//!
//! The threads are apart so that no number of HTTP clients can delay a renewal.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;

mod app;
mod banner;
mod beside;
mod ending;
mod output;
mod supervised;
mod telling;

pub use banner::effective;

use app::Concerns;
use banner::Banner;
use beside::Beside;
use ending::{Signals, until_end};
use output::{Outlet, Output};
use telling::tell_status;

use crate::api;
use crate::backend::Store;
use crate::child::Running;
use crate::config::{Config, Problem, Target};
use crate::exit::{Exit, refuse};
use crate::lease::{NodeId, Profile, SessionId};
use crate::memory::{Memory, MemoryError, StateDir};
use crate::sidecar::{Options, Sidecar, StartError};
use crate::systemd::{ServiceManager, watchdog};
use crate::time::{BootClock, Clock};

/// File descriptors to ask for; the usual soft limit of 1024 is meant for programs
/// that call select(2).
const FILES: u64 = 4096;

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
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            match Prepared::new(config) {
                Ok(prepared) => prepared.run(config, companion, output).await,
                Err(problems) => refuse(&problems),
            }
        }),
        Err(error) => refuse(&[Problem::new(format!("no event loop can be made: {error}"))]),
    }
}

/// Everything that can be refused before anything is started.
struct Prepared {
    address: Address,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Prepared {
    /// Every problem that this machine has with the configuration, together.
    fn new(config: &Config) -> Result<Self, Vec<Problem>> {
        let clock: Arc<dyn Clock> = Arc::new(BootClock);
        match (Address::bind(config), open(config, &clock)) {
            (Ok(address), Ok(store)) => Ok(Self {
                address,
                store,
                clock,
            }),
            (address, store) => {
                let memory = remembered(config).map_err(|error| of_memory(config, &error));
                let found = [address.err(), store.err(), memory.err()];
                Err(found.into_iter().flatten().collect())
            }
        }
    }
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

/// Where the API listens, and the node's id, which is named after it by default.
struct Address {
    listener: TcpListener,
    api_url: String,
    id: NodeId,
}

impl Address {
    fn bind(config: &Config) -> Result<Self, Problem> {
        let listener = TcpListener::bind(config.listen).map_err(|error| {
            let listen = config.listen;
            Problem::new(match error.kind() {
                std::io::ErrorKind::AddrInUse => format!(
                    "--listen {listen}: the port is taken, perhaps by another sidecar; \
                     `tenure run --listen {}:0` picks a free one",
                    listen.ip()
                ),
                _ => format!("--listen {listen}: {error}"),
            })
        })?;
        let failed = |error: std::io::Error| Problem::new(format!("--listen: {error}"));
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let id = match &config.id {
            Some(id) => id.clone(),
            None => {
                let host = rustix::system::uname()
                    .nodename()
                    .to_string_lossy()
                    .into_owned();
                let label = format!("{host}:{}", address.port());
                label.parse().map_err(|_| {
                    Problem::new(format!("the host's name {host:?} is no id: give --id"))
                })?
            }
        };
        Ok(Self {
            listener,
            api_url: format!("http://{address}"),
            id,
        })
    }
}

impl Prepared {
    async fn run(self, config: &Config, companion: Option<Companion>, output: &Output) -> Exit {
        let Self {
            address,
            store,
            clock,
        } = self;
        let manager = ServiceManager::of_environment();
        let options = Options {
            elections: config.elections.clone(),
            profile: Profile {
                node: address.id.clone(),
                url: config.url.clone(),
                metadata: Vec::new(),
            },
            timing: config.timing,
            state_dir: config.state_dir.clone(),
            drain: config.drains().then_some(config.drain_timeout),
            priority: config.priority,
            has_health: config.app_health.is_some(),
            // Twice in the time that systemd waits: one may be late.
            heartbeat: manager.as_ref().and(watchdog()).map(|span| span / 2),
            clock,
        };
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return refuse(&[Problem::new(format!("no signals: {error}"))]),
        };
        let (sidecar, boot_id) = match start(&store, &options, config) {
            Ok(started) => started,
            Err(problem) => return refuse(&[problem]),
        };
        let banner = Banner {
            config,
            id: address.id.as_str(),
            store: &store.address(),
            guarantees: &store.guarantees(),
            api: &address.api_url,
        };
        let concerns = match Concerns::begin(&sidecar, config, &address.api_url) {
            Ok(concerns) => concerns,
            Err(error) => return refuse(&[Problem::new(format!("no app can be run: {error}"))]),
        };
        said(config, output).say(banner.text().into_bytes());
        let report = concerns.running.as_ref().map(Running::report);
        let hosts = config.allow_hosts.clone();
        let shared = api::Shared::with_app(&sidecar, boot_id, hosts, event_readers(config), report);
        let (stop_api, stop) = watch::channel(false);
        let api = match serve_apart(address.listener, shared.router(), stop) {
            Ok(api) => api,
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
            let url = address.api_url.clone();
            std::thread::spawn(move || companion(url));
        }
        let exit = tokio::select! {
            exit = until_end(&sidecar, config, output, app.as_ref(), &mut signals) => exit,
            () = tell_status(&shared, config, said(config, output)) => Exit::Ok,
        };
        beside.stopping();
        // The API goes on answering "not leader" while the lease is given back.
        if let Err(aborted) = ending::stop(sidecar, config, app, &mut signals).await {
            return aborted;
        }
        beside.finish().await;
        let _ = stop_api.send(true);
        // Bounded by the listener's own goodbye.
        let _ = tokio::task::spawn_blocking(move || api.join()).await;
        exit
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
fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Store>, Problem> {
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
    }
}

/// Runs the API on a thread and an event loop of its own.
fn serve_apart(
    listener: TcpListener,
    router: axum::Router,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("tenure-api".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => api::serve(listener, router, max_connections(), stop).await,
                    Err(error) => tracing::error!(%error, "the API cannot listen"),
                }
            });
        })
}

/// As many API connections as leave file descriptors for the election: a long-poll
/// takes two, and a store that was lost needs one to be reached again.
fn max_connections() -> u32 {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |most| most.min(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        // Refused: what there is has to do.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES);
    u32::try_from(files.min(FILES) / 4).unwrap_or(1).max(1)
}

/// As many readers of events as are asked for, and never so many that nobody else gets
/// a connection.
fn event_readers(config: &Config) -> usize {
    let wanted = config.max_event_readers;
    let most = usize::try_from(max_connections() / 2).unwrap_or(usize::MAX);
    if wanted > most {
        tracing::warn!(
            "only {most} of --max-event-readers {wanted} are served: the limit of file \
             descriptors allows no more"
        );
    }
    wanted.min(most)
}
