//! What may happen to a machine.

use proptest::prelude::*;

/// What a test does next; numbers are folded into what is possible then.
#[derive(Clone, Debug)]
pub enum Move {
    Wake,
    /// Waits for the machine's own alarm.
    Alarm,
    Answer {
        which: u8,
        how: u8,
        left_ms: u64,
        raise: u64,
    },
    /// An answer to a call that was answered before, or never made.
    Stray {
        call: u64,
        kind: u8,
        epoch: u64,
    },
    Hint {
        kind: u8,
        epoch: u64,
    },
    /// Of the app at work, or of one of an earlier epoch.
    Drained {
        late: u64,
    },
    /// The app at work, or one of an earlier epoch, ends by itself.
    AppEnded {
        late: u64,
    },
    /// The app at work, or one of an earlier epoch, is unfit and will be ended.
    AppUnfit {
        late: u64,
    },
    Candidacy(bool),
    Health {
        healthy: bool,
        score: u8,
    },
    StepDown {
        cooldown_ms: u64,
        to_self: bool,
    },
    Stop,
}

/// Mostly what is at work; else that many tenures ago.
pub fn late() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => 1..4u64]
}

pub fn moves() -> impl Strategy<Value = (u64, Move)> {
    let answer = (any::<u8>(), any::<u8>(), 0..4_000u64, 0..5u64).prop_map(
        |(which, how, left_ms, raise)| Move::Answer {
            which,
            how,
            left_ms,
            raise,
        },
    );
    let stray = (0..40u64, any::<u8>(), 1..60u64).prop_map(|(call, kind, epoch)| Move::Stray {
        call,
        kind,
        epoch,
    });
    let hint = (any::<u8>(), 1..60u64).prop_map(|(kind, epoch)| Move::Hint { kind, epoch });
    let step_down =
        (0..3_000u64, any::<bool>()).prop_map(|(cooldown_ms, to_self)| Move::StepDown {
            cooldown_ms,
            to_self,
        });
    let next = prop_oneof![
        2 => Just(Move::Wake),
        6 => Just(Move::Alarm),
        12 => answer,
        1 => stray,
        2 => hint,
        2 => late().prop_map(|late| Move::Drained { late }),
        1 => late().prop_map(|late| Move::AppEnded { late }),
        1 => late().prop_map(|late| Move::AppUnfit { late }),
        1 => prop::bool::weighted(0.7).prop_map(Move::Candidacy),
        1 => (prop::bool::weighted(0.7), 0..=100u8)
            .prop_map(|(healthy, score)| Move::Health { healthy, score }),
        1 => step_down,
        1 => prop::bool::weighted(0.1).prop_map(|stop| if stop { Move::Stop } else { Move::Wake }),
    ];
    // Mostly small steps, now and then a pause beyond a lease.
    let pause = prop_oneof![8 => 0..200u64, 1 => 0..3_000u64];
    (pause, next)
}
