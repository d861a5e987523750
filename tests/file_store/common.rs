//! What the tests of the file store have in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tenure::backend::file::FileStore;
use tenure::backend::{Backend, Hints, Store};
use tenure::lease::*;
use tenure::time::{BootClock, Clock, within};

pub const BOUND: Duration = Duration::from_secs(10);

pub fn open(dir: &Path) -> FileStore {
    FileStore::open(dir, Arc::new(BootClock)).unwrap()
}

pub fn name(text: &str) -> ElectionName {
    text.parse().unwrap()
}

pub fn on(dir: &Path, election: &str) -> Arc<dyn Backend> {
    open(dir).election(&name(election))
}

pub fn session(bits: u128) -> SessionId {
    SessionId::from_bits(bits)
}

pub fn bid(bits: u128, ttl: Duration) -> Bid {
    Bid {
        session: session(bits),
        profile: Profile {
            node: format!("node-{bits}").parse().unwrap(),
            url: Some(format!("http://127.0.0.1:{}", 8000 + bits % 1000)),
            metadata: vec![0, 255, 7],
        },
        ttl,
        floor: None,
        incumbent: false,
        hold: ttl,
    }
}

pub const TTL: Duration = Duration::from_secs(30);

pub fn claim(epoch: Epoch, bits: u128) -> Claim {
    Claim {
        epoch,
        session: session(bits),
        ttl: TTL,
        hold: TTL,
    }
}

pub fn won(answer: Acquired) -> Epoch {
    match answer {
        Acquired::Won { epoch, .. } => epoch,
        other => panic!("not won: {other:?}"),
    }
}

pub async fn win(backend: &dyn Backend, bits: u128) -> Epoch {
    won(backend.acquire(&bid(bits, TTL)).await.unwrap())
}

pub fn write(
    epoch: Epoch,
    bits: u128,
    expected: Option<Revision>,
    bytes: &[u8],
) -> CheckpointWrite {
    CheckpointWrite {
        epoch,
        session: session(bits),
        expected,
        bytes: bytes.to_vec(),
    }
}

pub async fn hint(hints: &mut Hints) -> Hint {
    within(BOUND, hints.next())
        .await
        .expect("no hint in time")
        .expect("the stream ended")
}

pub fn shown(dir: &Path, election: &str) -> serde_json::Value {
    let text = fs::read_to_string(dir.join(format!("{election}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The files in an election's folder with that ending.
pub fn files(dir: &Path, election: &str, ending: &str) -> Vec<PathBuf> {
    let folder = dir.join(format!("{election}.d"));
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    found.sort();
    found
}

/// The same once there are only so many: what is out of force is removed after the
/// answer.
pub fn tidied(dir: &Path, election: &str, ending: &str, count: usize) -> Vec<PathBuf> {
    let until = BootClock.now() + BOUND;
    loop {
        let found = files(dir, election, ending);
        if found.len() <= count {
            assert_eq!(found.len(), count, "{found:?}");
            return found;
        }
        assert!(BootClock.now() < until, "never tidied: {found:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn only(dir: &Path, election: &str, ending: &str) -> PathBuf {
    tidied(dir, election, ending, 1).remove(0)
}
