//! Whole meshes on a simulated network, in simulated time: loss, cuts of one way and of
//! both, held packets, crashes. The schedule of faults comes from a seed: with
//! `TENURE_SIM_SEED=7 cargo test --all-features --test peers simulated_histories` it is played
//! again, with `TENURE_SIM_RUNS=100` there are more. Which of two ready tasks runs first is
//! tokio's draw, so that a replay may differ in the small.
//!
//! What must hold, whatever happens: what one start of a node sends to another arrives in
//! order, never twice, and without a gap as long as the receiver lives; an answered call
//! was delivered once and one that was not sent never was; who cannot be heard is suspected
//! in time, and when all is well again everybody is connected and nobody suspected.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tenure::peers::{
    CallError, Event, Identity, MemberId, Members, Mesh, MeshOptions, Missing, PeerStatus,
};
use tenure::time::pause;
use tokio::sync::mpsc::Receiver;
use turmoil::Sim;

use crate::cluster::id;
use crate::sim_network::{LATENCY, SimClock, SimTcp, play, simulation};

const NODES: [&str; 3] = ["a", "b", "c"];
const PORT: u16 = 7000;
const HEARTBEAT: Duration = Duration::from_millis(500);
const SUSPECT_AFTER: Duration = Duration::from_millis(1500);
/// After the last fault: the longest pause between two attempts and the attempt, twice.
const SETTLED_AFTER: Duration = Duration::from_secs(8);

/// One start of a node.
type Start = (String, u64);

#[derive(Debug)]
struct Got {
    by: Start,
    from: Start,
    number: u64,
    took: Duration,
    at: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Answered,
    NotSent,
    Unknown,
}

/// What all nodes saw.
#[derive(Default)]
struct History {
    sent: BTreeMap<(Start, String), u64>,
    got: Vec<Got>,
    calls: BTreeMap<String, (Answer, u32)>,
    /// When, who, of whom, and whether suspected or recovered.
    verdicts: Vec<(Duration, String, String, bool)>,
    peers: BTreeMap<String, (Start, Vec<PeerStatus>)>,
}

type Shared = Rc<RefCell<History>>;

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap()
}

async fn node(own: &str, disks: PathBuf, network: SimTcp, seen: Shared) -> turmoil::Result {
    let identity = Identity::open(&disks.join(own), "orders", id(own), Missing::Create)?;
    let start = (own.to_owned(), identity.incarnation);
    let list = NODES.map(|node| (id(node), format!("{node}:{PORT}")));
    let members = Members::new(id(own), list)?;
    let mut options = MeshOptions::new(identity, members, ([0, 0, 0, 0], PORT).into());
    options.insecure_peers = true;
    options.heartbeat = HEARTBEAT;
    options.suspect_after = SUSPECT_AFTER;
    let started = Mesh::start_on(Arc::new(network), options, Arc::new(SimClock)).await;
    let (mesh, events) = started?;
    tokio::join!(
        take(&start, events, &seen),
        talk(&start, &mesh, &seen),
        ask(&start, &mesh, &seen),
    );
    Ok(())
}

async fn take(own: &Start, mut events: Receiver<Event>, seen: &Shared) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Message {
                from,
                incarnation,
                body,
            } => seen.borrow_mut().got.push(Got {
                by: own.clone(),
                from: (from.to_string(), incarnation),
                number: body["number"].as_u64().unwrap(),
                took: now() - Duration::from_millis(body["at_ms"].as_u64().unwrap()),
                at: now(),
            }),
            Event::Request { body, reply, .. } => {
                let call = body.as_str().unwrap();
                seen.borrow_mut().calls.get_mut(call).unwrap().1 += 1;
                reply.send(Value::Null).await;
            }
            Event::Suspected(peer) => verdict(own, peer, true, seen),
            other => {
                if let Event::Recovered(peer) = other {
                    verdict(own, peer, false, seen);
                }
            }
        }
    }
}

fn verdict(own: &Start, peer: MemberId, suspected: bool, seen: &Shared) {
    let told = (now(), own.0.clone(), peer.to_string(), suspected);
    seen.borrow_mut().verdicts.push(told);
}

async fn talk(own: &Start, mesh: &Mesh, seen: &Shared) {
    for number in 0.. {
        for peer in NODES.iter().filter(|peer| **peer != own.0) {
            let sent = (own.clone(), (*peer).to_owned());
            seen.borrow_mut().sent.insert(sent, number);
            let at_ms = u64::try_from(now().as_millis()).unwrap();
            let body = json!({ "number": number, "at_ms": at_ms });
            mesh.send(id(peer), body).unwrap();
        }
        let peers = (own.clone(), mesh.peers());
        seen.borrow_mut().peers.insert(own.0.clone(), peers);
        pause(Duration::from_millis(100)).await;
    }
}

async fn ask(own: &Start, mesh: &Mesh, seen: &Shared) {
    for number in 0.. {
        let peers: Vec<_> = NODES.iter().filter(|peer| **peer != own.0).collect();
        let call = format!("{}/{} {number}", own.0, own.1);
        let first = (Answer::Unknown, 0);
        seen.borrow_mut().calls.insert(call.clone(), first);
        let peer = id(peers[number % peers.len()]);
        let answer = mesh
            .call(peer, json!(call), Duration::from_millis(400))
            .await;
        let answer = match answer {
            Ok(_) => Answer::Answered,
            Err(CallError::NotSent(_)) => Answer::NotSent,
            Err(CallError::Indeterminate(_)) => Answer::Unknown,
        };
        seen.borrow_mut().calls.get_mut(&call).unwrap().0 = answer;
        pause(Duration::from_millis(130)).await;
    }
}

/// A simulated cluster.
struct World {
    sim: Sim<'static>,
    seen: Shared,
    network: SimTcp,
    _disks: TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut sim = simulation(seed, Duration::from_millis(1));
        let (seen, network) = (Shared::default(), SimTcp::default());
        let disks = tempfile::tempdir().unwrap();
        for own in NODES {
            let (seen, network) = (Rc::clone(&seen), network.clone());
            let at = disks.path().to_owned();
            sim.host(own, move || {
                node(own, at.clone(), network.clone(), Rc::clone(&seen))
            });
        }
        Self {
            sim,
            seen,
            network,
            _disks: disks,
        }
    }

    fn run(&mut self, span: Duration) {
        let until = self.sim.elapsed() + span;
        while self.sim.elapsed() < until {
            self.sim.step().unwrap();
        }
    }

    fn crash(&mut self, node: &str) {
        self.network.crash(&mut self.sim, node);
    }

    fn bounce(&mut self, node: &str) {
        self.network.bounce(&mut self.sim, node);
    }

    /// When `by` suspected `of`, from `since` on.
    fn suspected(&self, by: &str, of: &str, since: Duration) -> Option<Duration> {
        let seen = self.seen.borrow();
        let fits = |told: &&(Duration, String, String, bool)| {
            told.0 >= since && told.1 == by && told.2 == of && told.3
        };
        seen.verdicts.iter().find(fits).map(|told| told.0)
    }

    /// `by` hears nothing of `of` from `since` on: it must say so in time.
    fn must_suspect(&self, by: &str, of: &str, since: Duration) {
        // The last word may have come before, and what is under way arrives.
        let (first, last) = (since + SUSPECT_AFTER - HEARTBEAT * 2, since + SUSPECT_AFTER);
        let at = self.suspected(by, of, since);
        let at = at.unwrap_or_else(|| panic!("{by} never suspected {of}"));
        let last = last + LATENCY + Duration::from_millis(5);
        assert!(
            at <= last && at >= first,
            "{by} of {of}: {at:?}, cut at {since:?}"
        );
    }

    /// All is well, and has been since `since`.
    fn must_be_settled(&self, since: Duration) {
        let seen = self.seen.borrow();
        for (own, (_, peers)) in &seen.peers {
            for peer in peers {
                let well = peer.connected && !peer.suspected && peer.dropped == 0;
                assert!(well, "{own}: {peer:?}");
            }
        }
        let late = seen.verdicts.iter().find(|told| told.0 >= since);
        assert_eq!(late, None, "though all was well since {since:?}");
        for ((from, to), last) in &seen.sent {
            let (start, _) = &seen.peers[&from.0];
            let got = |got: &&Got| got.from == *from && got.by.0 == *to;
            let newest = seen.got.iter().filter(got).map(|got| got.number).max();
            let newest = newest.map_or(0, |newest| newest + 2);
            assert!(
                start != from || newest >= *last,
                "{from:?} to {to}: {newest} of {last}"
            );
        }
    }

    fn must_be_in_order(&self) {
        let seen = self.seen.borrow();
        let mut last: BTreeMap<(&Start, &str), (&Start, u64)> = BTreeMap::new();
        for got in &seen.got {
            if let Some((by, before)) = last.get(&(&got.from, &got.by.0)) {
                assert!(
                    got.number > *before,
                    "again, or too late: {got:?} after {before}"
                );
                let next = got.number == before + 1;
                assert!(next || **by != got.by, "a gap: {got:?} after {before}");
            }
            last.insert((&got.from, &got.by.0), (&got.by, got.number));
        }
        for (call, (answer, delivered)) in &seen.calls {
            let fits = match answer {
                Answer::Answered => *delivered == 1,
                Answer::NotSent => *delivered == 0,
                Answer::Unknown => *delivered <= 1,
            };
            assert!(fits, "call {call}: {answer:?}, delivered {delivered} times");
        }
    }
}

#[test]
fn simulated_who_is_cut_off_is_suspected_in_time_and_holds_up_nobody() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(5));
        for (mine, how) in ["held", "cut"].into_iter().enumerate() {
            let cut_at = world.sim.elapsed();
            for other in ["a", "b"] {
                match mine {
                    0 => world.sim.hold(other, "c"),
                    _ => world.sim.partition(other, "c"),
                }
            }
            world.run(Duration::from_secs(10));
            for other in ["a", "b"] {
                world.must_suspect(other, "c", cut_at);
                world.must_suspect("c", other, cut_at);
                match mine {
                    0 => world.sim.release(other, "c"),
                    _ => world.sim.repair(other, "c"),
                }
            }
            let healed_at = world.sim.elapsed();
            world.run(SETTLED_AFTER * 2);
            world.must_be_settled(healed_at + SETTLED_AFTER);
            world.must_be_in_order();
            let seen = world.seen.borrow();
            let between = |got: &&Got| got.by.0 != "c" && got.from.0 != "c";
            let during = |got: &&Got| got.at > cut_at && got.at < healed_at;
            let late = Duration::from_millis(100);
            let calm = seen.got.iter().filter(between).filter(during);
            let (mut count, mut slow) = (0, None);
            for got in calm {
                count += 1;
                slow = slow.or((got.took > late).then_some(got));
            }
            assert!(slow.is_none(), "{how}, seed {seed}: {slow:?}");
            assert!(count > 150, "{how}, seed {seed}: only {count}");
        }
    }
}

#[test]
fn simulated_one_way_cuts_are_seen_by_who_hears_nothing() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(5));
        let cut_at = world.sim.elapsed();
        world.sim.partition_oneway("a", "b");
        world.run(Duration::from_secs(6));
        world.must_suspect("b", "a", cut_at);
        world.sim.repair_oneway("a", "b");
        let healed_at = world.sim.elapsed();
        world.run(SETTLED_AFTER * 2);
        world.must_be_settled(healed_at + SETTLED_AFTER);
        world.must_be_in_order();
        assert_eq!(
            world.suspected("a", "c", cut_at),
            None,
            "a has no trouble with c"
        );
        assert_eq!(world.suspected("c", "a", cut_at), None, "nor c with a");
    }
}

#[test]
fn simulated_a_crash_is_seen_at_once_and_the_next_start_gets_nothing_twice() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(5));
        let crashed_at = world.sim.elapsed();
        world.crash("b");
        world.run(Duration::from_secs(3));
        for other in ["a", "c"] {
            let at = world.suspected(other, "b", crashed_at).unwrap();
            let took = at - crashed_at;
            assert!(
                took < SUSPECT_AFTER / 2,
                "seed {seed}: {other} after {took:?}"
            );
        }
        world.bounce("b");
        let back_at = world.sim.elapsed();
        world.run(SETTLED_AFTER * 2);
        world.must_be_settled(back_at + SETTLED_AFTER);
        world.must_be_in_order();
        let seen = world.seen.borrow();
        let second = seen.got.iter().filter(|got| got.by == ("b".into(), 2));
        assert!(second.count() > 100, "seed {seed}");
    }
}

#[test]
fn simulated_what_one_start_got_the_next_one_does_not_get_again() {
    for seed in 0..3 {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(5));
        // b gets what a sends, and a hears no acknowledgement of it.
        world.sim.partition_oneway("b", "a");
        world.run(Duration::from_millis(250));
        world.crash("b");
        world.sim.repair_oneway("b", "a");
        world.run(Duration::from_secs(1));
        world.bounce("b");
        let back_at = world.sim.elapsed();
        world.run(SETTLED_AFTER * 2);
        world.must_be_in_order();
        world.must_be_settled(back_at + SETTLED_AFTER);
    }
}

/// One fault, and its end.
fn trouble(world: &mut World, draw: &mut fastrand::Rng) {
    let mut nodes = NODES;
    draw.shuffle(&mut nodes);
    let [first, second, _] = nodes;
    let span = Duration::from_millis(draw.u64(50..6000));
    match draw.u8(0..5) {
        0 => {
            world.sim.partition(first, second);
            world.run(span);
            world.sim.repair(first, second);
        }
        1 => {
            world.sim.partition_oneway(first, second);
            world.run(span);
            world.sim.repair_oneway(first, second);
        }
        2 => {
            world.sim.hold(first, second);
            world.run(span);
            world.sim.release(first, second);
        }
        3 => {
            world.crash(first);
            world.run(span);
            world.bounce(first);
        }
        _ => {
            world.sim.set_fail_rate(0.02);
            world.run(span);
            world.sim.set_fail_rate(0.0);
        }
    }
}

fn one_history(seed: u64) {
    let (mut world, mut draw) = (World::new(seed), fastrand::Rng::with_seed(seed));
    world.run(Duration::from_secs(3));
    for _ in 0..3 {
        for _ in 0..draw.u8(1..4) {
            trouble(&mut world, &mut draw);
            let between = Duration::from_millis(draw.u64(0..2000));
            world.run(between);
        }
        let healed_at = world.sim.elapsed();
        world.run(SETTLED_AFTER * 2);
        world.must_be_in_order();
        world.must_be_settled(healed_at + SETTLED_AFTER);
    }
}

#[test]
fn simulated_histories_of_faults_break_no_promise() {
    let command = "cargo test --all-features --test peers simulated_histories";
    play(6, command, one_history);
}
