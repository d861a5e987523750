//! Many elections in one store.

use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use tenure::backend::Hints;
use tenure::lease::{
    CheckpointRead, CheckpointWritten, Epoch, Hint, Observed, Released, Renewed, SessionId,
};

use crate::bench::{Bench, Candidate, LONG, PATIENT, next};

pub async fn t29_elections_are_isolated(bench: &Bench) {
    let store = bench.fixture.store(PATIENT).await;
    // Names that a careless prefix, glob or path would confuse.
    let names = ["a", "a.b", "a.d", "a-1", "A"];
    let benches = names.map(|name| bench.other_election(name));
    let mut all = Vec::new();
    for bench in &benches {
        let mut candidate = bench.candidate_on(&*store, "one");
        // One session everywhere: only the election tells them apart.
        candidate.session = SessionId::from_bits(29);
        let (hints, _) = candidate.listen().await;
        all.push((candidate, hints));
    }
    let mut epochs = Vec::new();
    for at in 0..all.len() {
        for (candidate, _) in &all[at..] {
            assert_eq!(candidate.observe().await, Observed::default());
        }
        let (candidate, hints) = &mut all[at];
        let epoch = candidate.win().await.epoch;
        assert_eq!(next(hints).await, Hint::Began(epoch));
        let bytes = names[at].as_bytes();
        assert_eq!(candidate.checkpoint().await, CheckpointRead::Absent);
        let written = candidate.write(epoch, None, bytes).await;
        assert!(
            matches!(written, CheckpointWritten::Written(_)),
            "{written:?}"
        );
        epochs.push(epoch);
    }
    let (first, _) = &all[0];
    let other = benches[0].candidate_on(&*store, "other");
    assert_eq!(first.release(epochs[0]).await, Released::Released);
    other.win().await;
    for at in 1..all.len() {
        let (candidate, hints) = &mut all[at];
        assert!(matches!(
            candidate.renew(epochs[at]).await,
            Renewed::Kept { .. }
        ));
        match candidate.checkpoint().await {
            CheckpointRead::Present(kept) => assert_eq!(kept.bytes, names[at].as_bytes()),
            other => panic!("{other:?}"),
        }
        assert_eq!(candidate.release(epochs[at]).await, Released::Released);
        // Nothing of the others came before it.
        let ended = Hint::Ended {
            epoch: epochs[at],
            prefer: None,
        };
        assert_eq!(next(hints).await, ended);
    }
    for bench in &benches {
        bench.judge();
    }
}

pub async fn t31_a_hundred_elections_over_one_connection(bench: &Bench) {
    const ELECTIONS: usize = 100;
    let store = bench.fixture.store(PATIENT).await;
    let benches: Vec<Bench> = (0..ELECTIONS)
        .map(|at| bench.other_election(&format!("{at}")))
        .collect();
    let tenures = benches.iter().map(|bench| async {
        let candidate = bench.candidate_on(&*store, "one");
        let (mut hints, _) = candidate.listen().await;
        let epoch = candidate.win().await.epoch;
        assert_eq!(next(&mut hints).await, Hint::Began(epoch));
        assert_eq!(candidate.renew(epoch).await, Renewed::Kept { left: LONG });
        (candidate, hints, epoch)
    });
    let tenures: Vec<(Candidate, Hints, Epoch)> = join_all(tenures).await;
    if let Some(connections) = bench.fixture.connections().await {
        assert_eq!(
            connections,
            bench.fixture.connections_of_a_store(),
            "{ELECTIONS} elections took {connections} connections"
        );
    }
    // All hold at once, and each is released in its own turn.
    for (candidate, ..) in &tenures {
        candidate.sees_held_by(&candidate.session).await;
    }
    let ends = tenures
        .into_iter()
        .map(|(candidate, mut hints, epoch)| async move {
            assert_eq!(candidate.release(epoch).await, Released::Released);
            let ended = Hint::Ended {
                epoch,
                prefer: None,
            };
            assert_eq!(next(&mut hints).await, ended);
            assert_eq!(hints.next().now_or_never(), None);
        });
    join_all(ends).await;
    for bench in &benches {
        bench.judge();
    }
}
