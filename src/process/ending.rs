//! What ends a sidecar, and how it ends.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::Output;
use crate::child::Running;
use crate::config::{Config, LogFormat};
use crate::exit::Exit;
use crate::machine::{EventKind, Reason};
use crate::sidecar::{Election, Sidecar};
use crate::time::within;

/// SIGTERM is answered with exit 0 within the drain and this.
const STOP_TIME: Duration = Duration::from_secs(10);
/// What an abort waits for the app to die of SIGKILL; the guard goes on with it.
const ABORT_TIME: Duration = Duration::from_secs(2);

/// Stops in order: not leader, app gone, lease given back.
///
/// # Errors
/// How the process ends where another signal cut this short. The app is killed first.
pub async fn stop(
    sidecar: Sidecar,
    config: &Config,
    app: Option<Running>,
    signals: &mut Signals,
) -> Result<(), Exit> {
    let drain = if config.drains() {
        config.drain_timeout
    } else {
        Duration::ZERO
    };
    let led = sidecar.elections().iter().filter(|each| each.is_leader());
    let led: Vec<Election> = led.cloned().collect();
    let stopped = within(drain.saturating_add(STOP_TIME), async {
        sidecar.stop().await;
        if let Some(app) = &app {
            app.exit().await;
        }
    });
    tokio::select! {
        stopped = stopped => match stopped {
            Some(()) => tell_handovers(&led, config),
            None => tracing::warn!("the lease could not be given back in time; it will run out"),
        },
        number = signals.next() => {
            if let Some(app) = &app {
                within(ABORT_TIME, app.abort()).await;
            }
            return Err(Exit::Signal(number));
        }
    }
    Ok(())
}

/// For whoever tries a failover out: how this end differs from a crash.
fn tell_handovers(led: &[Election], config: &Config) {
    let ttl = humantime::format_duration(config.timing.ttl());
    for election in led {
        let history = election.history();
        let end = history.iter().find(|entry| entry.event == EventKind::Lost);
        if end.is_some_and(|entry| entry.reason == Reason::Released) {
            tracing::info!(
                election = %election.name(),
                "handed over: another node can lead at once; after a crash (docker kill, \
                 SIGKILL) the others would wait for the lease's end, up to {ttl}"
            );
        }
    }
}

/// The first of what ends a run: a signal, `--wait` in vain, `--once` and done.
pub async fn until_end(
    sidecar: &Sidecar,
    config: &Config,
    output: &Output,
    app: Option<&Running>,
    signals: &mut Signals,
) -> Exit {
    let app_ends = async {
        match app {
            Some(app) => app.exit().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        number = signals.next() => {
            tracing::info!(signal = number, "stopping; a second signal aborts");
            Exit::Ok
        }
        exit = app_ends => exit,
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
    // With an app, its end is awaited.
    if config.once && config.app.is_none() {
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

/// SIGTERM and SIGINT, as they come: also where a shell that started this with `&` had SIGINT
/// ignored, for both are how a sidecar is stopped.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}
