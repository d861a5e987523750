//! Links that carry words one way only.

use std::time::Instant;

use crate::network::Network;
use crate::world::{World, each};

type Cut = fn(&Network, usize, &[usize]);

const CUTS: [(&str, Cut); 2] = [
    ("is not heard", Network::mute),
    ("does not hear", Network::deafen),
];

#[test]
fn a_leader_that_hears_and_is_not_heard_or_the_reverse_is_replaced() {
    each(|backend| {
        let (world, mut leader, mut epoch) = World::begun(backend, &[]);
        for (what, cut) in CUTS {
            let others = world.others(leader);
            cut(&world.network, leader, &others);
            let cut_at = Instant::now();
            let (next, higher, took) = world.watch.next(epoch, cut_at);
            println!("{backend}: {took:?} after a leader {what}");
            assert!(next != leader);
            assert_eq!(world.leader_of(&others), (next, higher));
            world.holds(1, || {
                world.none_leads(&[leader]);
                assert_eq!(world.watch.newest(), Some((next, higher)));
            });
            world.network.heal();
            world.stays(next, higher, 1);
            (leader, epoch) = (next, higher);
        }
    });
}

#[test]
fn followers_that_are_not_heard_or_do_not_hear_depose_nobody() {
    each(|backend| {
        let (world, leader, epoch) = World::begun(backend, &[]);
        let others = world.others(leader);
        // One each way: the others are a majority without them.
        for ((_, cut), follower) in CUTS.into_iter().zip(&others) {
            cut(&world.network, *follower, &world.others(*follower));
        }
        world.holds(3, || {
            assert_eq!(
                world.watch.newest(),
                Some((leader, epoch)),
                "a new election"
            );
        });
        world.network.heal();
        world.stays(leader, epoch, 2);
    });
}
