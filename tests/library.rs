//! Tenure inside an app: callbacks, watch, and the order of stopping.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tenure::backend::memory::MemoryStore;
use tenure::backend::{Backend, Guarantees, Hints, Store};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, Epoch,
    NodeId, Observed, Profile, Released, Renewed, StoreError, Timing,
};
use tenure::machine::State;
use tenure::sidecar::{Condition, Departure, Election, Options, Sidecar};
use tenure::time::{BootClock, Clock as _};
use tokio::sync::mpsc;

/// Long enough that a machine that stalls for a moment loses no lease.
const TTL: Duration = Duration::from_secs(2);
/// Beyond anything that must happen, for a machine that is busy.
const BOUND: Duration = Duration::from_secs(20);

fn store() -> MemoryStore {
    MemoryStore::new(Arc::new(BootClock))
}

fn options(node: &str) -> Options {
    let profile = Profile {
        node: node.parse().unwrap(),
        url: None,
        metadata: vec![0, 255],
    };
    let timing = Timing::of_ttl(TTL).unwrap();
    Options::new("orders".parse().unwrap(), profile, timing)
}

fn start(store: &MemoryStore, node: &str) -> (Sidecar, Election) {
    let sidecar = Sidecar::start(Arc::new(store.clone()), &options(node)).unwrap();
    let election = sidecar.elections()[0].clone();
    (sidecar, election)
}

async fn until(election: &Election, state: State) {
    let mut watch = election.watch().unwrap();
    let reached = async { while watch.changed().await.unwrap().state() != state {} };
    let in_time = tokio::time::timeout(BOUND, reached).await;
    in_time.unwrap_or_else(|_| panic!("never {state}: {:?}", election.snapshot()));
}

#[derive(Debug, PartialEq)]
enum Call {
    Acquired(u64),
    Lost(u64),
}

fn calls(election: &Election) -> mpsc::UnboundedReceiver<Call> {
    let (send, calls) = mpsc::unbounded_channel();
    let sent = send.clone();
    election
        .on_change(
            move |token| drop(send.send(Call::Acquired(token.get()))),
            move |token| drop(sent.send(Call::Lost(token.get()))),
        )
        .unwrap();
    calls
}

async fn next(calls: &mut mpsc::UnboundedReceiver<Call>) -> Call {
    tokio::time::timeout(BOUND, calls.recv())
        .await
        .expect("a call in time")
        .expect("a call")
}

#[tokio::test]
async fn callbacks_come_in_turn_and_a_handover_wakes_the_other() {
    let store = store();
    let (one, first) = start(&store, "one");
    let mut first_calls = calls(&first);
    until(&first, State::Leader).await;
    let token = first.fence_token().unwrap();
    assert_eq!(next(&mut first_calls).await, Call::Acquired(token.get()));

    let (_two, second) = start(&store, "two");
    let mut second_calls = calls(&second);
    until(&second, State::Follower).await;
    let began = BootClock.now();
    one.stop().await;
    assert_eq!(next(&mut first_calls).await, Call::Lost(token.get()));
    let Call::Acquired(newer) = next(&mut second_calls).await else {
        panic!("lost what it never had");
    };
    assert!(newer > token.get());
    let took = BootClock.now().since(began);
    assert!(took < TTL / 2, "{took:?}: the lease was waited for");
    assert!(!first.is_leader());
}

#[tokio::test]
async fn a_step_down_lets_the_others_go_first() {
    let store = store();
    let (_one, first) = start(&store, "one");
    until(&first, State::Leader).await;
    let (_two, second) = start(&store, "two");
    let (_three, third) = start(&store, "three");
    until(&second, State::Follower).await;
    until(&third, State::Follower).await;
    let to: NodeId = "three".parse().unwrap();
    assert_eq!(first.step_down(TTL, Some(to)).await, Departure::Released);
    until(&third, State::Leader).await;
    assert!(!first.is_leader() && !second.is_leader());
    assert_eq!(second.step_down(TTL, None).await, Departure::NotLeader);
}

#[tokio::test]
async fn alone_it_leads_again_after_its_own_step_down() {
    let (_one, election) = start(&store(), "one");
    until(&election, State::Leader).await;
    let before = election.fence_token();
    assert_eq!(
        election.step_down(TTL * 100, None).await,
        Departure::Released
    );
    until(&election, State::Leader).await;
    assert!(election.fence_token() > before);
}

#[tokio::test]
async fn the_lease_is_held_until_the_app_has_drained() {
    let store = store();
    let options = Options {
        drain: Some(TTL * 100),
        ..options("one")
    };
    let one = Sidecar::start(Arc::new(store.clone()), &options).unwrap();
    let first = one.elections()[0].clone();
    until(&first, State::Leader).await;
    let token = first.fence_token();
    let (_two, second) = start(&store, "two");
    until(&second, State::Follower).await;
    let leaving = {
        let first = first.clone();
        tokio::spawn(async move { first.step_down(TTL, None).await })
    };
    until(&first, State::SteppingDown).await;
    assert!(!first.is_leader());
    // Far longer than the lease: it is renewed while the app drains.
    tokio::time::sleep(TTL * 2).await;
    until(&second, State::Follower).await;
    assert_eq!(second.snapshot().term, token, "another epoch was granted");
    assert!(!leaving.is_finished());
    first.drained(token.unwrap()).await;
    assert_eq!(leaving.await.unwrap(), Departure::Released);
    until(&second, State::Leader).await;
}

#[tokio::test]
async fn those_who_drain_have_their_turns_and_the_lease_waits_for_all() {
    let options = Options {
        drain: Some(TTL * 100),
        ..options("one")
    };
    let one = Sidecar::start(Arc::new(store()), &options).unwrap();
    let first = one.elections()[0].clone();
    let mut parts = first.drained_by(2);
    let (stopped, asked) = (parts.pop().unwrap(), parts.pop().unwrap());
    until(&first, State::Leader).await;
    let token = first.fence_token().unwrap();
    let leaving = {
        let first = first.clone();
        tokio::spawn(async move { first.step_down(TTL, None).await })
    };
    until(&first, State::SteppingDown).await;
    // The first has its turn at once, the second when the first is done.
    asked.turn(token).await;
    let waits = tokio::time::timeout(Duration::from_millis(100), stopped.turn(token)).await;
    assert!(waits.is_err(), "it has its turn before the app was asked");
    asked.done(token).await;
    tokio::time::timeout(BOUND, stopped.turn(token))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!leaving.is_finished(), "released before all were done");
    stopped.done(token).await;
    assert_eq!(leaving.await.unwrap(), Departure::Released);
    // The next tenure waits for both anew.
    until(&first, State::Leader).await;
    let newer = first.fence_token().unwrap();
    assert!(newer > token);
    let waits = tokio::time::timeout(Duration::from_millis(100), stopped.turn(newer)).await;
    assert!(waits.is_err(), "it was done with an older tenure only");
}

#[tokio::test]
async fn an_app_that_ends_by_itself_gives_its_lease_back_when_it_is_gone() {
    let store = store();
    let options = Options {
        drain: Some(TTL * 100),
        ..options("one")
    };
    let one = Sidecar::start(Arc::new(store.clone()), &options).unwrap();
    let first = one.elections()[0].clone();
    until(&first, State::Leader).await;
    let token = first.fence_token().unwrap();
    let (_two, second) = start(&store, "two");
    until(&second, State::Follower).await;
    first.app_ended(token, TTL).await;
    until(&first, State::SteppingDown).await;
    assert!(!first.is_leader());
    // Not before all of it is gone, of which only a word about this epoch tells.
    let older = Epoch::new(token.get() - 1).unwrap();
    first.drained(older).await;
    tokio::time::sleep(TTL / 10).await;
    assert_eq!(second.snapshot().term, Some(token));
    let began = BootClock.now();
    first.drained(token).await;
    until(&second, State::Leader).await;
    assert!(BootClock.now().since(began) < TTL / 2);
}

/// A node that abstains follows whoever leads, and campaigns when the last reason is gone.
#[tokio::test]
async fn who_abstains_follows() {
    let store = store();
    let (_one, first) = start(&store, "one");
    until(&first, State::Leader).await;
    let reasons = [first.abstain("unwell"), first.abstain("unwell")];
    assert_eq!(first.abstains(), ["unwell", "unwell"]);
    // What it holds is not touched.
    tokio::time::sleep(TTL / 2).await;
    assert!(first.is_leader());
    first.step_down(Duration::ZERO, None).await;
    tokio::time::sleep(TTL / 2).await;
    assert_eq!(first.snapshot().state(), State::Candidate);
    let (_two, second) = start(&store, "two");
    until(&second, State::Leader).await;
    until(&first, State::Follower).await;
    assert_eq!(second.step_down(TTL * 100, None).await, Departure::Released);
    let [one, other] = reasons;
    drop(one);
    // Nobody but the one that went last is left.
    until(&second, State::Leader).await;
    drop(other);
    until(&first, State::Follower).await;
    assert_eq!(second.step_down(TTL, None).await, Departure::Released);
    until(&first, State::Leader).await;
}

#[tokio::test]
async fn a_dropped_sidecar_gives_its_lease_back() {
    let store = store();
    let (one, first) = start(&store, "one");
    until(&first, State::Leader).await;
    let (_two, second) = start(&store, "two");
    until(&second, State::Follower).await;
    let began = BootClock.now();
    drop((one, first));
    until(&second, State::Leader).await;
    assert!(BootClock.now().since(began) < TTL / 2);
}

#[tokio::test]
async fn a_checkpoint_is_written_by_the_leader_alone() {
    let store = store();
    let (_one, first) = start(&store, "one");
    until(&first, State::Leader).await;
    let token = first.fence_token().unwrap();
    assert_eq!(first.read_checkpoint().await.unwrap(), None);
    first
        .write_checkpoint(token, Condition::Absent, vec![7])
        .await
        .unwrap();
    let again = first
        .write_checkpoint(token, Condition::LastKnown, vec![8])
        .await
        .unwrap();
    assert_eq!(again.to_string(), format!("{token}.2"));
    let (_two, second) = start(&store, "two");
    until(&second, State::Follower).await;
    assert_eq!(second.read_checkpoint().await.unwrap().unwrap().bytes, [8]);
    let stale = second
        .write_checkpoint(token, Condition::LastKnown, vec![9])
        .await;
    assert!(
        stale.is_err(),
        "another session wrote under the leader's token"
    );
    assert_eq!(second.read_checkpoint().await.unwrap().unwrap().bytes, [8]);
}

/// A store that can fall silent.
struct Mutable {
    store: MemoryStore,
    silent: Arc<AtomicBool>,
}

struct MutableElection {
    inner: Arc<dyn Backend>,
    silent: Arc<AtomicBool>,
}

impl Store for Mutable {
    fn guarantees(&self) -> Guarantees {
        self.store.guarantees()
    }
    fn address(&self) -> String {
        self.store.address()
    }
    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(MutableElection {
            inner: self.store.election(name),
            silent: Arc::clone(&self.silent),
        })
    }
}

impl MutableElection {
    async fn speak(&self) {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Backend for MutableElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        self.speak().await;
        self.inner.acquire(bid).await
    }
    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        self.speak().await;
        self.inner.renew(claim).await
    }
    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        self.speak().await;
        self.inner.release(claim, prefer).await
    }
    async fn observe(&self) -> Result<Observed, StoreError> {
        self.speak().await;
        self.inner.observe().await
    }
    fn changes(&self) -> Hints {
        self.inner.changes()
    }
    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        self.speak().await;
        self.inner.read_checkpoint().await
    }
    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        self.speak().await;
        self.inner.write_checkpoint(write).await
    }
}

#[tokio::test]
async fn a_silent_store_ends_leadership_at_the_deadline_and_not_before() {
    let silent = Arc::new(AtomicBool::new(false));
    let store = Mutable {
        store: store(),
        silent: Arc::clone(&silent),
    };
    let sidecar = Sidecar::start(Arc::new(store), &options("one")).unwrap();
    let election = sidecar.elections()[0].clone();
    let mut calls = calls(&election);
    until(&election, State::Leader).await;
    let Call::Acquired(token) = next(&mut calls).await else {
        panic!("lost what it never had");
    };
    silent.store(true, Ordering::SeqCst);
    let deadline = election.snapshot().tenure.unwrap().leads_until;
    assert_eq!(next(&mut calls).await, Call::Lost(token));
    // A renewal that was under way may have moved the deadline; it never moves back.
    assert!(BootClock.now() >= deadline, "lost before its time");
    assert!(!election.is_leader());
    let token = token.to_string().parse().unwrap();
    assert!(
        election.validate(token).await.is_err(),
        "confirmed without the store"
    );
    silent.store(false, Ordering::SeqCst);
    let Call::Acquired(newer) = next(&mut calls).await else {
        panic!("lost twice");
    };
    assert!(newer > token.get());
}
