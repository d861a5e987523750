//! The rules of the records and the stamps, without a log or a disk.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::lease::{
    Acquired, Bid, CheckpointWrite, CheckpointWritten, Claim, Drift, ElectionName, Epoch, Hint,
    HoldReason, Profile, Released, Renewed, SessionId,
};
use crate::time::{Moment, UnixMs};

const TTL: Duration = Duration::from_secs(1);

fn session(id: &str) -> SessionId {
    // 32 hexadecimal digits, as those of a process are.
    id.repeat(32).parse().unwrap()
}

fn orders() -> ElectionName {
    "orders".parse().unwrap()
}

fn bid(id: &str, floor: Option<Epoch>) -> Bid {
    Bid {
        session: session(id),
        profile: Profile {
            node: id.parse().unwrap(),
            url: None,
            metadata: vec![0, 255],
        },
        ttl: TTL,
        floor,
        incumbent: false,
        hold: TTL * 2,
    }
}

fn claim(id: &str, epoch: Epoch) -> Claim {
    Claim {
        epoch,
        session: session(id),
        ttl: TTL,
        hold: TTL * 2,
    }
}

fn ask(records: &mut Records, change: Change) -> (Outcome, Option<Hint>) {
    records.apply(&Request {
        election: orders(),
        change,
    })
}

fn acquire(records: &mut Records, id: &str, floor: Option<Epoch>) -> Acquired {
    let change = Change::Acquire {
        bid: bid(id, floor),
        wall: UnixMs(500),
    };
    match ask(records, change).0 {
        Outcome::Acquired(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn wins(records: &mut Records, id: &str) -> Epoch {
    match acquire(records, id, None) {
        Acquired::Won { epoch, left } if left == TTL => epoch,
        other => panic!("{other:?}"),
    }
}

fn seq(records: &Records) -> u64 {
    match records.get(&orders()).until() {
        Some(Until::LeaseOver { seq, .. } | Until::HoldOver { seq, .. }) => seq,
        None => panic!("nothing is to end"),
    }
}

#[test]
fn a_lease_ends_by_an_entry_and_a_renewal_before_it_wins() {
    let mut records = Records::default();
    let first = wins(&mut records, "a");
    assert_eq!(first.get(), 500, "at least the wall clock");
    let stale = seq(&records);
    assert!(matches!(
        acquire(&mut records, "b", None),
        Acquired::Held { .. }
    ));
    let kept = ask(&mut records, Change::Renew(claim("a", first)));
    assert_eq!(kept.0, Outcome::Renewed(Renewed::Kept { left: TTL }));
    let late = ask(&mut records, Change::Expire { seq: stale });
    assert_eq!(late, (Outcome::Expired(false), None));
    assert!(matches!(
        acquire(&mut records, "b", None),
        Acquired::Held { .. }
    ));

    let over = Change::Expire { seq: seq(&records) };
    let (outcome, told) = ask(&mut records, over.clone());
    assert_eq!(outcome, Outcome::Expired(true));
    assert!(matches!(told, Some(Hint::Present(seen)) if seen.holder.is_none()));
    assert_eq!(ask(&mut records, over).0, Outcome::Expired(false));
    let lost = ask(&mut records, Change::Renew(claim("a", first)));
    assert_eq!(lost.0, Outcome::Renewed(Renewed::Lost(None)));
    // Over in time, so nobody waits for a lease that vanished.
    let next = wins(&mut records, "b");
    assert!(next > first);
}

#[test]
fn who_remembers_more_than_the_record_makes_it_hold_until_an_entry_ends_that() {
    let mut records = Records::default();
    let floor = Epoch::new(9_000).unwrap();
    let hold = acquire(&mut records, "a", Some(floor));
    let why = HoldReason::StoreWentBack;
    assert_eq!(
        hold,
        Acquired::Hold {
            retry_in: TTL * 2,
            why
        }
    );
    let begun = seq(&records);
    let standing = acquire(&mut records, "b", None);
    assert!(matches!(
        standing,
        Acquired::Hold {
            why: HoldReason::Standing,
            ..
        }
    ));
    assert_eq!(seq(&records), begun, "the hold does not begin anew");
    let answer = records.get(&orders()).idle_answer(&bid("b", None));
    assert!(matches!(answer, Some(Acquired::Hold { .. })), "{answer:?}");
    ask(&mut records, Change::Expire { seq: begun });
    assert!(wins(&mut records, "b") > floor);
}

#[test]
fn a_release_and_a_checkpoint_obey_the_register() {
    let mut records = Records::default();
    let epoch = wins(&mut records, "a");
    let write = |id: &str, expected| {
        Change::Write(CheckpointWrite {
            epoch,
            session: session(id),
            expected,
            bytes: vec![1, 2, 3],
        })
    };
    let Outcome::Written(CheckpointWritten::Written(revision)) =
        ask(&mut records, write("a", None)).0
    else {
        panic!("not written");
    };
    let other = ask(&mut records, write("b", Some(revision))).0;
    assert!(matches!(
        other,
        Outcome::Written(CheckpointWritten::Stale { .. })
    ));
    let again = ask(&mut records, write("a", None)).0;
    assert!(matches!(
        again,
        Outcome::Written(CheckpointWritten::Mismatch { .. })
    ));
    let release = Change::Release {
        claim: claim("a", epoch),
        prefer: Some("b".parse().unwrap()),
    };
    let (outcome, told) = ask(&mut records, release.clone());
    assert_eq!(outcome, Outcome::Released(Released::Released));
    assert!(matches!(
        told,
        Some(Hint::Ended {
            prefer: Some(_),
            ..
        })
    ));
    assert_eq!(
        ask(&mut records, release).0,
        Outcome::Released(Released::Released)
    );
    assert_eq!(records.get(&orders()).until(), None);
    assert!(wins(&mut records, "b") > epoch);
}

#[test]
fn no_stamp_lets_a_lease_end_before_its_holder_does() {
    let mut records = Records::default();
    let mut stamps = Stamps::new(Drift::ONE_PERCENT);
    wins(&mut records, "a");
    let applied = Moment::from_millis(10_000);
    let until = records.get(&orders()).until();
    stamps.applied(applied, &orders(), until);
    let due = stamps.wake_at().unwrap();
    assert!(due >= applied + Drift::ONE_PERCENT.lengthen(TTL));
    // Applied again, as after a change of the checkpoint, it is no longer lease.
    stamps.applied(due, &orders(), until);
    assert_eq!(stamps.wake_at(), Some(due));
    assert_eq!(stamps.over(due - Duration::from_millis(1)), []);
    assert_eq!(stamps.left(applied, &orders()), TTL);
    let late = applied + TTL;
    assert_eq!(stamps.left(late, &orders()), due.since(late));
    assert_eq!(stamps.left(due, &orders()), Duration::ZERO);
    let over = stamps.over(due);
    assert_eq!(over.len(), 1);
    assert_eq!(records.apply(&over[0]).0, Outcome::Expired(true));
    stamps.replaced(due, &records);
    assert_eq!(stamps.wake_at(), None);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire(usize, bool),
    Renew(usize),
    Release(usize),
    Write(usize),
    Expire(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3usize, any::<bool>()).prop_map(|(who, floor)| Step::Acquire(who, floor)),
        2 => (0..3usize).prop_map(Step::Renew),
        1 => (0..3usize).prop_map(Step::Release),
        1 => (0..3usize).prop_map(Step::Write),
        2 => (0..3u64).prop_map(Step::Expire),
    ]
}

proptest! {
    /// Whatever is asked in whatever order: the epochs rise, a lease passes only by a
    /// release or an expiry of its newest change, and a replica that reads the entries
    /// from disk, or begins from a snapshot, ends up with the same.
    #[test]
    fn any_log_keeps_the_promise_and_gives_each_replica_the_same(
        steps in proptest::collection::vec(step(), 1..60),
        cut in 0..60usize,
    ) {
        let names = ["a", "b", "c"];
        let (mut one, mut two) = (Records::default(), Records::default());
        let mut newest: [Option<Epoch>; 3] = [None; 3];
        let mut highest: Option<Epoch> = None;
        for (index, step) in steps.into_iter().enumerate() {
            let record = one.get(&orders());
            let holder = record.observe().holder.map(|(holder, _)| holder);
            let current = record.until().map(|until| match until {
                Until::LeaseOver { seq, .. } | Until::HoldOver { seq, .. } => seq,
            });
            let held = |who: usize| claim(names[who], newest[who].unwrap_or(Epoch::new(1).unwrap()));
            let change = match step {
                Step::Acquire(who, floor) => Change::Acquire {
                    bid: bid(names[who], newest[who].filter(|_| floor)),
                    wall: UnixMs(index as u64),
                },
                Step::Renew(who) => Change::Renew(held(who)),
                Step::Release(who) => Change::Release { claim: held(who), prefer: None },
                Step::Write(who) => Change::Write(CheckpointWrite {
                    epoch: held(who).epoch,
                    session: session(names[who]),
                    expected: match record.checkpoint() {
                        crate::lease::CheckpointRead::Present(stored) => Some(stored.revision),
                        _ => None,
                    },
                    bytes: vec![0; 3],
                }),
                Step::Expire(back) => Change::Expire {
                    seq: current.unwrap_or(0).saturating_sub(back),
                },
            };
            let request = Request { election: orders(), change };
            let (outcome, _) = one.apply(&request);
            if let Outcome::Acquired(Acquired::Won { epoch, .. }) = outcome {
                let Step::Acquire(who, _) = step else { panic!() };
                if Some(epoch) != highest {
                    prop_assert!(Some(epoch) > highest, "{epoch:?} after {highest:?}");
                    // A live lease passes to nobody else by a bid.
                    let other = holder.filter(|holder| holder.session != session(names[who]));
                    prop_assert_eq!(other, None);
                }
                highest = highest.max(Some(epoch));
                newest[who] = Some(epoch);
            }
            if let Outcome::Expired(true) = outcome {
                prop_assert!(matches!(step, Step::Expire(0)) || current.unwrap_or(0) == 0);
            }
            if index == cut {
                let snapshot = serde_json::to_vec(&two).unwrap();
                two = serde_json::from_slice(&snapshot).unwrap();
            }
            let entry = serde_json::to_vec(&request).unwrap();
            let (same, _) = two.apply(&serde_json::from_slice(&entry).unwrap());
            prop_assert_eq!(same, outcome);
            prop_assert_eq!(&one, &two);
        }
    }
}
