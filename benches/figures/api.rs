//! How fast the API answers one client, for information.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::effort::Effort;
use crate::fleet::{Fleet, Setup};
use crate::http::Connection;
use crate::store::Store;
use crate::table::{Row, Sample};

pub fn api(effort: Effort) -> anyhow::Result<()> {
    let window = effort.span(Duration::from_secs(3));
    let store = Store::redis()?;
    let setup = Setup {
        election: "api",
        nodes: 1,
        ttl: Duration::from_secs(3),
        watched: true,
    };
    let mut fleet = Fleet::start(&store, setup)?;
    let leader = fleet.settled()?;
    let floor = echo(window)?.median();
    for path in ["/leader", "/status"] {
        let mut connection = Connection::open(fleet.nodes[leader.node].port)?;
        let mut took = Sample::default();
        let began = Instant::now();
        while began.elapsed() < window {
            let sent = Instant::now();
            let answer = connection.get(path)?;
            ensure!(answer.status == 200, "{path} answered {}", answer.status);
            took.push((answer.received - sent).as_secs_f64() * 1e6);
        }
        Row {
            what: &format!("GET {path}, one connection"),
            store: "redis",
            unit: "us",
            sample: &took,
            floor: Some(("TCP echo", floor)),
            target: None,
        }
        .print();
        let per_second = 1e6 / took.median();
        println!(
            "    p99 {:.0} us, {per_second:.0} requests/s at the median",
            took.quantile(0.99)
        );
    }
    Ok(())
}

/// Round trips of one byte between two threads, in microseconds.
fn echo(window: Duration) -> anyhow::Result<Sample> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echoing = std::thread::spawn(move || {
        let mut byte = [0];
        while server.read_exact(&mut byte).is_ok() && server.write_all(&byte).is_ok() {}
    });
    let mut took = Sample::default();
    let began = Instant::now();
    let mut byte = [0];
    while began.elapsed() < window {
        let sent = Instant::now();
        client.write_all(&byte)?;
        client.read_exact(&mut byte)?;
        took.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    drop(client);
    let _ = echoing.join();
    Ok(took)
}
