//! The faults of a network for stores that have none: a wrapper around a store.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tenure::backend::{Backend, Guarantees, Hints, Store};
use tenure::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, Hint,
    NodeId, Observed, Released, Renewed, StoreError,
};
use tokio::sync::watch;

use crate::fault::{Fault, Way};

/// A store behind a way that can fail.
pub struct Faulty {
    inner: Arc<dyn Store>,
    switch: Arc<Switch>,
}

/// The way.
pub struct Switch {
    fault: watch::Sender<Fault>,
    cuts: watch::Sender<u64>,
}

impl Faulty {
    pub fn around(inner: Arc<dyn Store>) -> (Arc<dyn Store>, Arc<dyn Way>) {
        let switch = Arc::new(Switch {
            fault: watch::channel(Fault::None).0,
            cuts: watch::channel(0).0,
        });
        let way = Arc::clone(&switch);
        (Arc::new(Self { inner, switch }), way)
    }
}

impl Way for Switch {
    fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Store for Faulty {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(FaultyElection {
            inner: self.inner.election(name),
            switch: Arc::clone(&self.switch),
        })
    }
}

struct FaultyElection {
    inner: Arc<dyn Backend>,
    switch: Arc<Switch>,
}

impl FaultyElection {
    /// Makes one call under the present fault. What was sent happens, though the
    /// caller go away.
    async fn call<T, F>(&self, ask: impl FnOnce(Arc<dyn Backend>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let fault = *self.switch.fault.borrow();
        let mut faults = self.switch.fault.subscribe();
        let ask = ask(Arc::clone(&self.inner));
        let over = async move {
            let _ = faults.wait_for(|now| *now != fault).await;
        };
        let silence = || Err(StoreError::Indeterminate(format!("{fault:?}")));
        match fault {
            Fault::None => ask.await,
            Fault::Refused => Err(StoreError::Unavailable("refused".to_owned())),
            Fault::BlackHole | Fault::LostRequests => {
                over.await;
                silence()
            }
            Fault::HeldRequests => sent(async move {
                over.await;
                ask.await
            })
            .await
            .unwrap_or_else(silence),
            Fault::SlowReplies(by) => {
                let answer = sent(ask).await;
                tokio::time::sleep(by).await;
                answer.unwrap_or_else(silence)
            }
            Fault::HeldReplies => {
                let answer = sent(ask).await;
                over.await;
                answer.unwrap_or_else(silence)
            }
            Fault::LostReplies => {
                let _ = sent(ask).await;
                over.await;
                silence()
            }
        }
    }
}

async fn sent<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.ok()
}

#[async_trait]
impl Backend for FaultyElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        let bid = bid.clone();
        self.call(|inner| async move { inner.acquire(&bid).await })
            .await
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        let claim = claim.clone();
        self.call(|inner| async move { inner.renew(&claim).await })
            .await
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        let (claim, prefer) = (claim.clone(), prefer.cloned());
        self.call(|inner| async move { inner.release(&claim, prefer.as_ref()).await })
            .await
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        self.call(|inner| async move { inner.observe().await })
            .await
    }

    fn changes(&self) -> Hints {
        let listening = Listening {
            inner: Arc::clone(&self.inner),
            hints: None,
            told: false,
            fault: self.switch.fault.subscribe(),
            cuts: self.switch.cuts.subscribe(),
        };
        futures_util::stream::unfold(listening, |mut listening| async move {
            let hint = listening.next().await?;
            Some((hint, listening))
        })
        .boxed()
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        self.call(|inner| async move { inner.read_checkpoint().await })
            .await
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        let write = write.clone();
        self.call(|inner| async move { inner.write_checkpoint(&write).await })
            .await
    }
}

/// A stream of hints that can be cut.
struct Listening {
    inner: Arc<dyn Backend>,
    hints: Option<Hints>,
    /// Something was told since the last gap.
    told: bool,
    fault: watch::Receiver<Fault>,
    cuts: watch::Receiver<u64>,
}

impl Listening {
    async fn next(&mut self) -> Option<Hint> {
        loop {
            let silent = self.fault.borrow_and_update().silences();
            if silent {
                self.hints = None;
            }
            if self.hints.is_none() && std::mem::take(&mut self.told) {
                return Some(Hint::Gap);
            }
            if silent {
                self.fault.changed().await.ok()?;
                continue;
            }
            let hints = self.hints.get_or_insert_with(|| self.inner.changes());
            tokio::select! {
                biased;
                _ = self.cuts.changed() => self.hints = None,
                _ = self.fault.changed() => {}
                hint = hints.next() => {
                    self.told = true;
                    return hint;
                }
            }
        }
    }
}
