//! Leadership is given up.

use tenure::lease::{Hint, Released, Renewed};
use tenure::machine::{AppHealth, Input, Percent};

use super::transcript::*;

#[test]
fn step_down_with_drain() {
    let mut t = Transcript::new(
        "step_down",
        true,
        None,
        "Stepping down: not leader at once, renewed while the app drains, released after it,\n\
         # and the successor goes first, this node after those who wait for the successor.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            100,
            Input::StepDown {
                cooldown: ms(5000),
                to: Some("third".parse().unwrap()),
            },
        )
        .wake()
        .step(310, Input::Renewed(call(2), kept()))
        .step(400, Input::Drained(epoch(7)))
        .step(405, Input::Released(call(3), Err(down())))
        .wake()
        .step(450, Input::Released(call(4), Ok(Released::Released)))
        // Its own grant, told late: the successor still goes first.
        .step(451, Input::Hint(Hint::Began(epoch(7))))
        .wake()
        .check();
}

#[test]
fn release_stays_unresolved() {
    let mut t = Transcript::new(
        "release_failed",
        false,
        None,
        "Three releases without an answer: the lease is left to run out.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            20,
            Input::StepDown {
                cooldown: ms(0),
                to: None,
            },
        )
        .step(170, Input::Released(call(2), Err(uncertain())))
        .wake()
        .step(360, Input::Released(call(3), Err(uncertain())))
        .wake()
        .step(560, Input::Released(call(4), Err(uncertain())))
        .wake()
        .check();
}

#[test]
fn renewal_crosses_the_release() {
    let mut t = Transcript::new(
        "renewal_crosses_release",
        false,
        None,
        "A renewal finds the lease gone, for the own release came first: a release, no loss.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(
            310,
            Input::StepDown {
                cooldown: ms(0),
                to: None,
            },
        )
        .step(320, Input::Renewed(call(2), Ok(Renewed::Lost(None))))
        .step(330, Input::Released(call(3), Ok(Released::Released)))
        .check();
}

#[test]
fn stop_while_acquiring() {
    let mut t = Transcript::new(
        "stop_acquiring",
        true,
        None,
        "Asked to end while an acquire is under way: its grant is given back, never led under.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Stop)
        .step(20, Input::Acquired(call(1), won(7)))
        .step(30, Input::Wake)
        .check();
}

#[test]
fn stop_while_draining_and_twice() {
    let mut t = Transcript::new(
        "stop_draining",
        true,
        None,
        "Asked to end while it steps down, and once more: one drain, one release, one end.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            100,
            Input::StepDown {
                cooldown: ms(1000),
                to: None,
            },
        )
        .step(110, Input::Stop)
        .step(120, Input::Stop)
        .step(200, Input::Drained(epoch(7)))
        .step(210, Input::Stop)
        .step(220, Input::Released(call(2), Ok(Released::Released)))
        .step(230, Input::Stop)
        .check();
}

#[test]
fn app_ends_by_itself() {
    let mut t = Transcript::new(
        "app_ended",
        true,
        None,
        "The app ends by itself: not leader at once, released when all of it is gone. A late\n\
         # word of it does nothing to the next tenure, nor does its end.",
    );
    let ended = |number| Input::AppEnded {
        epoch: epoch(number),
        cooldown: ms(1000),
    };
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(100, ended(7))
        .step(103, Input::Drained(epoch(7)))
        .step(105, Input::Released(call(2), Ok(Released::Released)))
        .wake()
        .step(410, Input::Acquired(call(3), won(8)))
        .step(420, ended(7))
        .step(430, Input::Drained(epoch(7)))
        .step(500, ended(8))
        .step(510, Input::Drained(epoch(7)))
        .step(520, Input::Drained(epoch(8)))
        .check();
}

#[test]
fn app_is_unfit() {
    let mut t = Transcript::new(
        "app_unfit",
        true,
        None,
        "The app is unfit and will be ended: not leader at once, though it is said to be fit\n\
         # again; a late word of it does nothing to the next tenure.",
    );
    let unfit = |number| Input::AppUnfit {
        epoch: epoch(number),
        cooldown: ms(1000),
    };
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(100, Input::Health(AppHealth::fit(Percent::FULL)))
        .step(101, unfit(7))
        .step(103, Input::Drained(epoch(7)))
        .step(105, Input::Released(call(2), Ok(Released::Released)))
        .wake()
        .step(410, Input::Acquired(call(3), won(8)))
        .step(420, unfit(7))
        .check();
}

#[test]
fn app_does_not_stop() {
    let mut t = Transcript::new(
        "drains_for_ever",
        true,
        None,
        "An app that does not stop keeps the lease for the drain of 2 s, then it runs out.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            250,
            Input::StepDown {
                cooldown: ms(1000),
                to: None,
            },
        );
    for number in 2..=8 {
        t.wake().after(10, Input::Renewed(call(number), kept()));
    }
    t.wake().wake().check();
}
