//! Asking for the lease.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use tenure::lease::{Acquired, Epoch, Hint, Observed, Released, Renewed, SessionId};
use tenure::time::{BootClock, Clock as _, pause};

use crate::bench::{Bench, Candidate, LONG, PATIENT, next, now};
use crate::fault::Fault;

pub async fn t01_an_empty_store_grants_above_the_floor(bench: &Bench) {
    let one = bench.candidate("one").await;
    assert_eq!(one.observe().await, Observed::default());
    let grant = one.win().await;
    assert_eq!(grant.left, LONG);
    assert_eq!(one.observe().await.epoch, Some(grant.epoch));

    // A node that remembers more than the store finds nothing but a contradiction, and
    // is granted an epoch above what it remembers once the hold is over.
    let bench = bench.other_election("with-a-floor");
    let one = bench.candidate("one").await;
    let floor = Epoch::new(BootClock.wall().0 + 1_000_000).unwrap();
    let grant = one.win_in_time(Some(floor)).await;
    assert!(grant.epoch > floor, "{grant:?}");
    bench.judge();
}

pub async fn t02_a_second_candidate_is_told_the_holder(bench: &Bench) {
    let (one, two) = (bench.candidate("one").await, bench.candidate("two").await);
    let before = BootClock.wall();
    let grant = one.win().await;
    let after = BootClock.wall();
    let (holder, left) = two.held().await;
    assert_eq!(holder.epoch, grant.epoch);
    assert_eq!(holder.session, one.session);
    assert_eq!(holder.profile, one.profile);
    assert_eq!(holder.ttl, LONG);
    let gone = now().since(grant.sent_at) + Duration::from_millis(5);
    let most = bench.fixture.binds_for(LONG);
    assert!(left <= most && left + gone >= LONG, "{left:?} {gone:?}");
    let second = Duration::from_secs(1);
    let since = holder.since;
    assert!(
        before.before(second) <= since && since <= after.after(second),
        "{since} is not from {before} to {after}"
    );
    // Looking tells the same.
    let (seen, _) = two.observe().await.holder.unwrap();
    assert_eq!(seen, holder);
}

pub async fn t03_of_many_racing_one_wins(bench: &Bench) {
    const RACERS: usize = 6;
    for round in 0..3 {
        let bench = bench.other_election(&format!("round-{round}"));
        let start = Arc::new(Barrier::new(RACERS));
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (bench, start) = (bench.clone(), Arc::clone(&start));
                // Threads, so that they race where no network makes them.
                std::thread::spawn(move || race(&bench, racer, &start))
            })
            .collect();
        let join = move || -> Vec<Acquired> {
            let ended = racers.into_iter().map(|racer| racer.join().unwrap());
            ended.collect()
        };
        let answers = tokio::task::spawn_blocking(join).await.unwrap();
        let won: Vec<Epoch> = answers
            .iter()
            .filter_map(|answer| match answer {
                Acquired::Won { epoch, .. } => Some(*epoch),
                _ => None,
            })
            .collect();
        assert_eq!(won.len(), 1, "round {round}: {answers:?}");
        for answer in &answers {
            match answer {
                Acquired::Won { .. } => {}
                Acquired::Held { holder, .. } => assert_eq!(holder.epoch, won[0]),
                Acquired::Hold { .. } => panic!("a hold without a contradiction: {answer:?}"),
            }
        }
        bench.judge();
    }
}

fn race(bench: &Bench, racer: usize, start: &Barrier) -> Acquired {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let candidate = bench.candidate(&format!("racer-{racer}")).await;
        candidate.reached().await;
        start.wait();
        candidate.ask().await
    })
}

pub async fn t04_the_same_session_finds_its_grant_again(bench: &Bench) {
    let ttl = bench.fixture.short_ttl();
    let one = bench.candidate("one").await.lasting(ttl);
    let two = bench.candidate("two").await;
    let first = one.win().await;
    pause(ttl / 3).await;
    let second = one.win().await;
    if second.epoch != first.epoch {
        // Only a machine that stood still lets the first lease run out.
        assert!(second.answered_at >= first.ends_at(), "{second:?}");
    }
    assert_eq!(second.left, first.left, "the time counts anew");
    let taken = two.win_in_time(None).await;
    assert!(
        taken.answered_at >= second.ends_at(),
        "{second:?} {taken:?}"
    );
    assert_eq!(two.release(taken.epoch).await, Released::Released);
    dead_epochs(bench).await;
}

/// An epoch that the bidder calls dead is not given again, and a release for it that
/// comes late changes nothing.
async fn dead_epochs(bench: &Bench) {
    let (dying, way) = bench.faulty_candidate("one").await;
    let mut one = bench.candidate("one").await;
    one.session = dying.session.clone();
    let dead = one.win().await.epoch;
    way.set(Fault::HeldRequests);
    let claim = one.claim(dead);
    let late = tokio::spawn(async move { dying.backend.release(&claim, None).await });
    let fresh = one.win_as(Some(dead), false).await.epoch;
    assert!(fresh > dead, "{fresh} after {dead}");
    way.set(Fault::None);
    let _ = late.await.unwrap();
    // The same by a call whose answer is sure.
    assert_eq!(one.release(dead).await, Released::NotHeld);
    assert_eq!(one.renew(fresh).await, Renewed::Kept { left: LONG });
    assert!(matches!(one.renew(dead).await, Renewed::Lost(_)));
    let (holder, _) = one.observe().await.holder.unwrap();
    assert_eq!((holder.epoch, &holder.session), (fresh, &one.session));
}

pub async fn t05_a_new_session_of_the_same_node_is_held_off(bench: &Bench) {
    let before = bench.candidate("one").await;
    let epoch = before.win().await.epoch;
    let mut after = bench.candidate("one").await;
    assert_ne!(before.session, after.session);
    let (holder, _) = after.held().await;
    assert_eq!((holder.epoch, &holder.session), (epoch, &before.session));
    // Remembering the epoch gives no right to it.
    let (answer, _) = after.ask_as(Some(epoch), false).await;
    assert!(matches!(answer, Acquired::Held { .. }), "{answer:?}");
    assert!(matches!(after.renew(epoch).await, Renewed::Lost(Some(_))));
    assert_eq!(after.release(epoch).await, Released::NotHeld);
    after.session = SessionId::random().unwrap();
    after.held().await;
}

pub async fn t28_metadata_comes_back_unchanged(bench: &Bench) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let cases: [(&str, Option<&str>, Vec<u8>); 4] = [
        ("plain", None, Vec::new()),
        (
            "pod-1.ns.svc",
            Some("http://10.0.0.1:8080/a?b=c&d"),
            every_byte.clone(),
        ),
        (
            "nœud \"1\" {x} \\ \u{1F511}",
            Some("https://[::1]/ü%00"),
            vec![0; 5],
        ),
        ("big", Some(""), every_byte.repeat(16)),
    ];
    for (node, url, metadata) in cases {
        let mut one = bench.candidate(node).await;
        one.profile.url = url.map(str::to_owned);
        one.profile.metadata = metadata;
        let grant = one.win().await;
        told_everywhere(bench, &one, grant.epoch).await;
        assert_eq!(one.release(grant.epoch).await, Released::Released);
    }
}

async fn told_everywhere(bench: &Bench, one: &Candidate, epoch: Epoch) {
    let two = bench.candidate_on(&*bench.fixture.store(PATIENT).await, "two");
    let (held, _) = two.held().await;
    assert_eq!(held.profile, one.profile);
    let (observed, _) = two.observe().await.holder.unwrap();
    assert_eq!(observed, held);
    match two.renew(epoch).await {
        Renewed::Lost(Some(holder)) => assert_eq!(holder, held),
        other => panic!("{other:?}"),
    }
    match next(&mut two.backend.changes()).await {
        Hint::Present(Observed {
            holder: Some((holder, _)),
            ..
        }) => assert_eq!(holder, held),
        other => panic!("{other:?}"),
    }
}
