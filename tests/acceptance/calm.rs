//! Whether the machine was fit to judge by: members must acknowledge each frame within
//! 300 ms, and on a machine that is too busy to carry a byte to and fro in that time they
//! lose their lease, and are right to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(300);
const BETWEEN_ECHOES: Duration = Duration::from_millis(20);

/// Sends a byte to and fro until it is dropped.
pub struct Calm {
    longest: Arc<Mutex<Duration>>,
    over: Arc<AtomicBool>,
}

impl Calm {
    pub fn begin() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            let mut byte = [0];
            while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
        });
        let calm = Self {
            longest: Arc::default(),
            over: Arc::default(),
        };
        let (longest, over) = (Arc::clone(&calm.longest), Arc::clone(&calm.over));
        std::thread::spawn(move || {
            let mut byte = [0];
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(BETWEEN_ECHOES);
                near.write_all(&byte).unwrap();
                near.read_exact(&mut byte).unwrap();
                let took = begun.elapsed().saturating_sub(BETWEEN_ECHOES);
                let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = longest.max(took);
            }
        });
        calm
    }

    /// The longest that a byte was under way, where that was too long.
    pub fn broken(&self) -> Option<Duration> {
        let longest = *self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        (longest > ACKNOWLEDGED_WITHIN).then_some(longest)
    }
}

impl Drop for Calm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
