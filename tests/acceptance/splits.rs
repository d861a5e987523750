//! The network falls into two parts, and heals.

use std::time::Instant;

use crate::world::{World, each};

#[test]
fn the_majority_alone_leads_and_after_the_heal_its_leader_is_everybodys() {
    each(|backend| {
        let (world, leader, epoch) = World::begun(backend, &[]);
        let others = world.others(leader);
        let (minority, majority) = ([leader, others[0]], &others[1..]);
        world.network.part(&minority, majority);
        let cut_at = Instant::now();
        let (next, higher, took) = world.watch.next(epoch, cut_at);
        println!("{backend}: {took:?} from the split to the majority's leader");
        assert!(majority.contains(&next), "n{next} leads in the minority");
        assert_eq!(world.leader_of(majority), (next, higher));
        world.leaderless(&minority);
        world.holds(3, || {
            world.none_leads(&minority);
            assert_eq!(world.watch.newest(), Some((next, higher)));
        });
        world.network.heal();
        world.stays(next, higher, 3);
    });
}

#[test]
fn a_leader_with_the_majority_stays_and_the_minority_comes_back_to_it() {
    each(|backend| {
        let (world, leader, epoch) = World::begun(backend, &[]);
        let others = world.others(leader);
        let (minority, majority) = others.split_at(2);
        let majority = [&[leader], majority].concat();
        world.network.part(minority, &majority);
        world.leaderless(minority);
        world.holds(3, || {
            world.none_leads(minority);
            assert_eq!(world.watch.newest(), Some((leader, epoch)));
        });
        assert_eq!(world.leader_of(&majority), (leader, epoch));
        world.network.heal();
        world.stays(leader, epoch, 3);
    });
}
