//! Wake-ups.

use std::cell::Cell;
use std::time::Duration;

use tenure::lease::{Epoch, Hint, Observed, Released};
use tenure::time::pause;

use crate::bench::{Bench, hears, next};
use crate::fault::Fault;

pub async fn t18_the_stream_begins_with_the_present(bench: &Bench) {
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    let (_, empty) = two.listen().await;
    assert_eq!(empty, Observed::default());
    let epoch = one.win().await.epoch;
    let (mut held_stream, held) = two.listen().await;
    let (holder, left) = held.holder.unwrap();
    assert_eq!((held.epoch, holder.epoch), (Some(epoch), epoch));
    assert_eq!(holder.profile, one.profile);
    assert!(!left.is_zero());
    assert_eq!(one.release(epoch).await, Released::Released);
    let (mut free_stream, free) = two.listen().await;
    assert_eq!((free.epoch, free.holder), (Some(epoch), None));
    // Then what happens, in order.
    let ended = Hint::Ended {
        epoch,
        prefer: None,
    };
    let mut told = next(&mut held_stream).await;
    if told == Hint::Began(epoch) {
        // The beginning, on its way to a member that the majority did without.
        told = next(&mut held_stream).await;
    }
    assert_eq!(told, ended);
    let began = Hint::Began(two.win().await.epoch);
    assert_eq!(next(&mut held_stream).await, began);
    // Here the end, which was on its way, may still be told: no harm in that.
    hears(&mut free_stream, "the beginning", |hint| *hint == began).await;
}

pub async fn t19_after_a_cut_a_gap_and_the_state(bench: &Bench) {
    let one = bench.candidate("one").await;
    let (far, way) = bench.faulty_candidate("far").await;
    let (mut hints, _) = far.listen().await;
    let mut last = None;
    for fault in [
        Fault::Refused,
        Fault::BlackHole,
        Fault::LostReplies,
        Fault::None,
    ] {
        let epoch = one.win_in_time(last).await.epoch;
        let began = Hint::Began(epoch);
        hears(&mut hints, "the beginning", |hint| *hint == began).await;
        way.set(fault);
        if fault == Fault::None {
            way.cut();
        }
        // What is told meanwhile is not heard, or heard late.
        assert_eq!(one.release(epoch).await, Released::Released);
        if fault != Fault::None && fault != Fault::Refused {
            // A silence is noticed by whoever asks.
            let _ = crate::node::bounded(crate::bench::CALL, far.backend.observe()).await;
        }
        hears(&mut hints, "the gap", |hint| *hint == Hint::Gap).await;
        way.set(Fault::None);
        let held = Cell::new(false);
        let free = |hint: &Hint| match hint {
            Hint::Present(seen) if seen.epoch == Some(epoch) => {
                !held.replace(seen.holder.is_some())
            }
            // Where nothing kept the stream away, it may be back before the release is in
            // force, which is told next.
            Hint::Ended { epoch: ended, .. } if fault == Fault::None => {
                held.get() && *ended == epoch
            }
            _ => false,
        };
        hears(&mut hints, "the state after the gap", free).await;
        last = Some(epoch);
    }
    let began = Hint::Began(one.win().await.epoch);
    // The end, which was on its way, may still be told: no harm in that.
    hears(&mut hints, "the beginning", |hint| *hint == began).await;
}

pub async fn t20_no_wake_up_is_lost_to_a_race(bench: &Bench) {
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    for round in 0..60 {
        let epoch = one.win().await.epoch;
        let release = async {
            spread(round % 4).await;
            assert_eq!(one.release(epoch).await, Released::Released);
        };
        let wait = async {
            spread(round / 4 % 4).await;
            let mut hints = two.backend.changes();
            hears(&mut hints, "the release", |hint| tells_free(hint, epoch)).await;
        };
        // Which of them begins is a matter of who is polled first, too.
        if round % 2 == 0 {
            tokio::join!(release, wait);
        } else {
            tokio::join!(wait, release);
        }
    }
}

fn tells_free(hint: &Hint, released: Epoch) -> bool {
    match hint {
        Hint::Present(seen) => seen.epoch == Some(released) && seen.holder.is_none(),
        Hint::Ended { epoch, .. } => *epoch == released,
        Hint::Began(_) | Hint::Gap => false,
    }
}

/// Up to a millisecond, so that two that begin together meet at different points.
async fn spread(steps: u64) {
    if steps > 0 {
        pause(Duration::from_micros(fastrand::u64(..steps * 333))).await;
    }
}
