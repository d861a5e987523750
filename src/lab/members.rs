//! The members of a cluster without a store: where each one listens, what it keeps, and
//! the links between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::net::TcpSocket;

use super::fleet::name;
use super::proxy::Proxy;

/// A cluster on the loopback.
pub(super) struct Members {
    seats: Vec<Seat>,
    /// From whom to whom. None where nothing is to be cut: the members then go straight.
    links: BTreeMap<(usize, usize), Proxy>,
    home: PathBuf,
}

/// Where one member listens, also after a restart.
struct Seat {
    address: SocketAddr,
    /// Bound, and never listened on: nobody else is given the port while its member is
    /// down, and the member itself may bind it.
    _reserved: TcpSocket,
}

impl Seat {
    fn reserve() -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        let _reserved = socket;
        Ok(Self { address, _reserved })
    }
}

impl Members {
    /// Seats for `count` members that keep what they must in `home`.
    pub async fn seated(count: usize, home: &Path, to_be_cut: bool) -> std::io::Result<Self> {
        let seats: Vec<Seat> = (0..count)
            .map(|_| Seat::reserve())
            .collect::<Result<_, _>>()?;
        let mut links = BTreeMap::new();
        for from in (0..count).filter(|_| to_be_cut) {
            for (to, seat) in seats.iter().enumerate().filter(|(to, _)| *to != from) {
                let link = Proxy::start(seat.address.to_string()).await?;
                links.insert((from, to), link);
            }
        }
        let home = home.to_owned();
        Ok(Self { seats, links, home })
    }

    /// What tells a node which member it is and where the others are.
    pub fn flags(&self, number: usize) -> Vec<String> {
        let address = |(to, seat): (usize, &Seat)| {
            let link = self.links.get(&(number, to));
            let address = link.map_or(seat.address, |link| link.address);
            format!("{}={address}", name(to))
        };
        let all: Vec<String> = self.seats.iter().enumerate().map(address).collect();
        let state_dir = self.home.join(name(number));
        let mut flags = vec![
            "--node".to_owned(),
            name(number),
            "--peer".to_owned(),
            all.join(","),
            "--state-dir".to_owned(),
            state_dir.display().to_string(),
        ];
        // The word of an operator who starts a cluster for the first time.
        if !state_dir.exists() {
            flags.push("--bootstrap".to_owned());
        }
        flags
    }

    /// Lets nothing pass any more between the members of `side` and the others, in either
    /// direction, or everything again.
    pub fn set_cut(&self, side: &[usize], cut: bool) {
        for ((from, to), link) in &self.links {
            if side.contains(from) != side.contains(to) {
                link.set_cut(cut);
            }
        }
    }
}
