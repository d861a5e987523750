//! Makes the machine's calls to the store, each bounded by the call timeout.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::metrics::Metrics;
use crate::backend::Backend;
use crate::lease::{
    Acquired, Bid, Claim, ElectionName, Epoch, Observed, Profile, SessionId, StoreError, Timing,
};
use crate::machine::{Action, CallId, Input};
use crate::memory::Memory;
use crate::time::{Clock, within};

/// How many requests of apps are under way at the store at once. They share its connection
/// with the renewals: a thousand answers of 64 KiB would hold those up, or make a Redis drop
/// the connection (client-output-buffer-limit).
pub(super) const APP_REQUESTS: usize = 16;

/// Who asks, and whom.
#[derive(Clone)]
pub(super) struct Caller {
    pub name: ElectionName,
    pub session: SessionId,
    pub profile: Profile,
    pub timing: Timing,
    pub backend: Arc<dyn Backend>,
    pub memory: Arc<Memory>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// A turn for each request of an app, of all elections.
    pub app_requests: Arc<Semaphore>,
}

impl Caller {
    /// The call that an action stands for; `None` where it stands for none.
    pub(super) fn make(&self, action: Action) -> Option<BoxFuture<'static, Input>> {
        let caller = self.clone();
        match action {
            Action::Acquire {
                call,
                floor,
                incumbent,
                hold,
            } => {
                let bid = Bid {
                    session: self.session.clone(),
                    profile: self.profile.clone(),
                    ttl: self.timing.ttl(),
                    floor: floor.max(self.memory.epoch()),
                    incumbent,
                    hold,
                };
                Some(caller.acquire(call, bid).boxed())
            }
            Action::Observe { call } => Some(caller.observe(call).boxed()),
            Action::Renew { call, epoch } => {
                let claim = self.claim(epoch);
                let renew = async move {
                    let sent_at = caller.clock.now();
                    let answer = caller.bounded(caller.backend.renew(&claim)).await;
                    let took = caller.clock.now().since(sent_at);
                    caller.metrics.renewal(&answer, took);
                    Input::Renewed(call, answer)
                };
                Some(renew.boxed())
            }
            Action::Release {
                call,
                epoch,
                prefer,
            } => {
                let claim = self.claim(epoch);
                let release = async move {
                    let release = caller.backend.release(&claim, prefer.as_ref());
                    Input::Released(call, caller.bounded(release).await)
                };
                Some(release.boxed())
            }
            _ => None,
        }
    }

    fn claim(&self, epoch: Epoch) -> Claim {
        Claim {
            epoch,
            session: self.session.clone(),
            ttl: self.timing.ttl(),
            hold: self.timing.hold(self.timing.ttl()),
        }
    }

    /// No epoch reaches the machine before it is remembered.
    async fn acquire(self, call: CallId, bid: Bid) -> Input {
        let answer = self.bounded(self.backend.acquire(&bid)).await;
        let seen = match &answer {
            Ok(Acquired::Won { epoch, .. }) => Some(*epoch),
            Ok(Acquired::Held { holder, .. }) => Some(holder.epoch),
            _ => None,
        };
        let Some(epoch) = seen else {
            return Input::Acquired(call, answer);
        };
        let Err(error) = self.memory.see_epoch(epoch).await else {
            return Input::Acquired(call, answer);
        };
        if matches!(answer, Ok(Acquired::Won { .. })) {
            // Never acted on, so free at once; should this fail, it runs out.
            let claim = self.claim(epoch);
            let _ = self.bounded(self.backend.release(&claim, None)).await;
        }
        Input::Acquired(call, Err(StoreError::Rejected(error.to_string())))
    }

    /// Who holds the lease. The own one, left to run out, is nobody's.
    async fn observe(self, call: CallId) -> Input {
        let observed = self.bounded(self.backend.observe()).await;
        let observed = match observed {
            Ok(observed) => self.remembered(observed).await,
            Err(error) => Err(error),
        };
        Input::Observed(call, observed)
    }

    async fn remembered(&self, mut observed: Observed) -> Result<Observed, StoreError> {
        if let Some(epoch) = observed.epoch {
            let seen = self.memory.see_epoch(epoch).await;
            seen.map_err(|error| StoreError::Rejected(error.to_string()))?;
        }
        observed
            .holder
            .take_if(|(holder, _)| holder.session == self.session);
        Ok(observed)
    }

    /// For an app, once it is its turn.
    pub(super) async fn for_app<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let turn = within(self.timing.call_timeout(), self.app_requests.acquire());
        match turn.await {
            Some(Ok(_turn)) => self.bounded(work).await,
            _ => Err(StoreError::Unavailable(format!(
                "{APP_REQUESTS} requests for the store are under way already, and none has ended \
                 in time: ask less often, or less at once"
            ))),
        }
    }

    /// What does not answer in time may have happened.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.timing.call_timeout();
        within(limit, work).await.unwrap_or_else(|| {
            let limit = humantime::format_duration(limit);
            let text = format!("no answer within the call timeout of {limit}");
            Err(StoreError::Indeterminate(text))
        })
    }
}
