//! The machine's invariants under arbitrary inputs: any answer to any call, in any
//! order, at any time, with any hint and command in between.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "machine_props/harness.rs"]
mod harness;
#[path = "machine_props/moves.rs"]
mod moves;

use std::time::Duration;

use proptest::prelude::*;
use tenure::lease::Acquired;
use tenure::machine::{CallId, Input, Percent};

use harness::{Harness, epoch};
use moves::moves;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(
        drains: bool,
        floor in prop::option::of(1..30u64),
        priority in prop_oneof![Just(100u8), 0..=100u8],
        seed: u64,
        sequence in prop::collection::vec(moves(), 1..120),
    ) {
        let mut harness = Harness::new(drains, floor, Percent::new(priority).unwrap(), seed);
        harness.step(Input::Wake);
        for (pause, next) in &sequence {
            harness.play(*pause, next);
        }
        harness.wind_down();
    }
}

/// A store that answers with an epoch that this node has led under: whatever it is,
/// the machine never leads under it again.
#[test]
fn a_dead_epoch_from_the_store_is_refused() {
    let mut harness = Harness::new(false, None, Percent::FULL, 1);
    let won = |call| {
        Input::Acquired(
            CallId(call),
            Ok(Acquired::Won {
                epoch: epoch(7),
                left: Duration::from_secs(1),
            }),
        )
    };
    harness.sends.insert(epoch(7), harness.now);
    harness.step(Input::Wake);
    harness.step(won(1));
    assert!(harness.machine.snapshot().is_leader(harness.now));
    harness.now = harness.now + Duration::from_secs(2);
    harness.open.clear();
    harness.step(Input::Wake);
    let call = *harness.open.keys().next().expect("it campaigns again");
    harness.step(won(call));
    assert!(!harness.machine.snapshot().is_leader(harness.now));
}
