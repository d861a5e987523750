//! A TCP proxy between a node and its store or another member, so that `cut` and
//! `partition` need no root. While cut it keeps connections open and passes nothing on; what was held back arrives late
//! when it is healed, as on a real network.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One node's way to the store, or to another member. Dropping it ends its connections.
pub(super) struct Proxy {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback and passes on to `target`.
    pub async fn start(target: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (cut, is_cut) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, is_cut));
        Ok(Self {
            address,
            cut,
            _tasks: tasks,
        })
    }

    pub fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

async fn accept(listener: TcpListener, target: String, is_cut: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(pass(client, target.clone(), is_cut.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(client: TcpStream, target: String, mut is_cut: watch::Receiver<bool>) {
    let _ = is_cut.wait_for(|cut| !cut).await;
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, is_cut.clone()) => {}
        () = copy(from_server, to_client, is_cut) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer).await
        && count > 0
    {
        let healed = is_cut.wait_for(|cut| !cut).await.is_ok();
        if !healed || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
