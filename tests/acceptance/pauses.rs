//! A leader that stands still past its lease, and wakes.

use std::time::Instant;

use rustix::process::Signal;

use crate::http::Wire;
use crate::process::{BOUND, Node};
use crate::world::{World, each};

/// An app that acts: it notes its token again and again, where all apps do.
const APP: &str = "while :; do echo $TENURE_FENCE_TOKEN >> \"$0\"; sleep 0.05; done";

/// Returns when no thread of it runs any more: until then it answers.
fn stop(node: &Node) {
    node.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", node.pid());
    let stands = |task: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status"));
        status.is_ok_and(|status| status.contains("State:\tT"))
    };
    let end = Instant::now() + BOUND;
    while !std::fs::read_dir(&tasks).unwrap().all(stands) {
        assert!(Instant::now() < end, "it goes on after SIGSTOP");
    }
}

#[test]
fn a_leader_that_was_stopped_past_its_lease_acts_no_more() {
    each(|backend| {
        let home = tempfile::tempdir().unwrap();
        let journal = home.path().join("journal");
        let app = ["--", "sh", "-c", APP, journal.to_str().unwrap()];
        let (world, leader, epoch) = World::begun(backend, &app);
        let old = world.cluster.node(leader);
        let stopped_at = Instant::now();
        stop(old);
        // Asked while it leads, or nearly so, and answered when it wakes.
        let ask = |_| {
            let mut wire = Wire::unix(&world.cluster.socket(leader));
            wire.send(b"GET /leader HTTP/1.1\r\nHost: localhost\r\n\r\n");
            wire
        };
        let waiting: Vec<Wire> = (0..8).map(ask).collect();
        let (next, higher, took) = world.watch.next(epoch, stopped_at);
        println!("{backend}: {took:?} from SIGSTOP to the next leader");
        assert!(next != leader);
        world.holds(1, || assert_eq!(world.watch.newest(), Some((next, higher))));
        old.signal(Signal::CONT);
        for mut wire in waiting {
            let reply = wire.reply(false).expect("an answer");
            assert_eq!(reply.status, 503, "{reply:?}");
        }
        world.stays(next, higher, 1);
        let acts = std::fs::read_to_string(&journal).unwrap();
        let acts: Vec<u64> = acts.lines().map(|token| token.parse().unwrap()).collect();
        assert!(acts.is_sorted(), "an act under an old token: {acts:?}");
        assert!(acts.contains(&epoch) && acts.contains(&higher), "{acts:?}");
    });
}
