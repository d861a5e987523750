//! Five nodes and one number: every acknowledged increment counts once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tenure::backend::{Backend, Store};
use tenure::lease::{
    CheckpointRead, CheckpointWrite, CheckpointWritten, Epoch, Revision, StoreError,
};
use tenure::time::pause;

use crate::bench::{BOUND, Bench, CALL, now};
use crate::fault::{Fault, Way};
use crate::node::{Node, bounded};

const NODES: usize = 5;
/// Increments without which nothing is shown.
const ENOUGH: u64 = 50;

/// What the checkpoint holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counter {
    count: u64,
    /// The last increment of each worker that is part of the count.
    last: BTreeMap<usize, u64>,
}

/// Who increments, and what came of it.
struct Worker {
    number: usize,
    backend: Arc<dyn Backend>,
    tries: u64,
    acknowledged: u64,
    /// Increments that may have happened, until a read or a later write tells. They
    /// all expect one revision, so at most one of them lands.
    unresolved: BTreeSet<u64>,
    refused: u64,
    lost_replies: u64,
}

impl Worker {
    async fn read(&mut self) -> Option<(Counter, Option<Revision>)> {
        let (counter, revision) = match bounded(CALL, self.backend.read_checkpoint()).await {
            Ok(CheckpointRead::Present(stored)) => {
                let counter = serde_json::from_slice(&stored.bytes).unwrap();
                (counter, Some(stored.revision))
            }
            Ok(CheckpointRead::Absent) => (Counter::default(), None),
            Ok(CheckpointRead::Lost(revision)) => panic!("{revision} was lost"),
            Err(_) => return None,
        };
        self.resolve(&counter);
        Some((counter, revision))
    }

    fn resolve(&mut self, counter: &Counter) {
        if let Some(last) = counter.last.get(&self.number)
            && self.unresolved.contains(last)
        {
            self.acknowledged += 1;
            self.unresolved.clear();
        }
    }

    /// One increment under `epoch`; a stopped node goes on in the middle of it.
    async fn increment(&mut self, node: &Node, epoch: Epoch) {
        let Some((mut counter, expected)) = self.read().await else {
            return;
        };
        node.until_thawed().await;
        self.tries += 1;
        counter.count += 1;
        counter.last.insert(self.number, self.tries);
        let write = CheckpointWrite {
            epoch,
            session: node.session.clone(),
            expected,
            bytes: serde_json::to_vec(&counter).unwrap(),
        };
        match bounded(CALL, self.backend.write_checkpoint(&write)).await {
            Ok(CheckpointWritten::Written(_)) => {
                self.acknowledged += 1;
                // The revision has moved: an older write cannot land any more.
                self.unresolved.clear();
            }
            Ok(CheckpointWritten::Stale { .. } | CheckpointWritten::Mismatch { .. }) => {
                self.refused += 1;
            }
            Err(StoreError::Indeterminate(_)) => {
                self.unresolved.insert(self.tries);
                self.lost_replies += 1;
            }
            Err(_) => {}
        }
    }
}

/// When it is enough.
#[derive(Default)]
struct Pace {
    written: Cell<u64>,
    done: Cell<bool>,
}

/// A node's place; the node in it may be another start of it.
struct Slot {
    store: Arc<dyn Store>,
    way: Arc<dyn Way>,
    node: RefCell<Rc<Node>>,
}

impl Slot {
    async fn new(bench: &Bench, number: usize) -> Self {
        let (store, way) = bench.fixture.faulty_store(CALL).await;
        let node = start(bench, &*store, number, None);
        Self {
            store,
            way,
            node: RefCell::new(Rc::new(node)),
        }
    }

    fn node(&self) -> Rc<Node> {
        Rc::clone(&self.node.borrow())
    }
}

fn start(bench: &Bench, store: &dyn Store, number: usize, floor: Option<Epoch>) -> Node {
    bench.node_on(store, &format!("node-{number}"), bench.timing(), floor)
}

/// How leading is disturbed.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    StepDown,
    /// Stopped until another leads, and in the middle of an increment.
    Freeze,
    /// Killed, and started again at once with its memory.
    Crash,
    LostReplies,
    SlowReplies,
    Cut,
}

pub async fn t32_a_counter_under_chaos_is_exact(bench: &Bench) {
    let slots = join_all((0..NODES).map(|number| Slot::new(bench, number))).await;
    let pace = Pace::default();
    let work = join_all((0..NODES).map(|number| work(bench, number, &slots[number], &pace)));
    let trouble = async {
        disturb(bench, &slots).await;
        let until = now() + BOUND;
        while pace.written.get() < ENOUGH {
            assert!(now() < until, "{} increments in all", pace.written.get());
            pause(Duration::from_millis(5)).await;
        }
        pace.done.set(true);
    };
    let (mut workers, ()) = tokio::join!(work, trouble);
    for slot in &slots {
        slot.node().crash();
    }
    // Whoever holds the newest epoch shuts out every write that is still on its way.
    let last = bench.candidate("last").await;
    last.win_in_time(None).await;
    let CheckpointRead::Present(stored) = last.checkpoint().await else {
        panic!("the counter is gone");
    };
    let counter: Counter = serde_json::from_slice(&stored.bytes).unwrap();
    let mut sum = 0;
    let mut lost_replies = 0;
    for worker in &mut workers {
        worker.resolve(&counter);
        sum += worker.acknowledged;
        lost_replies += worker.lost_replies;
    }
    let refused: u64 = workers.iter().map(|worker| worker.refused).sum();
    println!(
        "{sum} increments by {} tenures, {lost_replies} without a reply, {refused} refused",
        bench.recorder.leads().len()
    );
    assert_eq!(counter.count, sum, "{counter:?}");
}

async fn work(bench: &Bench, number: usize, slot: &Slot, pace: &Pace) -> Worker {
    let mut worker = Worker {
        number,
        backend: slot.store.election(&bench.election),
        tries: 0,
        acknowledged: 0,
        unresolved: BTreeSet::new(),
        refused: 0,
        lost_replies: 0,
    };
    while !pace.done.get() {
        let node = slot.node();
        match node.leads() {
            Some(epoch) => {
                let before = worker.acknowledged;
                worker.increment(&node, epoch).await;
                let more = worker.acknowledged - before;
                pace.written.set(pace.written.get() + more);
            }
            None => pause(Duration::from_millis(2)).await,
        }
    }
    worker
}

async fn disturb(bench: &Bench, slots: &[Slot]) {
    let mut troubles = vec![Trouble::StepDown; 12];
    troubles.extend([Trouble::Freeze, Trouble::Freeze, Trouble::Crash]);
    troubles.extend([Trouble::LostReplies, Trouble::LostReplies]);
    troubles.extend([Trouble::SlowReplies, Trouble::Cut, Trouble::Cut]);
    fastrand::shuffle(&mut troubles);
    println!("{troubles:?}");
    for trouble in troubles {
        let leader = leader(slots, None).await;
        pause(Duration::from_millis(fastrand::u64(5..60))).await;
        let slot = &slots[leader];
        let node = slot.node();
        match trouble {
            Trouble::StepDown => node.step_down(Duration::ZERO, None),
            Trouble::Freeze => {
                node.freeze();
                self::leader(slots, Some(leader)).await;
                node.thaw();
            }
            Trouble::Crash => {
                node.crash();
                let again = start(bench, &*slot.store, leader, node.floor());
                slot.node.replace(Rc::new(again));
            }
            Trouble::LostReplies => disturbed(slot, Fault::LostReplies).await,
            Trouble::SlowReplies => disturbed(slot, Fault::SlowReplies(CALL / 2)).await,
            Trouble::Cut => slot.way.cut(),
        }
    }
    leader(slots, None).await;
}

async fn disturbed(slot: &Slot, fault: Fault) {
    slot.way.set(fault);
    pause(CALL.mul_f64(0.5 + fastrand::f64())).await;
    slot.way.set(Fault::None);
}

/// Who leads, other than `but`.
async fn leader(slots: &[Slot], but: Option<usize>) -> usize {
    let until = now() + BOUND;
    loop {
        let leads = |slot: &Slot| slot.node().leads().is_some();
        if let Some(leader) = slots.iter().position(leads)
            && Some(leader) != but
        {
            return leader;
        }
        assert!(now() < until, "nobody leads");
        pause(Duration::from_millis(2)).await;
    }
}
