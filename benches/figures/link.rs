//! A TCP proxy between two members: it can be cut, and it counts what the one who dialled
//! says. While cut it keeps connections open and passes nothing on; what was held back
//! arrives when it is healed.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// One member's way to another one.
pub struct Link {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: Mutex<bool>,
    healed: Condvar,
    said: AtomicU64,
}

impl State {
    fn pass(&self) {
        let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let _healed = self.healed.wait_while(cut, |cut| *cut);
    }
}

impl Link {
    /// Listens on a free port until this process ends.
    pub fn to(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let own = listener.local_addr()?.port();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for dialler in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || connect(dialler, port, &shared));
            }
        });
        Ok(Self { port: own, state })
    }

    pub fn set_cut(&self, cut: bool) {
        *self
            .state
            .cut
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = cut;
        self.state.healed.notify_all();
    }

    /// Bytes that the one who dialled has said so far.
    pub fn said(&self) -> u64 {
        self.state.said.load(Ordering::Relaxed)
    }
}

fn connect(dialler: TcpStream, port: u16, state: &Arc<State>) {
    state.pass();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(dialled) = TcpStream::connect(target) else {
        return;
    };
    let _ = (dialler.set_nodelay(true), dialled.set_nodelay(true));
    let (Ok(from), Ok(to)) = (dialler.try_clone(), dialled.try_clone()) else {
        return;
    };
    let there = Arc::clone(state);
    std::thread::spawn(move || {
        copy(from, to, &there, |bytes| {
            there.said.fetch_add(bytes, Ordering::Relaxed);
        });
    });
    copy(dialled, dialler, state, |_| {});
}

fn copy(mut from: TcpStream, mut to: TcpStream, state: &State, count: impl Fn(u64)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        state.pass();
        count(length as u64);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
