//! The numbers of tenures.

use std::time::Duration;

use tenure::lease::{
    Acquired, Drift, Epoch, HoldReason, Released, StoreError, Timing, TimingError,
};

use crate::bench::{Bench, LONG, ROUNDING, now};

/// How one tenure gives way to the next.
#[derive(Clone, Copy, Debug)]
enum End {
    Release,
    Expiry,
    Restart,
}

pub async fn t06_epochs_rise_through_everything(bench: &Bench) {
    let short = bench.fixture.short_ttl();
    let mut ends = [
        End::Release,
        End::Release,
        End::Release,
        End::Expiry,
        End::Expiry,
        End::Restart,
        End::Restart,
    ];
    fastrand::shuffle(&mut ends);
    let mut last = None;
    for (round, end) in ends.into_iter().enumerate() {
        // Half of them take over from another node, half remember nothing.
        let candidate = bench.candidate(&format!("node-{}", round % 2)).await;
        let candidate = match end {
            End::Expiry => candidate.lasting(short),
            End::Restart if !bench.fixture.keeps_releases() => candidate.lasting(short),
            End::Release | End::Restart => candidate,
        };
        let floor = if round % 3 == 0 { last } else { None };
        let grant = candidate.win_in_time(floor).await;
        assert!(Some(grant.epoch) > last, "{:?} after {last:?}", grant.epoch);
        last = Some(grant.epoch);
        match end {
            End::Release => {
                assert_eq!(candidate.release(grant.epoch).await, Released::Released);
            }
            End::Expiry => {
                candidate.sees_free().await;
            }
            End::Restart => {
                candidate.gives_back(&grant).await;
                bench.restart(true).await;
                candidate.reached().await;
            }
        }
    }
    let grants = bench.recorder.grants();
    assert!(grants.len() >= ends.len(), "{grants:?}");
    assert!(grants.is_sorted_by(|earlier, later| earlier.epoch < later.epoch));
}

pub async fn t07_the_epoch_survives_the_lease(bench: &Bench) {
    let one = bench.candidate("one").await;
    let one = one.lasting(bench.fixture.short_ttl());
    let epoch = one.win().await.epoch;
    assert_eq!(one.sees_free().await.epoch, Some(epoch));
    let two = bench.candidate("two").await;
    assert_eq!(two.observe().await.epoch, Some(epoch));
    assert!(two.win().await.epoch > epoch);
}

pub async fn t08_the_floor_is_honoured(bench: &Bench) {
    let mut one = bench.candidate("one").await;
    one.hold = bench.fixture.short_ttl();
    let epoch = one.win().await.epoch;
    assert_eq!(one.release(epoch).await, Released::Released);
    // What the store knows as well contradicts nothing.
    let known = one.win_as(Some(epoch), false).await.epoch;
    assert!(known > epoch);
    assert_eq!(one.release(known).await, Released::Released);
    // What it does not know is a contradiction, and is written down.
    let floor = Epoch::new(known.get() + 1000).unwrap();
    if !bench.fixture.outlives_its_data() {
        // Here it contradicts nothing either: this member may have missed what others know.
        let grant = one.win_in_time(Some(floor)).await;
        assert!(grant.epoch > floor, "{} is not above {floor}", grant.epoch);
        return;
    }
    let asked_at = now();
    match one.ask_as(Some(floor), false).await.0 {
        Acquired::Hold { retry_in, why } => {
            assert_eq!(why, HoldReason::StoreWentBack);
            assert!(retry_in <= one.hold, "{retry_in:?}");
        }
        other => panic!("{other:?}"),
    }
    let two = bench.candidate("two").await;
    let grant = two.win_in_time(None).await;
    assert!(grant.epoch > floor, "{} is not above {floor}", grant.epoch);
    assert!(
        grant.answered_at >= asked_at + one.hold - ROUNDING,
        "{grant:?}"
    );

    // By the incumbent of an epoch that is ahead of the clock, after a loss: neither
    // the store nor the clock knows how high to go.
    let ahead = Epoch::new(grant.epoch.get() + 1_000_000).unwrap();
    assert_eq!(two.release(grant.epoch).await, Released::Released);
    let grant = two.win_in_time(Some(ahead)).await;
    bench.wipe().await;
    let again = two.win_as(Some(grant.epoch), true).await;
    assert!(again.epoch > grant.epoch, "{again:?} after {grant:?}");
}

pub async fn t09_what_is_out_of_range_is_refused(bench: &Bench) {
    for number in [0, 1 << 53, u64::MAX] {
        let refused = Epoch::new(number).unwrap_err().to_string();
        let clear = refused.contains(&number.to_string()) && refused.contains("9007199254740991");
        assert!(clear, "{refused}");
    }
    for text in ["0", "-1", "1.5", "1e3", "9007199254740992", " 1", ""] {
        assert!(text.parse::<Epoch>().is_err(), "{text:?} was taken");
    }
    for ttl in [Duration::ZERO, Duration::from_millis(99), LONG * 10_000] {
        let refused = Timing::of_ttl(ttl).unwrap_err();
        assert!(matches!(refused, TimingError::Ttl(_)), "{refused}");
    }
    let call = LONG / 2;
    let sum = Timing::new(LONG, LONG / 2, call, Duration::ZERO, Drift::ONE_PERCENT);
    assert!(matches!(sum, Err(TimingError::Sum { .. })), "{sum:?}");

    let mut one = bench.candidate("one").await;
    one.reached().await;
    for ttl in [Duration::ZERO, Duration::MAX] {
        let one = one.clone().lasting(ttl);
        let (answer, grant) = one.try_bid(&one.bid()).await;
        assert!(grant.is_none(), "a lease of {ttl:?} was granted");
        refused(&answer.unwrap_err(), "TTL");
    }
    assert_eq!(
        one.observe().await.epoch,
        None,
        "a refused bid left a trace"
    );

    one.hold = Duration::from_millis(20);
    let exhausted = loop {
        let mut bid = one.bid();
        bid.floor = Some(Epoch::MAX);
        match one.try_bid(&bid).await.0 {
            Ok(Acquired::Hold { retry_in, .. }) => tenure::time::pause(retry_in).await,
            other => break other,
        }
    };
    refused(&exhausted.unwrap_err(), "9007199254740991");
}

fn refused(error: &StoreError, names: &str) {
    assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
    assert!(error.to_string().contains(names), "{error}");
}
