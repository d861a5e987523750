//! Processes that are killed, and come back.

use std::time::Instant;

use crate::members::TWO_ELECTIONS;
use crate::world::{World, each};

#[test]
fn a_killed_leader_is_replaced_within_two_election_timeouts_and_comes_back_as_a_follower() {
    each(|backend| {
        let (mut world, mut leader, mut epoch) = World::begun(backend, &[]);
        let mut killed = Vec::new();
        // Down to a bare majority, and all that are left try at once.
        for _ in 0..2 {
            world.cluster.kill(leader);
            killed.push(leader);
            let (next, higher, took) = world.watch.next(epoch, Instant::now());
            println!("{backend}: {took:?} from kill -9 to the next leader");
            assert!(took <= TWO_ELECTIONS, "{took:?}");
            assert_eq!(world.cluster.leader(), (next, higher), "two elections");
            (leader, epoch) = (next, higher);
        }
        // They were members before: nothing of the first start is said again.
        world.cluster.start_together(&killed, &[]);
        world.stays(leader, epoch, 1);
    });
}

#[test]
fn a_follower_that_is_killed_and_restarted_accepts_the_present_leader() {
    each(|backend| {
        let (mut world, leader, epoch) = World::begun(backend, &[]);
        // Two of five: the others are a majority without them.
        let others = world.others(leader);
        for at in &others[..2] {
            world.cluster.kill(*at);
        }
        assert_eq!(world.cluster.leader(), (leader, epoch));
        world.cluster.start_together(&others[..2], &[]);
        world.stays(leader, epoch, 1);
    });
}
