//! One sidecar process: the elections on one thread, the API on another.
//!
//! The threads are apart so that no number of HTTP clients can delay a renewal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

mod address;
mod banner;
mod output;
mod serving;
mod socket;
mod telling;

pub use banner::effective;

use address::Addresses;
use banner::Banner;
use output::Output;
use serving::Serving;
use telling::tell_status;

use crate::api::{Admission, Shared};
use crate::backend::Store;
use crate::bearer::TokenFile;
use crate::config::{Config, LogFormat, Problem, Target};
use crate::exit::{Exit, refuse};
use crate::lease::{Profile, SessionId};
use crate::memory::{Memory, MemoryError, StateDir};
use crate::sidecar::{Election, Options, Sidecar, StartError};
use crate::time::{BootClock, Clock, within};

/// SIGTERM is answered with exit 0 within the drain and this.
const STOP_TIME: Duration = Duration::from_secs(10);

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
    addresses: Addresses,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tokens: Option<Arc<TokenFile>>,
}

impl Prepared {
    /// Every problem that this machine has with the configuration, together.
    fn new(config: &Config) -> Result<Self, Vec<Problem>> {
        let clock: Arc<dyn Clock> = Arc::new(BootClock);
        match (
            Addresses::bind(config),
            open(config, &clock),
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
    async fn run(self, config: &Config, companion: Option<Companion>, output: &Output) -> Exit {
        let Self {
            addresses,
            store,
            clock,
            tokens,
        } = self;
        let Addresses { api, probes, id } = addresses;
        let options = Options {
            elections: config.elections.clone(),
            profile: Profile {
                node: id.clone(),
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
        output.out.say(banner.text().into_bytes());
        let admission = Admission {
            allow_hosts: config.listeners.allow_hosts.clone(),
            tokens: tokens.clone(),
        };
        let shared = Shared::new(&sidecar, boot_id, admission);
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
        if let Some(companion) = companion {
            let url = api.url;
            std::thread::spawn(move || companion(url));
        }
        let exit = tokio::select! {
            exit = until_end(&sidecar, config, output, &mut signals) => exit,
            () = tell_status(&shared, config, output) => Exit::Ok,
        };
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
        let _ = tokio::task::spawn_blocking(move || served.join()).await;
        exit
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
        #[cfg(feature = "redis")]
        Target::Redis(target) => {
            let options = crate::backend::redis::RedisOptions {
                target: target.clone(),
                credentials: config.credentials.clone(),
                call_timeout: config.timing.call_timeout(),
            };
            let store = crate::backend::redis::RedisStore::open(options, Arc::clone(clock));
            Ok(Arc::new(
                store.map_err(|error| Problem::new(error.to_string()))?,
            ))
        }
    }
}

/// The first of what ends a run: a signal, `--wait` in vain, `--once` and done.
async fn until_end(
    sidecar: &Sidecar,
    config: &Config,
    output: &Output,
    signals: &mut Signals,
) -> Exit {
    tokio::select! {
        number = signals.next() => {
            tracing::info!(signal = number, "stopping; a second signal aborts");
            Exit::Ok
        }
        exit = leadership(sidecar, config, output) => exit,
    }
}

/// Ends where `--wait` or `--once` say so; never, without them.
async fn leadership(sidecar: &Sidecar, config: &Config, output: &Output) -> Exit {
    let Some(election) = sidecar.elections().first() else {
        return Exit::Failure;
    };
    if let Some(limit) = config.wait
        && within(limit, led(election, true)).await.is_none()
    {
        let limit = humantime::format_duration(limit);
        if config.logging.format == LogFormat::Json {
            tracing::error!("leadership was not had within --wait {limit}");
        } else {
            let text = format!("tenure: leadership was not had within --wait {limit}\n");
            output.err.say(text.into_bytes());
        }
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
