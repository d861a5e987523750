//! The planted bugs, what the violation must be about, and from which seed on it is soon
//! found. Where the plan of a seed has changed, `TENURE_QUORUM_MUTANT_SEEDS=6000 cargo test
//! --release --test quorum_sim planted -- --nocapture` finds the first ones anew.

use tenure::quorum::Flaw;

/// Within how many histories each must be caught.
pub const SEEDS: u64 = 60;

const EXCLUSION: &[&str] = &["exclusion", "epoch", "fencing"];
const VALUE: &[&str] = &["checkpoint", "fencing"];

pub const ALL: &[(Flaw, u64, &[&str])] = &[
    (Flaw::A1GrantsOldEpochs, 0, EXCLUSION),
    (Flaw::A2GrantsOverALiveLease, 0, EXCLUSION),
    (Flaw::A3AnswersWithoutDisk, 2200, EXCLUSION),
    (Flaw::A4RenewsAnybody, 120, EXCLUSION),
    (Flaw::A5ReleasesAnybody, 150, EXCLUSION),
    (Flaw::A6RestartFreesTheLease, 0, EXCLUSION),
    (Flaw::A6EndOutlivesItsGrant, 660, EXCLUSION),
    (
        Flaw::A7BlankDiskVotes,
        50,
        &["exclusion", "epoch", "fencing", "checkpoint"],
    ),
    (
        Flaw::A7TwoDisksUnderOneId,
        2690,
        &["exclusion", "epoch", "fencing", "checkpoint"],
    ),
    (Flaw::C2OwnGrantLast, 0, EXCLUSION),
    (Flaw::C4CountsFromTheAnswer, 1270, EXCLUSION),
    (Flaw::DriftIgnored, 1410, EXCLUSION),
    (Flaw::HalfIsEnough, 0, EXCLUSION),
    (Flaw::OlderEpochsWrite, 130, VALUE),
    (Flaw::NewHolderTrustsItself, 0, VALUE),
    (Flaw::NoWriteBack, 220, VALUE),
    (Flaw::OneAckIsAWrite, 0, VALUE),
    (Flaw::BackOffNeverEnds, 0, &["liveness"]),
];
