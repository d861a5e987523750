//! A simulated network and its time, for what runs on `tenure::peers`.
//!
//! Self-contained: include it with `#[path = "support/sim_network.rs"] mod sim_network;`.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::peers::sockets::{Listener, Network, Stream};
use tenure::time::{Clock, Moment, UnixMs, within};
use turmoil::Sim;

/// The longest that a packet is under way.
pub const LATENCY: Duration = Duration::from_millis(20);

/// Follows the time of the simulation, as timers there do.
#[derive(Debug)]
pub struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Moment {
        Moment::default() + turmoil::sim_elapsed().unwrap()
    }

    fn wall(&self) -> UnixMs {
        UnixMs(0).after(turmoil::sim_elapsed().unwrap())
    }
}

/// The simulated network. It refuses a connection whose first packet is lost; a true one
/// says nothing, and refuses only for a host whose process is gone.
#[derive(Clone, Debug, Default)]
pub struct SimTcp {
    down: Arc<Mutex<BTreeSet<String>>>,
}

#[async_trait::async_trait]
impl Network for SimTcp {
    async fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(SimListener(
            turmoil::net::TcpListener::bind(at).await?,
        )))
    }

    async fn connect(&self, host: &str, port: u16, limit: Duration) -> io::Result<Box<dyn Stream>> {
        if self.down.lock().unwrap().contains(host) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let connected = async {
            match turmoil::net::TcpStream::connect((host, port)).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                Err(_) => std::future::pending().await,
            }
        };
        let connected = within(limit, connected).await;
        connected.ok_or(io::ErrorKind::TimedOut)?
    }
}

struct SimListener(turmoil::net::TcpListener);

#[async_trait::async_trait]
impl Listener for SimListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, place) = self.0.accept().await?;
        Ok((Box::new(stream), place))
    }
}

impl SimTcp {
    /// The process of this host is gone, and its port refuses.
    pub fn goes(&self, host: &str) {
        self.down.lock().unwrap().insert(host.to_owned());
    }

    /// It is back.
    pub fn comes(&self, host: &str) {
        self.down.lock().unwrap().remove(host);
    }

    /// Its process is killed.
    pub fn crash(&self, sim: &mut Sim<'_>, host: &str) {
        self.goes(host);
        sim.crash(host);
    }

    /// It is started again.
    pub fn bounce(&self, sim: &mut Sim<'_>, host: &str) {
        sim.bounce(host);
        self.comes(host);
    }
}

/// A simulation whose time goes on by `tick`.
pub fn simulation(seed: u64, tick: Duration) -> Sim<'static> {
    // The pauses between two attempts are drawn on this thread.
    fastrand::seed(seed);
    turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(tick)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY)
        .tcp_capacity(1024)
        .repair_rate(0.2)
        .enable_random_order()
        .build()
}

/// Plays so many seeds, or what `TENURE_SIM_SEED` and `TENURE_SIM_RUNS` ask for; says how to
/// play again what goes wrong.
pub fn play(runs: u64, command: &str, one_history: impl Fn(u64)) {
    let from_env = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = match from_env("TENURE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("TENURE_SIM_RUNS").unwrap_or(runs),
    };
    for seed in seeds {
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| one_history(seed))) {
            eprintln!("replay: TENURE_SIM_SEED={seed} {command}");
            resume_unwind(cause);
        }
    }
}
