//! The stores that figures run on, with the floor that each sets by itself.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tempfile::TempDir;

use crate::etcd::{Putter, Servers};
use crate::fleet::scratch;
use crate::redis::{Client, Server};
use crate::table::Sample;

/// A store of the figures' own. Dropping it ends it.
pub enum Store {
    Redis(Server),
    File(TempDir),
    Etcd(Servers),
}

impl Store {
    pub fn redis() -> anyhow::Result<Self> {
        Server::start().map(Self::Redis)
    }

    pub fn file() -> anyhow::Result<Self> {
        scratch().map(Self::File)
    }

    /// One server, or a cluster of so many.
    pub fn etcd(members: usize) -> anyhow::Result<Self> {
        Servers::start(members).map(Self::Etcd)
    }

    pub fn each() -> anyhow::Result<[Self; 3]> {
        Ok([Self::redis()?, Self::file()?, Self::etcd(1)?])
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::File(_) => "file",
            Self::Etcd(servers) if servers.ports.len() > 1 => "etcd x3",
            Self::Etcd(_) => "etcd",
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Redis(server) => server.url(),
            Self::File(directory) => format!("file://{}", directory.path().display()),
            Self::Etcd(servers) => servers.url(),
        }
    }

    /// When the lease that stands in the store now ends, unless it is renewed. etcd tells
    /// that to nobody; there it is counted from the last renewal that its holder told of.
    pub fn lease_end(
        &self,
        election: &str,
        holder: &Value,
        ttl: Duration,
    ) -> anyhow::Result<Instant> {
        let (ends_ms, now) = match self {
            Self::Etcd(_) => {
                let renewed = holder["lease"]["renewed_at"].as_str();
                let renewed: jiff::Timestamp = renewed.context("never renewed")?.parse()?;
                let ends = renewed.as_millisecond() as f64 + ttl.as_secs_f64() * 1000.0;
                (ends, SystemTime::now().duration_since(UNIX_EPOCH)?)
            }
            Self::Redis(server) => {
                let key = format!("tenure:{{{election}}}:leader");
                let ends = server.client()?.ask(&["PEXPIRETIME", &key])?;
                (ends.parse()?, SystemTime::now().duration_since(UNIX_EPOCH)?)
            }
            Self::File(directory) => {
                let path = directory.path().join(format!("{election}.json"));
                let record: Value = serde_json::from_slice(&std::fs::read(path)?)?;
                let ends = record["lease_ends_boottime_ms"].as_f64();
                let now = clock_gettime(ClockId::Boottime);
                let now = Duration::new(now.tv_sec.try_into()?, now.tv_nsec.try_into()?);
                (ends.context("nobody holds the lease")?, now)
            }
        };
        let left = ends_ms / 1000.0 - now.as_secs_f64();
        Ok(Instant::now() + Duration::from_secs_f64(left.max(0.0)))
    }

    /// What to compare a handover with.
    pub fn probe(&self) -> anyhow::Result<Probe<'_>> {
        Ok(match self {
            Self::Redis(server) => Probe::Ping(server.client()?),
            Self::File(directory) => Probe::Sync(directory),
            Self::Etcd(servers) => Probe::Put(servers.putter()?),
        })
    }
}

/// Measures a store's floor.
pub enum Probe<'a> {
    /// One round trip on one persistent connection.
    Ping(Client),
    /// A new file written and fsynced, and its folder fsynced.
    Sync(&'a TempDir),
    /// One put over one persistent connection.
    Put(Putter),
}

impl Probe<'_> {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping(_) => "PING",
            Self::Sync(_) => "fsync",
            Self::Put(_) => "put",
        }
    }

    /// Milliseconds.
    pub fn measure(&mut self, into: &mut Sample) -> anyhow::Result<()> {
        let began = Instant::now();
        match self {
            Self::Ping(client) => drop(client.ask(&["PING"])?),
            Self::Put(putter) => putter.put()?,
            Self::Sync(directory) => {
                let folder = directory.path().join("floor");
                std::fs::create_dir_all(&folder)?;
                let path = folder.join("file");
                let mut file = File::create(&path)?;
                file.write_all(&[b'x'; 1024])?;
                file.sync_all()?;
                File::open(&folder)?.sync_all()?;
                into.add(began.elapsed());
                std::fs::remove_file(path)?;
                return Ok(());
            }
        }
        into.add(began.elapsed());
        Ok(())
    }
}
