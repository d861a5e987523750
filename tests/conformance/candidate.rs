//! One session that asks the store directly, as no node would.

use std::sync::Arc;
use std::time::Duration;

use tenure::backend::{Backend, Hints};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, Epoch, Hint, Holder,
    NodeId, Observed, Profile, Released, Renewed, Revision, SessionId, StoreError,
};
use tenure::time::pause;

use crate::bench::{BOUND, LONG, PATIENT, next, now};
use crate::node::{bounded, note};
use crate::recorder::{Grant, Recorder};

/// Between the requests of a candidate that hopes for a grant before its time.
const EAGER: Duration = Duration::from_millis(3);

/// One session that asks the store directly.
#[derive(Clone)]
pub struct Candidate {
    pub session: SessionId,
    pub profile: Profile,
    pub backend: Arc<dyn Backend>,
    pub ttl: Duration,
    /// How long it makes the store hold where their memories differ.
    pub hold: Duration,
    recorder: Arc<Recorder>,
}

/// Asks again while the request surely was not applied.
pub async fn sure<T, F>(ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let until = now() + BOUND;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable(_)) if now() < until => {
                pause(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Candidate {
    pub fn new(backend: Arc<dyn Backend>, node: &str, recorder: Arc<Recorder>) -> Self {
        Self {
            session: SessionId::random().unwrap(),
            profile: Profile {
                node: node.parse().unwrap(),
                url: Some(format!("http://{node}.example:8080/")),
                metadata: Vec::new(),
            },
            backend,
            ttl: LONG,
            hold: Duration::from_millis(100),
            recorder,
        }
    }

    pub fn lasting(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    pub fn node(&self) -> &NodeId {
        &self.profile.node
    }

    pub fn bid(&self) -> Bid {
        Bid {
            session: self.session.clone(),
            profile: self.profile.clone(),
            ttl: self.ttl,
            floor: None,
            incumbent: false,
            hold: self.hold,
        }
    }

    pub fn claim(&self, epoch: Epoch) -> Claim {
        Claim {
            epoch,
            session: self.session.clone(),
            ttl: self.ttl,
            hold: self.hold,
        }
    }

    /// One request; a grant is recorded.
    pub async fn try_bid(&self, bid: &Bid) -> (Result<Acquired, StoreError>, Option<Grant>) {
        let sent_at = now();
        let answer = self.backend.acquire(bid).await;
        let grant = note(&self.recorder, &bid.session, sent_at, &answer);
        (answer, grant)
    }

    pub async fn ask_as(&self, floor: Option<Epoch>, incumbent: bool) -> (Acquired, Option<Grant>) {
        let bid = Bid {
            floor,
            incumbent,
            ..self.bid()
        };
        let until = now() + BOUND;
        loop {
            let ask = || async {
                let (answer, grant) = self.try_bid(&bid).await;
                answer.map(|answer| (answer, grant))
            };
            match sure(ask).await {
                // No contradiction: somebody is asked to come again, as every node does.
                (Acquired::Hold { retry_in, why }, _) if why.passes() && now() < until => {
                    pause(retry_in).await;
                }
                answer => return answer,
            }
        }
    }

    pub async fn ask(&self) -> Acquired {
        self.ask_as(None, false).await.0
    }

    pub async fn win_as(&self, floor: Option<Epoch>, incumbent: bool) -> Grant {
        match self.ask_as(floor, incumbent).await {
            (_, Some(grant)) => grant,
            (other, None) => panic!("{} did not win: {other:?}", self.node()),
        }
    }

    /// The grant that it gets at once.
    pub async fn win(&self) -> Grant {
        self.win_as(None, false).await
    }

    /// Asks until it wins, again and again, so that a grant that comes too early is
    /// seen.
    pub async fn win_in_time(&self, floor: Option<Epoch>) -> Grant {
        let until = now() + BOUND;
        loop {
            let wait = match self.ask_as(floor, false).await {
                (_, Some(grant)) => return grant,
                (Acquired::Held { left, .. }, _) => left,
                (Acquired::Hold { retry_in, .. }, _) => retry_in,
                (Acquired::Won { .. }, None) => unreachable!("a grant is always noted"),
            };
            assert!(now() + wait < until, "{} must wait {wait:?}", self.node());
            pause(wait.min(EAGER)).await;
        }
    }

    /// Who holds it; the candidate expects not to win.
    pub async fn held(&self) -> (Holder, Duration) {
        match self.ask().await {
            Acquired::Held { holder, left } => (holder, left),
            other => panic!("{} was not held off: {other:?}", self.node()),
        }
    }

    pub async fn renew(&self, epoch: Epoch) -> Renewed {
        let claim = self.claim(epoch);
        sure(|| self.backend.renew(&claim)).await
    }

    pub async fn release(&self, epoch: Epoch) -> Released {
        let claim = self.claim(epoch);
        sure(|| self.backend.release(&claim, None)).await
    }

    /// Gives a short lease back. It may have run out by itself where the machine stood still
    /// for as long.
    pub async fn gives_back(&self, grant: &Grant) {
        let released = self.release(grant.epoch).await;
        let over = now() >= grant.ends_at();
        assert!(
            released == Released::Released || over,
            "{released:?}: {grant:?}"
        );
    }

    /// A whole tenure, so that a store that learns its requests at their first use
    /// has learnt them: a request that is lost then is lost once.
    pub async fn begins_and_ends(&self) {
        let epoch = self.win().await.epoch;
        assert!(matches!(self.renew(epoch).await, Renewed::Kept { .. }));
        assert_eq!(self.release(epoch).await, Released::Released);
    }

    /// Looks; nothing changes, so it may be asked again whatever went wrong.
    pub async fn observe(&self) -> Observed {
        let until = now() + BOUND;
        loop {
            match bounded(PATIENT, self.backend.observe()).await {
                Ok(observed) => return observed,
                Err(error) => assert!(now() < until, "{error}"),
            }
            pause(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the store answers, as after its restart.
    pub async fn reached(&self) {
        self.observe().await;
    }

    /// Waits until the store shows what is like that.
    pub async fn sees(&self, what: &str, like: impl Fn(&Observed) -> bool) -> Observed {
        let until = now() + BOUND;
        loop {
            let observed = self.observe().await;
            if like(&observed) {
                return observed;
            }
            assert!(now() < until, "never {what}: {observed:?}");
            pause(Duration::from_millis(5)).await;
        }
    }

    pub async fn sees_free(&self) -> Observed {
        self.sees("free", |observed| observed.holder.is_none())
            .await
    }

    pub async fn sees_held_by(&self, session: &SessionId) -> Observed {
        let held = |observed: &Observed| {
            let holder = observed.holder.as_ref();
            holder.is_some_and(|(holder, _)| &holder.session == session)
        };
        self.sees("held by that session", held).await
    }

    pub async fn checkpoint(&self) -> CheckpointRead {
        sure(|| self.backend.read_checkpoint()).await
    }

    pub async fn write(
        &self,
        epoch: Epoch,
        expected: Option<Revision>,
        bytes: &[u8],
    ) -> CheckpointWritten {
        let write = CheckpointWrite {
            epoch,
            session: self.session.clone(),
            expected,
            bytes: bytes.to_vec(),
        };
        sure(|| self.backend.write_checkpoint(&write)).await
    }

    /// Its wake-ups, past the first `Present`.
    pub async fn listen(&self) -> (Hints, Observed) {
        let mut hints = self.backend.changes();
        match next(&mut hints).await {
            Hint::Present(observed) => (hints, observed),
            other => panic!("the stream began with {other:?}"),
        }
    }
}
