//! The fence: what a token is worth, and what is written under it.

use tenure::lease::checkpoint::MAX_BYTES;
use tenure::lease::{
    Checkpoint, CheckpointRead, CheckpointWritten, Epoch, Released, Revision, Validity,
};

use crate::bench::{Bench, Candidate};

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

pub async fn t24_validate_judges_every_token(bench: &Bench) {
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    let judge = async |token: Epoch| two.observe().await.validate(token, None);
    assert_eq!(judge(epoch(1)).await, Validity::Unknown);
    one.begins_and_ends().await;
    let first = one.win().await.epoch;
    assert_eq!(judge(first).await, Validity::Current);
    assert_eq!(judge(epoch(first.get() + 1)).await, Validity::Unknown);
    assert_eq!(judge(epoch(1)).await, Validity::Stale);
    assert_eq!(one.release(first).await, Released::Released);
    assert_eq!(judge(first).await, Validity::NoLeader);
    let short = two.clone().lasting(bench.fixture.short_ttl());
    let second = short.win().await.epoch;
    assert_eq!(judge(first).await, Validity::Stale);
    two.sees_free().await;
    assert_eq!(judge(second).await, Validity::NoLeader);
    assert_eq!(judge(first).await, Validity::Stale);
    if !bench.fixture.outlives_its_data() {
        return;
    }
    // What the node has seen counts where the store forgot it.
    bench.wipe().await;
    let forgotten = two.observe().await;
    assert_eq!(forgotten.epoch, None);
    assert_eq!(forgotten.validate(first, Some(second)), Validity::Stale);
    assert_eq!(forgotten.validate(second, Some(second)), Validity::NoLeader);
}

fn written(answer: CheckpointWritten) -> Revision {
    match answer {
        CheckpointWritten::Written(revision) => revision,
        other => panic!("not written: {other:?}"),
    }
}

async fn holds(candidate: &Candidate, revision: Revision, bytes: &[u8]) {
    match candidate.checkpoint().await {
        CheckpointRead::Present(Checkpoint {
            revision: stored,
            bytes: kept,
        }) => {
            assert_eq!(stored, revision);
            assert!(kept == bytes, "{} bytes came back changed", kept.len());
        }
        other => panic!("{other:?}"),
    }
}

fn is_stale(answer: CheckpointWritten, newest: Epoch, stored: Option<Revision>) {
    match answer {
        CheckpointWritten::Stale { epoch, revision } => {
            assert_eq!((epoch, revision), (Some(newest), stored));
        }
        other => panic!("a stale write was taken: {other:?}"),
    }
}

pub async fn t25_checkpoint_is_fenced_and_kept(bench: &Bench) {
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    assert_eq!(one.checkpoint().await, CheckpointRead::Absent);
    match one.write(epoch(1), None, b"nobody leads").await {
        CheckpointWritten::Stale { revision: None, .. } => {}
        other => panic!("{other:?}"),
    }
    let short = one.clone().lasting(bench.fixture.written_ttl());
    let first = short.win().await.epoch;
    let big: Vec<u8> = (0..=255).cycle().take(MAX_BYTES).collect();
    // Until the lease is over, and after it as long as nobody else was granted one.
    let revision = written(one.write(first, None, &big).await);
    assert_eq!(revision.epoch, first);
    holds(&two, revision, &big).await;
    compare_and_set(&one, first, revision).await;
    let CheckpointRead::Present(last) = two.checkpoint().await else {
        panic!("the checkpoint is gone");
    };

    two.sees_free().await;
    holds(&two, last.revision, &last.bytes).await;
    let second = two.win().await.epoch;
    holds(&two, last.revision, &last.bytes).await;
    is_stale(
        one.write(first, Some(last.revision), b"late").await,
        second,
        Some(last.revision),
    );
    is_stale(
        one.write(second, Some(last.revision), b"not its own").await,
        second,
        Some(last.revision),
    );
    is_stale(
        two.write(epoch(second.get() + 1), Some(last.revision), b"ahead")
            .await,
        second,
        Some(last.revision),
    );
    holds(&one, last.revision, &last.bytes).await;
    let newest = written(two.write(second, Some(last.revision), b"").await);
    assert!(newest > last.revision);
    holds(&one, newest, b"").await;
    assert_eq!(two.release(second).await, Released::Released);
    is_stale(
        two.write(second, Some(newest), b"after its release").await,
        second,
        Some(newest),
    );
    survives_the_store(bench, &one, newest).await;
}

async fn compare_and_set(one: &Candidate, epoch: Epoch, first: Revision) {
    let refused = |revision| CheckpointWritten::Mismatch { revision };
    assert_eq!(one.write(epoch, None, b"x").await, refused(Some(first)));
    let second = written(one.write(epoch, Some(first), &[0, 255, 10, 13]).await);
    assert!(second > first, "{second} after {first}");
    // A delayed older write never lands on a newer one.
    let late = one.write(epoch, Some(first), b"late").await;
    assert_eq!(late, refused(Some(second)));
    holds(one, second, &[0, 255, 10, 13]).await;
}

async fn survives_the_store(bench: &Bench, one: &Candidate, newest: Revision) {
    let guarantees = bench
        .fixture
        .store(crate::bench::PATIENT)
        .await
        .guarantees();
    bench.restart(true).await;
    one.reached().await;
    holds(one, newest, b"").await;
    if !bench.fixture.outlives_its_data() {
        return assert!(guarantees.survives_store_crash.is_yes(), "{guarantees:?}");
    }
    bench.restart(false).await;
    one.reached().await;
    let lost = one.checkpoint().await;
    assert!(
        matches!(lost, CheckpointRead::Absent | CheckpointRead::Lost(_)),
        "{lost:?}"
    );
    // One that loses data keeps no promise without a condition over its loss.
    assert!(
        !guarantees.one_leader_after_data_loss.is_yes(),
        "{guarantees:?}"
    );
}
