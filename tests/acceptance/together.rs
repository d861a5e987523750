//! Elections that are begun by several at once.

use std::time::Instant;

use crate::world::{World, each};

#[test]
fn three_that_start_at_once_agree_and_the_others_join_them() {
    each(|backend| {
        let (mut world, _, before) = World::begun(backend, &[]);
        for at in 0..5 {
            world.cluster.kill(at);
        }
        let (first, later) = ([0, 2, 4], [1, 3]);
        world.cluster.start_together(&first, &[]);
        let (leader, epoch) = world.leader_of(&first);
        // Nobody led in between.
        assert_eq!(world.watch.next(before, Instant::now()).1, epoch);
        world.cluster.start_together(&later, &[]);
        world.stays(leader, epoch, 1);
    });
}
