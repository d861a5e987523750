//! A TCP proxy between a sidecar and its store, with faults.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    #[default]
    Pass,
    /// Passed on after a while, in order; milliseconds from, to.
    Slow(u64, u64),
    /// Kept, and passed on late when the way is open again.
    Hold,
    /// Thrown away; a connection that lost bytes never carries any again.
    Drop,
}

/// From the sidecar to its store, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Requests,
    Replies,
}

#[derive(Default)]
struct Rules {
    requests: Way,
    replies: Way,
    /// Every other connection is cut soon after it was made.
    lossy: bool,
    trap: Option<Arc<Trap>>,
    /// Connections on which nothing was said for so long are ended.
    idle: Option<Duration>,
    dropped: u64,
    store: u16,
    connections: Vec<TcpStream>,
    made: u64,
    over: bool,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Rules>,
    changed: Condvar,
}

/// Waits for the first chunk with a needle and keeps it, and what follows it on the
/// same connection and way, until it is let go.
pub struct Trap {
    direction: Direction,
    needle: Vec<u8>,
    state: Mutex<Caught>,
    changed: Condvar,
}

#[derive(Default)]
struct Caught {
    caught: bool,
    free: bool,
    /// What the store answered to a request that was let go.
    reply: Vec<u8>,
}

impl Trap {
    pub fn wait_caught(&self, bound: Duration) {
        drop(self.wait("a catch", bound, |state| state.caught));
    }

    pub fn let_go(&self) {
        self.state.lock().unwrap().free = true;
        self.changed.notify_all();
    }

    /// What the store said to the request that was held, once `word` is in it. Other
    /// requests may have been held with it.
    pub fn reply(&self, word: &str, bound: Duration) -> String {
        let text = |state: &Caught| String::from_utf8_lossy(&state.reply).into_owned();
        let state = self.wait(word, bound, |state| text(state).contains(word));
        text(&state)
    }

    fn wait(
        &self,
        what: &str,
        bound: Duration,
        done: impl Fn(&Caught) -> bool,
    ) -> MutexGuard<'_, Caught> {
        let state = self.state.lock().unwrap();
        let waiting = |state: &mut Caught| !done(state);
        let (state, waited) = self
            .changed
            .wait_timeout_while(state, bound, waiting)
            .unwrap();
        if waited.timed_out() {
            let needle = String::from_utf8_lossy(&self.needle).into_owned();
            let reply = String::from_utf8_lossy(&state.reply).into_owned();
            drop(state);
            panic!("{what:?} not within {bound:?} by the trap {needle:?}; replies: {reply:?}");
        }
        state
    }
}

pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Proxy {
    pub fn start(store: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.rules.lock().unwrap().store = store;
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.rules.lock().unwrap().over {
                    return;
                }
                accepting.carry(client);
            }
        });
        Self { shared, address }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn set(&self, requests: Way, replies: Way) {
        self.change(|rules| {
            rules.requests = requests;
            rules.replies = replies;
        });
    }

    /// Everything passes; what was held arrives late.
    pub fn heal(&self) {
        self.change(|rules| {
            rules.requests = Way::Pass;
            rules.replies = Way::Pass;
            rules.lossy = false;
        });
    }

    pub fn lossy(&self) {
        self.change(|rules| rules.lossy = true);
        self.cut();
    }

    /// Ends connections on which nothing was said for so long, from the next one on.
    pub fn drop_idle(&self, idle: Duration) {
        self.change(|rules| rules.idle = Some(idle));
    }

    /// How many connections were ended for that.
    pub fn dropped(&self) -> u64 {
        self.shared.rules.lock().unwrap().dropped
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.change(|rules| {
            for connection in rules.connections.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
    }

    /// From now on to another store.
    pub fn lead_to(&self, store: u16) {
        self.change(|rules| rules.store = store);
        self.cut();
    }

    pub fn trap(&self, direction: Direction, needle: &str) -> Arc<Trap> {
        let trap = Arc::new(Trap {
            direction,
            needle: needle.as_bytes().to_vec(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        self.change(|rules| rules.trap = Some(Arc::clone(&trap)));
        trap
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.rules.lock().unwrap());
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|rules| {
            rules.over = true;
            if let Some(trap) = &rules.trap {
                trap.let_go();
            }
        });
        self.heal();
        self.cut();
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn carry(self: &Arc<Self>, client: TcpStream) {
        let mut rules = self.rules.lock().unwrap();
        let Ok(store) = TcpStream::connect(("127.0.0.1", rules.store)) else {
            return;
        };
        let _ = (client.set_nodelay(true), store.set_nodelay(true));
        rules.made += 1;
        let doomed = (rules.lossy && rules.made.is_multiple_of(2))
            .then(|| Instant::now() + Duration::from_millis(rules.made * 37 % 300));
        rules.connections.push(client.try_clone().unwrap());
        let idle = rules.idle;
        drop(rules);
        if let Some(at) = doomed {
            let client = client.try_clone().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                let _ = client.shutdown(Shutdown::Both);
            });
        }
        let pair = Arc::new(Pair::default());
        if let Some(idle) = idle {
            let (shared, pair) = (Arc::clone(self), Arc::clone(&pair));
            let client = client.try_clone().unwrap();
            std::thread::spawn(move || shared.end_when_idle(idle, &client, &pair));
        }
        let ways = [
            (Direction::Requests, &client, &store),
            (Direction::Replies, &store, &client),
        ];
        for (direction, from, to) in ways {
            let (shared, pair) = (Arc::clone(self), Arc::clone(&pair));
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || shared.copy(direction, from, to, &pair));
        }
    }

    fn copy(&self, direction: Direction, mut from: TcpStream, mut to: TcpStream, pair: &Pair) {
        let mut buffer = vec![0; 64 * 1024];
        let mut poisoned = false;
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let chunk = &buffer[..count];
            *pair.said.lock().unwrap() = Some(Instant::now());
            if direction == Direction::Replies {
                pair.note_reply(chunk);
            }
            self.hold_if_trapped(direction, chunk, pair);
            poisoned |= self.wait_for_way(direction) == Way::Drop;
            if !poisoned && to.write_all(chunk).is_err() && direction == Direction::Requests {
                break;
            }
        }
        pair.over.store(true, std::sync::atomic::Ordering::Relaxed);
        let _ = to.shutdown(Shutdown::Write);
    }

    fn end_when_idle(&self, idle: Duration, client: &TcpStream, pair: &Pair) {
        loop {
            let said = pair.said.lock().unwrap().unwrap_or_else(Instant::now);
            *pair.said.lock().unwrap() = Some(said);
            let quiet = said.elapsed();
            if quiet >= idle {
                break;
            }
            std::thread::sleep(idle - quiet);
            if pair.over.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
        }
        self.rules.lock().unwrap().dropped += 1;
        let _ = client.shutdown(Shutdown::Both);
    }

    fn hold_if_trapped(&self, direction: Direction, chunk: &[u8], pair: &Pair) {
        let mut rules = self.rules.lock().unwrap();
        let catches = |trap: &Arc<Trap>| {
            let within = |needle: &[u8]| chunk.windows(needle.len()).any(|part| part == needle);
            trap.direction == direction && within(&trap.needle)
        };
        let Some(trap) = rules.trap.take_if(|trap| catches(trap)) else {
            return;
        };
        drop(rules);
        let mut state = trap.state.lock().unwrap();
        state.caught = true;
        trap.changed.notify_all();
        while !state.free {
            state = trap.changed.wait(state).unwrap();
        }
        drop(state);
        if direction == Direction::Requests {
            *pair.awaited_by.lock().unwrap() = Some(trap);
        }
    }

    fn wait_for_way(&self, direction: Direction) -> Way {
        let way = |rules: &Rules| match direction {
            Direction::Requests => rules.requests,
            Direction::Replies => rules.replies,
        };
        let rules = self.rules.lock().unwrap();
        let held = |rules: &mut Rules| way(rules) == Way::Hold;
        let rules = self.changed.wait_while(rules, held).unwrap();
        let way = way(&rules);
        drop(rules);
        if let Way::Slow(from, to) = way {
            std::thread::sleep(Duration::from_millis(fastrand::u64(from..=to)));
        }
        way
    }
}

/// What the two ways of a connection share.
#[derive(Default)]
struct Pair {
    awaited_by: Mutex<Option<Arc<Trap>>>,
    /// When something was last said, in either way.
    said: Mutex<Option<Instant>>,
    over: std::sync::atomic::AtomicBool,
}

impl Pair {
    fn note_reply(&self, chunk: &[u8]) {
        if let Some(trap) = &*self.awaited_by.lock().unwrap() {
            let mut state = trap.state.lock().unwrap();
            state.reply.extend_from_slice(chunk);
            trap.changed.notify_all();
        }
    }
}
