//! Asks every node all the time whether it leads, and judges by what is certain.
//!
//! A yes proves more than a moment: the node leads from when the answer was there until the
//! remaining time that it told, counted from before it was asked. Such spans of two nodes
//! must not meet, however busy the machine is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Reply, Wire};
use crate::process::BOUND;

const BETWEEN_QUESTIONS: Duration = Duration::from_millis(50);

/// What no busy machine excuses begins with it.
pub const UNSAFE: &str = "unsafe";

/// One epoch, as far as it was seen.
#[derive(Clone, Debug)]
struct Tenure {
    node: usize,
    from: Instant,
    until: Instant,
}

#[derive(Default)]
struct Seen {
    tenures: BTreeMap<u64, Tenure>,
    wrong: Vec<String>,
}

/// Ends with the test.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Of the nodes whose APIs are, or come to be, on these sockets.
    pub fn of(sockets: Vec<PathBuf>) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let over = Arc::<AtomicBool>::default();
        let watch = |(node, socket): (usize, PathBuf)| {
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    if let Some(reply) = ask(&socket) {
                        lock(&seen).take(node, asked, &reply);
                    }
                    std::thread::sleep(BETWEEN_QUESTIONS);
                }
            })
        };
        let threads = sockets.into_iter().enumerate().map(watch).collect();
        Self {
            seen,
            over,
            threads,
        }
    }

    /// Two led at once, or an epoch did not rise: the test fails, on any machine.
    #[track_caller]
    pub fn judge(&self) {
        let wrong = lock(&self.seen).all_wrong();
        assert!(wrong.is_empty(), "{UNSAFE}: {wrong:#?}");
    }

    /// Waits for somebody to lead under an epoch above this one: who, its epoch, and how
    /// long after `since` it said so.
    #[track_caller]
    pub fn next(&self, above: u64, since: Instant) -> (usize, u64, Duration) {
        let end = Instant::now() + 2 * BOUND;
        loop {
            self.judge();
            let found = lock(&self.seen).above(above);
            if let Some((epoch, tenure)) = found {
                return (tenure.node, epoch, tenure.from.duration_since(since));
            }
            assert!(Instant::now() < end, "nobody leads above {above}");
            std::thread::sleep(BETWEEN_QUESTIONS);
        }
    }

    /// The newest epoch and who had it.
    pub fn newest(&self) -> Option<(usize, u64)> {
        let seen = lock(&self.seen);
        let newest = seen.tenures.last_key_value();
        newest.map(|(epoch, tenure)| (tenure.node, *epoch))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing where the node is down. One that is stopped answers when it goes on.
fn ask(socket: &std::path::Path) -> Option<Reply> {
    let mut wire = Wire::to_unix(socket).ok()?;
    wire.send(b"GET /leader HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    wire.reply(false)
}

fn number(reply: &Reply, header: &str) -> Option<u64> {
    reply.header(header).map(|value| value.parse().unwrap())
}

impl Seen {
    fn take(&mut self, node: usize, asked: Instant, reply: &Reply) {
        let answered = Instant::now();
        let epoch = number(reply, "tenure-epoch");
        if reply.status != 200 {
            return;
        }
        let left = number(reply, "tenure-lease-remaining-ms");
        let (Some(epoch), Some(left)) = (epoch, left) else {
            self.wrong
                .push(format!("n{node} leads, and says: {reply:?}"));
            return;
        };
        let until = asked + Duration::from_millis(left);
        let tenure = self.tenures.entry(epoch).or_insert(Tenure {
            node,
            from: answered,
            until,
        });
        if tenure.node != node {
            let other = tenure.node;
            self.wrong
                .push(format!("n{other} and n{node} both led under epoch {epoch}"));
        }
        tenure.from = tenure.from.min(answered);
        tenure.until = tenure.until.max(until);
    }

    fn above(&self, epoch: u64) -> Option<(u64, Tenure)> {
        let mut above = self.tenures.range(epoch + 1..);
        above.next().map(|(epoch, tenure)| (*epoch, tenure.clone()))
    }

    fn all_wrong(&self) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        let tenures = self.tenures.iter();
        for ((epoch, first), (next, second)) in tenures.clone().zip(tenures.skip(1)) {
            // A node may go on under a new epoch of its own.
            let free_at = if second.node == first.node {
                first.from
            } else {
                first.until
            };
            if second.from < free_at {
                wrong.push(format!(
                    "n{} led under epoch {next} while the lease of n{} under {epoch} stood for \
                     another {:?}",
                    second.node,
                    first.node,
                    free_at - second.from
                ));
            }
        }
        wrong
    }
}
