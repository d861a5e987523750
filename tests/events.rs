//! The events of an election under an election loop that is late: told on time, in
//! order, and never contradicted afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenure::backend::memory::MemoryStore;
use tenure::lease::{Profile, Timing};
use tenure::machine::EventKind;
use tenure::sidecar::{Election, Entry, Options, Sidecar};
use tenure::time::BootClock;
use tokio::sync::mpsc;

const BOUND: Duration = Duration::from_secs(20);

/// A sidecar whose loop has a thread of its own, which can be held up.
struct Apart {
    election: Election,
    hold_up: Option<mpsc::UnboundedSender<Duration>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Apart {
    fn start(ttl: Duration) -> Self {
        let (send, mut holds) = mpsc::unbounded_channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let store = MemoryStore::new(Arc::new(BootClock));
                let profile = Profile {
                    node: "late".parse().unwrap(),
                    url: None,
                    metadata: Vec::new(),
                };
                let timing = Timing::of_ttl(ttl).unwrap();
                let options = Options::new("orders".parse().unwrap(), profile, timing);
                let sidecar = Sidecar::start(Arc::new(store), &options).unwrap();
                tell.send(sidecar.elections()[0].clone()).unwrap();
                while let Some(span) = holds.recv().await {
                    // On purpose: this is the loop's own thread.
                    std::thread::sleep(span);
                }
                sidecar.stop().await;
            });
        });
        Self {
            election: told.recv_timeout(BOUND).unwrap(),
            hold_up: Some(send),
            thread: Some(thread),
        }
    }

    fn hold_up(&self, span: Duration) {
        self.hold_up.as_ref().unwrap().send(span).unwrap();
    }

    fn stop(&mut self) {
        self.hold_up = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn until(events: &mut tenure::sidecar::Events, kind: EventKind) -> Entry {
    let found = async {
        loop {
            let event = events.next().await.unwrap();
            if event.event == kind {
                return event;
            }
        }
    };
    tokio::time::timeout(BOUND, found).await.unwrap()
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_while_the_loop_is_held_up() {
    let mut apart = Apart::start(Duration::from_secs(1));
    let mut events = apart.election.events(0).unwrap();
    let acquired = until(&mut events, EventKind::Acquired).await;
    assert!(acquired.after.is_leader(acquired.moment));
    let held = Instant::now();
    apart.hold_up(Duration::from_secs(4));
    let lost = until(&mut events, EventKind::Lost).await;
    let waited = held.elapsed();
    assert!(
        waited < Duration::from_secs(3),
        "told by the loop: {waited:?}"
    );
    assert!(!lost.after.is_leader(lost.moment));
    assert!(lost.moment > acquired.moment);
    // Written down already, by the reader, and not once more by the loop.
    assert_eq!(apart.election.history()[0], lost);
    let again = until(&mut events, EventKind::Acquired).await;
    assert!(again.epoch > acquired.epoch);
    let history = apart.election.history();
    let at = |revision| history.iter().find(|entry| entry.revision == revision);
    assert_eq!(at(lost.revision), Some(&lost));
    apart.stop();
}

#[tokio::test]
async fn whoever_looks_first_no_revision_is_told_twice() {
    let mut apart = Apart::start(Duration::from_millis(100));
    let election = apart.election.clone();
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (election, over) = (election.clone(), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut newest = 0;
                while !over.load(Ordering::Relaxed) {
                    let (snapshot, _) = election.now();
                    assert!(
                        snapshot.revision >= newest,
                        "{} after {newest}",
                        snapshot.revision
                    );
                    newest = snapshot.revision;
                }
            })
        })
        .collect();
    let mut events = election.events(0).unwrap();
    let follower = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Ok(event) = events.next().await {
            seen.push(event);
        }
        seen
    });
    let mut random = fastrand::Rng::with_seed(11);
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let span = Duration::from_millis(random.u64(0..150));
        apart.hold_up(span);
        tokio::time::sleep(span + Duration::from_millis(random.u64(0..30))).await;
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    apart.stop();
    let seen = tokio::time::timeout(BOUND, follower)
        .await
        .unwrap()
        .unwrap();
    let lost = seen.iter().filter(|event| event.event == EventKind::Lost);
    assert!(lost.count() > 3, "the loop was never late: {seen:#?}");
    for (at, event) in seen.iter().enumerate() {
        assert_eq!(event.revision, at as u64 + 1);
    }
    let history = apart.election.history();
    let told = &seen[seen.len() - history.len()..];
    assert!(told.iter().rev().eq(&history), "told otherwise than noted");
}
