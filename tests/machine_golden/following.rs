//! Somebody else leads, or nobody may yet.

use tenure::lease::{Hint, Holder, Observed, Released};
use tenure::machine::{AppHealth, Input, Percent};

use super::transcript::*;

#[test]
fn follower_takes_over_at_expiry() {
    let mut t = Transcript::new(
        "follower",
        false,
        None,
        "A follower sleeps for the time the store told, tries, and goes on naming the old\n\
         # leader meanwhile.",
    );
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), held(7, 900)))
        .wake()
        .step(910, Input::Acquired(call(2), held(7, 700)))
        .wake()
        .step(1620, Input::Acquired(call(3), won(8)))
        .check();
    let mut t = Transcript::new(
        "follower_unanswered",
        false,
        None,
        "A follower's try is not answered: it names the old leader for one call timeout only.",
    );
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), held(7, 900)))
        .wake()
        .wake()
        .step(1056, Input::Acquired(call(2), Err(uncertain())))
        .wake()
        .check();
}

#[test]
fn hint_of_release_wakes() {
    let mut t = Transcript::new(
        "hint",
        false,
        None,
        "The hint of a release wakes a follower at once; one that comes while an older\n\
         # answer is under way makes it ask again.",
    );
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), held(7, 900)))
        .step(
            100,
            Input::Hint(Hint::Ended {
                epoch: epoch(7),
                prefer: None,
            }),
        )
        .step(
            101,
            Input::Hint(Hint::Ended {
                epoch: epoch(7),
                prefer: None,
            }),
        )
        .step(102, Input::Acquired(call(2), held(7, 800)))
        .step(104, Input::Acquired(call(3), held(8, 1000)))
        .step(105, Input::Hint(Hint::Began(epoch(8))))
        .step(106, Input::Hint(Hint::Gap))
        .step(108, Input::Acquired(call(4), held(8, 996)))
        .step(
            110,
            Input::Hint(Hint::Present(Observed {
                epoch: Some(epoch(8)),
                holder: None,
            })),
        )
        .check();
}

#[test]
fn another_is_preferred() {
    let mut t = Transcript::new(
        "prefer",
        false,
        None,
        "The leader names its successor: this node, another one, waits for two call timeouts.",
    );
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), held(7, 900)))
        .step(
            100,
            Input::Hint(Hint::Ended {
                epoch: epoch(7),
                prefer: Some("third".parse().unwrap()),
            }),
        )
        .wake()
        .check();
}

#[test]
fn priority() {
    let mut t = Transcript::of(
        "priority",
        false,
        None,
        (Percent::new(60).unwrap(), None),
        "A priority of 60: it looks while another leads and before it knows of a free lease,\n\
         # and asks for a free one 40 % of a call later, 60 ms. A duplicate look does not\n\
         # begin the wait anew.",
    );
    let observed = |holder: Option<Holder>| {
        Ok(Observed {
            epoch: Some(epoch(7)),
            holder: holder.map(|holder| (holder, ms(300))),
        })
    };
    t.step(0, Input::Wake)
        .step(
            5,
            Input::Observed(call(1), observed(Some(holder(7, "other")))),
        )
        .wake()
        .step(310, Input::Observed(call(2), observed(None)))
        .step(320, Input::Hint(Hint::Gap))
        .step(330, Input::Observed(call(3), observed(None)))
        .wake()
        .step(375, Input::Acquired(call(4), Err(uncertain())))
        .wake()
        .after(5, Input::Acquired(call(5), won(8)))
        .after(
            20,
            Input::StepDown {
                cooldown: ms(0),
                to: None,
            },
        )
        .after(5, Input::Released(call(6), Ok(Released::Released)))
        .wake()
        .check();
}

#[test]
fn health() {
    let mut t = Transcript::of(
        "health",
        false,
        None,
        (Percent::FULL, Some(AppHealth::UNFIT)),
        "An app of which nothing is known: it only looks. Well with a score of 80, it asks 20 %\n\
         # of a call after it knows the lease to be free, 30 ms. Unhealthy, it steps down and\n\
         # gives back what it is granted all the same; a score that moves a little is no event.",
    );
    let fit = |score| Input::Health(AppHealth::fit(Percent::new(score).unwrap()));
    let free = Ok(Observed {
        epoch: None,
        holder: None,
    });
    t.step(0, Input::Wake)
        .step(5, Input::Observed(call(1), free))
        .step(100, fit(80))
        .wake()
        .step(135, Input::Acquired(call(2), won(1)))
        .step(200, fit(75))
        .step(210, fit(40))
        .step(300, Input::Health(AppHealth::UNFIT))
        .step(305, Input::Released(call(3), Ok(Released::Released)))
        .step(310, Input::Health(AppHealth::UNFIT))
        .step(400, fit(100))
        .wake()
        .after(5, Input::Health(AppHealth::UNFIT))
        .after(5, Input::Acquired(call(4), won(2)))
        .check();
}

#[test]
fn cooldown() {
    let mut t = Transcript::new(
        "cooldown",
        false,
        None,
        "In its cooldown a node looks who was granted the lease and does not ask for it: the\n\
         # look may reach the store when that lease is released already, and others wait for\n\
         # it. It asks two calls after it saw the lease free.",
    );
    let free = || {
        Ok(Observed {
            epoch: Some(epoch(8)),
            holder: None,
        })
    };
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            250,
            Input::StepDown {
                cooldown: ms(60_000),
                to: None,
            },
        )
        .step(255, Input::Released(call(2), Ok(Released::Released)))
        .step(400, Input::Hint(Hint::Began(epoch(8))))
        .step(405, Input::Observed(call(3), free()))
        .wake()
        .step(710, Input::Acquired(call(4), won(9)))
        .check();
}

#[test]
fn no_candidate() {
    let mut t = Transcript::new(
        "no_candidate",
        false,
        None,
        "No candidate: it only looks who leads, gives back what it had asked for before, and\n\
         # campaigns when it is one again.",
    );
    let observed = |holder: Option<Holder>| {
        Ok(Observed {
            epoch: Some(epoch(7)),
            holder: holder.map(|holder| (holder, ms(900))),
        })
    };
    t.step(0, Input::Wake)
        .step(5, Input::Candidacy(false))
        .step(10, Input::Acquired(call(1), won(6)))
        .step(12, Input::Released(call(2), Ok(Released::Released)))
        .wake()
        .step(
            60,
            Input::Observed(call(3), observed(Some(holder(7, "other")))),
        )
        .step(
            100,
            Input::Hint(Hint::Ended {
                epoch: epoch(7),
                prefer: None,
            }),
        )
        .step(105, Input::Observed(call(4), observed(None)))
        .step(110, Input::Hint(Hint::Began(epoch(8))))
        .step(115, Input::Observed(call(5), Err(uncertain())))
        .wake()
        .step(180, Input::Observed(call(6), observed(None)))
        .step(200, Input::Candidacy(true))
        .check();
}
