//! One sidecar process: the elections on one thread, the API on another.
//!
//! The threads are apart so that no number of HTTP clients can delay a renewal.

use std::io::IsTerminal as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

mod banner;

pub use banner::effective;

use banner::Banner;

use crate::api;
use crate::backend::Store;
use crate::config::{Config, LogFormat, Logging, Problem, Target};
use crate::exit::{Exit, print_bytes, refuse};
use crate::lease::{NodeId, Profile, SessionId};
use crate::machine::State;
use crate::sidecar::{Election, Options, Sidecar};
use crate::time::{BootClock, Clock, pause, within};

/// File descriptors to ask for; the usual soft limit of 1024 is meant for programs
/// that call select(2).
const FILES: u64 = 4096;
/// SIGTERM is answered with exit 0 within the drain and this.
const STOP_TIME: Duration = Duration::from_secs(10);

/// What runs beside the sidecar in the same process: it is told the API's URL once
/// that answers, and uses nothing else.
pub type Companion = fn(api_url: String);

/// Runs a sidecar until it is told to stop.
pub fn run(config: &Config, companion: Option<Companion>) -> Exit {
    start_logging(config.logging);
    let prepared = match Prepared::new(config) {
        Ok(prepared) => prepared,
        Err(problem) => return refuse(&[problem]),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(prepared.run(config, companion)),
        Err(error) => refuse(&[Problem::new(format!("no event loop can be made: {error}"))]),
    }
}

/// Everything that can be refused before anything is started.
struct Prepared {
    listener: TcpListener,
    api_url: String,
    id: NodeId,
}

impl Prepared {
    fn new(config: &Config) -> Result<Self, Problem> {
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

    async fn run(self, config: &Config, companion: Option<Companion>) -> Exit {
        let clock: Arc<dyn Clock> = Arc::new(BootClock);
        let store = match open(config, &clock) {
            Ok(store) => store,
            Err(problem) => return refuse(&[problem]),
        };
        let options = Options {
            elections: config.elections.clone(),
            profile: Profile {
                node: self.id.clone(),
                url: config.url.clone(),
                metadata: Vec::new(),
            },
            timing: config.timing,
            state_dir: config.state_dir.clone(),
            drains: false,
            clock,
        };
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return refuse(&[Problem::new(format!("no signals: {error}"))]),
        };
        let (sidecar, boot_id) = match start(&store, &options) {
            Ok(started) => started,
            Err(problem) => return refuse(&[problem]),
        };
        let banner = Banner {
            config,
            id: self.id.as_str(),
            store: &store.address(),
            guarantees: &store.guarantees(),
            api: &self.api_url,
        };
        print_bytes(banner.text().as_bytes());
        let shared = api::Shared::new(&sidecar, boot_id, config.allow_hosts.clone());
        let (stop_api, stop) = watch::channel(false);
        let api = match serve_apart(self.listener, shared.router(), stop) {
            Ok(api) => api,
            Err(error) => {
                return refuse(&[Problem::new(format!("no thread for the API: {error}"))]);
            }
        };
        if let Some(companion) = companion {
            let url = self.api_url.clone();
            std::thread::spawn(move || companion(url));
        }
        let exit = until_end(&sidecar, config, &mut signals).await;
        // The API goes on answering "not leader" while the lease is given back.
        let stopped = within(STOP_TIME, sidecar.stop());
        tokio::select! {
            stopped = stopped => if stopped.is_none() {
                tracing::warn!("the lease could not be given back in time; it will run out");
            },
            number = signals.next() => return Exit::Signal(number),
        }
        let _ = stop_api.send(true);
        // Bounded by the listener's own goodbye.
        let _ = tokio::task::spawn_blocking(move || api.join()).await;
        exit
    }
}

fn start(store: &Arc<dyn Store>, options: &Options) -> Result<(Sidecar, SessionId), Problem> {
    let sidecar = Sidecar::start(Arc::clone(store), options);
    let sidecar = sidecar.map_err(|error| Problem::new(error.to_string()))?;
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
            let store = store.map_err(|error| Problem::new(format!("--backend: {error}")))?;
            Ok(Arc::new(store))
        }
        #[cfg(feature = "redis")]
        Target::Redis(target) => Ok(Arc::new(crate::backend::redis::RedisStore::new(
            target.clone(),
            config.timing.call_timeout(),
            Arc::clone(clock),
        ))),
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

/// The first of what ends a run: a signal, `--wait` in vain, `--once` and done.
async fn until_end(sidecar: &Sidecar, config: &Config, signals: &mut Signals) -> Exit {
    tokio::select! {
        number = signals.next() => {
            tracing::info!(signal = number, "stopping; a second signal aborts");
            Exit::Ok
        }
        exit = leadership(sidecar, config) => exit,
        () = tell_status(sidecar, config) => Exit::Ok,
    }
}

/// Ends where `--wait` or `--once` say so; never, without them.
async fn leadership(sidecar: &Sidecar, config: &Config) -> Exit {
    let Some(election) = sidecar.elections().first() else {
        return Exit::Failure;
    };
    if let Some(limit) = config.wait
        && within(limit, led(election, true)).await.is_none()
    {
        let limit = humantime::format_duration(limit);
        anstream::eprintln!("tenure: leadership was not had within --wait {limit}");
        return Exit::NotLeader;
    }
    if config.once {
        led(election, true).await;
        led(election, false).await;
        return Exit::Ok;
    }
    std::future::pending().await
}

/// Until this node leads, or leads no more.
async fn led(election: &Election, leads: bool) {
    let Ok(mut watch) = election.watch() else {
        return std::future::pending().await;
    };
    while let Some(snapshot) = watch.changed().await {
        if snapshot.is_leader(election.clock().now()) == leads {
            return;
        }
    }
}

async fn tell_status(sidecar: &Sidecar, config: &Config) {
    let Some(every) = config.status_every else {
        return std::future::pending().await;
    };
    let signs = std::io::stdout().is_terminal();
    loop {
        for election in sidecar.elections() {
            print_bytes(status_line(election, signs).as_bytes());
        }
        pause(every).await;
    }
}

fn status_line(election: &Election, signs: bool) -> String {
    let snapshot = election.snapshot();
    let state = snapshot.state();
    let sign = match state {
        _ if !signs => "",
        State::Leader => "\u{1f451} ",
        State::Follower => "\u{1f465} ",
        _ => "\u{23f3} ",
    };
    let name = election.name();
    let detail = match (&snapshot.tenure, &snapshot.leader) {
        (Some(tenure), _) => {
            let left = snapshot.leads_for(election.clock().now()).as_secs_f64();
            format!("epoch {}, {left:.1}s of lease left", tenure.epoch)
        }
        (None, Some(leader)) => {
            let holder = &leader.holder;
            format!("of {}, epoch {}", holder.profile.node, holder.epoch)
        }
        (None, None) => snapshot
            .store
            .trouble
            .clone()
            .unwrap_or_else(|| "no leader known".into()),
    };
    format!("{sign}{name}: {state} {detail}\n")
}

/// SIGTERM and SIGINT, as they come.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}

fn start_logging(logging: Logging) {
    let Some(level) = logging.level else {
        return;
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false);
    // Only an embedding test could have set one before.
    let _ = match logging.format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
}
