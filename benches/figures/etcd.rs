//! etcd servers of the figures' own, and a client for the one call that is the floor.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hyper::http::uri::PathAndQuery;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::fleet::scratch;

const START_TIME: Duration = Duration::from_secs(30);

/// One server or three, each on a directory of the disk that the build is on, syncing
/// as etcd does by default. Dropping it kills them.
pub struct Servers {
    members: Vec<Child>,
    pub ports: Vec<u16>,
    _directory: TempDir,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

impl Servers {
    pub fn start(count: usize) -> anyhow::Result<Self> {
        // Between finding a free port and binding it somebody else may take it.
        for _ in 0..5 {
            if let Some(servers) = Self::try_start(count)? {
                return Ok(servers);
            }
        }
        bail!("etcd does not start; is it installed?")
    }

    fn try_start(count: usize) -> anyhow::Result<Option<Self>> {
        let directory = scratch()?;
        let bound: Vec<TcpListener> = (0..count * 2)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()?;
        let ports: Vec<u16> = bound
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<anyhow::Result<_>>()?;
        drop(bound);
        let (clients, peers) = ports.split_at(count);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(at, port)| format!("m{at}={}", url(port)))
            .collect();
        let mut servers = Self {
            members: Vec::new(),
            ports: clients.to_vec(),
            _directory: directory,
        };
        for (at, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let child = Command::new(program())
                .args(["--name", &format!("m{at}"), "--data-dir"])
                .arg(servers._directory.path().join(format!("m{at}")))
                .args(["--listen-client-urls", &url(client)])
                .args(["--advertise-client-urls", &url(client)])
                .args(["--listen-peer-urls", &url(peer)])
                .args(["--initial-advertise-peer-urls", &url(peer)])
                .args(["--initial-cluster", &cluster.join(",")])
                .args(["--log-level", "error"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("cannot run etcd")?;
            servers.members.push(child);
        }
        let until = Instant::now() + START_TIME;
        while Instant::now() < until {
            if servers
                .members
                .iter_mut()
                .any(|it| !matches!(it.try_wait(), Ok(None)))
            {
                return Ok(None);
            }
            let ready = |port: &u16| {
                TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok()
                    && Putter::to(*port)
                        .and_then(|mut putter| putter.put())
                        .is_ok()
            };
            if servers.ports.iter().all(ready) {
                return Ok(Some(servers));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(None)
    }

    pub fn url(&self) -> String {
        let places: Vec<_> = self
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        format!("etcd://{}", places.join(","))
    }

    pub fn putter(&self) -> anyhow::Result<Putter> {
        Putter::to(*self.ports.first().context("no server")?)
    }
}

/// The one that the tests bring, else the one that is installed.
fn program() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/etcd-3.5/etcd");
    if beside.exists() {
        beside
    } else {
        "etcd".into()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct PutResponse {}

/// Puts one key over one connection.
pub struct Putter {
    runtime: tokio::runtime::Runtime,
    grpc: tonic::client::Grpc<Channel>,
}

impl Putter {
    fn to(port: u16) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?
            .timeout(Duration::from_secs(5));
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Ok(Self {
            runtime,
            grpc: tonic::client::Grpc::new(channel),
        })
    }

    pub fn put(&mut self) -> anyhow::Result<()> {
        let grpc = &mut self.grpc;
        self.runtime.block_on(async move {
            grpc.ready().await?;
            let request = tonic::Request::new(PutRequest {
                key: b"floor".to_vec(),
                value: vec![b'x'; 256],
            });
            let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
            let codec = tonic_prost::ProstCodec::<PutRequest, PutResponse>::default();
            grpc.unary(request, path, codec).await?;
            anyhow::Ok(())
        })
    }
}
