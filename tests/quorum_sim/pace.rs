//! How long elections take when nothing else goes wrong.

use tenure::quorum::Algorithm;

use crate::clock::{MS, TrueNs};
use crate::plan::{Fault, FaultKind, Plan, SECOND};
use crate::report::Report;
use crate::world::{Event, World};

fn median(mut spans: Vec<TrueNs>) -> f64 {
    spans.sort_unstable();
    spans[spans.len() / 2] as f64 / 1e6
}

fn calm(seed: u64, members: usize, algorithm: Algorithm, together: bool) -> Plan {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut plan = Plan::quiet(seed, members, algorithm, &mut rng);
    plan.network.base = 2 * MS;
    plan.together = together;
    plan
}

fn crash_the_leader(seed: u64, members: usize, algorithm: Algorithm) -> TrueNs {
    let mut plan = calm(seed, members, algorithm, true);
    let at = 8 * SECOND + fastrand::Rng::with_seed(seed).u64(..2 * SECOND);
    plan.faults.push(Fault {
        at,
        kind: FaultKind::Crash,
        member: 0,
        other: 0,
        lasts: 10 * SECOND,
        at_leader: true,
    });
    let report = World::new(plan, None, false).run();
    assert_eq!(report.violation, None, "seed {seed}");
    report.began.iter().find(|began| **began > at).unwrap() - at
}

#[test]
fn a_crashed_leader_is_replaced_within_a_lease_and_an_election() {
    for algorithm in [Algorithm::Bully, Algorithm::Ring] {
        for members in [3, 5] {
            let spans = (0..40).map(|seed| crash_the_leader(seed, members, algorithm));
            let spans: Vec<_> = spans.collect();
            let (middle, longest) = (median(spans.clone()), *spans.iter().max().unwrap());
            println!(
                "{algorithm:?}, {members} members: crash to leader {middle:.0} ms median, {} ms longest",
                longest / MS
            );
            assert!(longest < 5 * SECOND, "{algorithm:?}: {} ms", longest / MS);
        }
    }
}

/// FAULTS.md, "three-at-once": one leader, one epoch everywhere.
#[test]
fn elections_begun_together_converge_on_one_leader() {
    for algorithm in [Algorithm::Bully, Algorithm::Ring] {
        for members in [3, 5, 7] {
            let run = |seed| {
                let plan = calm(seed, members, algorithm, true);
                let report = World::new(plan, None, false).run();
                assert_eq!(report.violation, None, "seed {seed}");
                assert_eq!(report.tenures, 1, "{algorithm:?}, seed {seed}");
                report.began[0]
            };
            let spans: Vec<_> = (0..30).map(run).collect();
            let (middle, longest) = (median(spans.clone()), *spans.iter().max().unwrap());
            println!(
                "{algorithm:?}, {members} members: start to leader {middle:.0} ms median, {} ms longest",
                longest / MS
            );
            assert!(longest < 3 * SECOND, "{algorithm:?}: {} ms", longest / MS);
        }
    }
}

/// FAULTS.md, "ring-gap": two neighbours on the ring are dead, and skipped.
#[test]
fn two_dead_neighbours_do_not_stop_an_election() {
    for algorithm in [Algorithm::Bully, Algorithm::Ring] {
        for seed in 0..20 {
            let plan = calm(seed, 5, algorithm, true);
            let calm_from = plan.calm_from;
            let mut world = World::new(plan, None, false);
            let first = usize::try_from(seed).unwrap() % 5;
            for dead in [first, (first + 1) % 5] {
                world.queue.push(4 * SECOND, Event::Crash(dead));
            }
            let report: Report = world.run();
            assert_eq!(report.violation, None, "{algorithm:?}, seed {seed}");
            assert!(report.began.iter().all(|began| *began < calm_from));
        }
    }
}

/// Which words between the highest of five and the three lowest are lost.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Both,
    FromTheHighest,
    ToTheHighest,
}

fn cut_the_highest_off(plan: &mut Plan, cut: Cut) {
    let highest = plan.clocks.len() - 1;
    let mut lose = |member, other| {
        plan.faults.push(Fault {
            at: 0,
            kind: FaultKind::CutLink,
            member,
            other,
            lasts: plan.calm_from,
            at_leader: false,
        });
    };
    for low in 0..highest - 1 {
        if !matches!(cut, Cut::ToTheHighest) {
            lose(highest, low);
        }
        if !matches!(cut, Cut::FromTheHighest) {
            lose(low, highest);
        }
    }
}

fn start_to_leader(seed: u64, algorithm: Algorithm, cut: Cut) -> TrueNs {
    let mut plan = calm(seed, 5, algorithm, seed.is_multiple_of(2));
    cut_the_highest_off(&mut plan, cut);
    let calm_from = plan.calm_from;
    let report = World::new(plan, None, false).run();
    assert_eq!(
        report.violation, None,
        "{algorithm:?}, {cut:?}, seed {seed}"
    );
    report.began.first().copied().unwrap_or(calm_from)
}

/// All but the highest make a full majority; the highest reaches the second-highest alone, and
/// must not stand in its way.
#[test]
fn a_high_rank_that_reaches_one_other_blocks_no_election() {
    for algorithm in [Algorithm::Bully, Algorithm::Ring] {
        for cut in [Cut::Both, Cut::FromTheHighest, Cut::ToTheHighest] {
            let spans = (0..40).map(|seed| start_to_leader(seed, algorithm, cut));
            let spans: Vec<_> = spans.collect();
            let (middle, longest) = (median(spans.clone()), *spans.iter().max().unwrap());
            println!(
                "{algorithm:?}, {cut:?}: start to leader {middle:.0} ms median, {} ms longest",
                longest / MS
            );
            assert!(
                longest < 5 * SECOND,
                "{algorithm:?}, {cut:?}: {} ms",
                longest / MS
            );
        }
    }
}

/// Alone it reaches nobody, which is no reason to let a lower rank go first once it does.
#[test]
fn the_highest_that_was_alone_wins_when_the_others_come() {
    for (algorithm, members) in [
        (Algorithm::Bully, 3),
        (Algorithm::Bully, 5),
        (Algorithm::Ring, 3),
        (Algorithm::Ring, 5),
    ] {
        let run = |seed| {
            let mut plan = calm(seed, members, algorithm, true);
            let alone = 2 * SECOND + fastrand::Rng::with_seed(seed).u64(..SECOND);
            for member in 0..members - 1 {
                plan.faults.push(Fault {
                    at: 0,
                    kind: FaultKind::Crash,
                    member,
                    other: 0,
                    lasts: alone,
                    at_leader: false,
                });
            }
            let report = World::new(plan, None, false).run();
            assert_eq!(report.violation, None, "{algorithm:?}, seed {seed}");
            assert_eq!(report.leaders, [members - 1], "{algorithm:?}, seed {seed}");
            report.began[0] - alone
        };
        let longest = (0..40).map(run).max().unwrap();
        println!(
            "{algorithm:?}, {members} members: the highest leads within {} ms",
            longest / MS
        );
        assert!(longest < SECOND, "{} ms", longest / MS);
    }
}
