//! The cluster's members, and which of them is asked.
//!
//! One member is asked at a time, over one connection, and the next one where it does
//! not answer: a channel that is balanced over all of them goes on giving requests to
//! one that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tonic::Status;

use super::member::{Common, Live, Member};
use super::target::EtcdTarget;
use super::trouble::{self, Trouble};
use crate::lease::StoreError;
use crate::time::{Clock, Moment, millis, pause, within};
use crate::wire::Credentials;

/// As many members are asked within one call; the next call goes on from there.
const ATTEMPTS: usize = 3;
/// Between attempts to take changed credentials up that the server refuses.
const TRY_CHANGED_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Link {
    address: String,
    members: Vec<Arc<Member>>,
    /// The one that is asked first.
    current: AtomicUsize,
    common: Arc<Common>,
}

/// When a call that began now must have been answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Moment);

impl Link {
    pub(super) fn new(
        target: &EtcdTarget,
        credentials: Credentials,
        call_timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let common = Arc::new(Common {
            credentials,
            call_timeout,
            clock,
        });
        let members = target.servers().iter().enumerate();
        Self {
            address: target.to_string(),
            members: members
                .map(|(number, endpoint)| {
                    let common = Arc::clone(&common);
                    Arc::new(Member::new(number, endpoint.clone(), target.tls(), common))
                })
                .collect(),
            current: AtomicUsize::new(0),
            common,
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.common.clock
    }

    /// A little before the caller's own patience ends: whoever waits in vain is to find
    /// that out while it can still act.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline(self.clock().now() + self.common.call_timeout * 9 / 10)
    }

    fn left(&self, deadline: Deadline) -> Duration {
        deadline.0.since(self.clock().now())
    }

    /// The connection to the member that is asked at present, or to the next one that
    /// can be reached.
    ///
    /// # Errors
    /// No request was made.
    pub(super) async fn live(&self, deadline: Deadline) -> Result<Live, StoreError> {
        let mut last = self.nobody();
        let attempts = self.members.len().min(ATTEMPTS);
        for left in (1..=attempts).rev() {
            let Some((at, member)) = self.member() else {
                break;
            };
            match member.live(self.share(deadline, left)).await {
                Ok(live) => return Ok(live),
                Err(error) => last = error,
            }
            self.leave(at);
        }
        Err(last)
    }

    /// Makes a request that may be made twice, and of more than one member: a read, or
    /// what changes nothing the second time.
    ///
    /// # Errors
    /// Of the last member asked.
    pub(super) async fn ask<T, F>(
        &self,
        deadline: Deadline,
        request: impl Fn(Live) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut last = Failure::unreached(self.nobody());
        let attempts = self.members.len().min(ATTEMPTS);
        for left in (1..=attempts).rev() {
            let Some((at, member)) = self.member() else {
                break;
            };
            let limit = self.share(deadline, left);
            match self.one(member, limit, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if !failure.elsewhere => return Err(failure),
                Err(failure) => last = last.or(failure),
            }
            self.leave(at);
        }
        Err(last)
    }

    /// Makes a request that must not be made twice: without an answer nobody knows
    /// whether it was applied, and only the next call goes to another member.
    ///
    /// # Errors
    /// `Unavailable` where it surely was not applied.
    pub(super) async fn tell<T, F>(
        &self,
        deadline: Deadline,
        request: impl Fn(Live) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut answer = self.tell_once(deadline, &request).await;
        if matches!(&answer, Err(failure) if failure.unsent) {
            answer = self.tell_once(deadline, &request).await;
        }
        answer
    }

    async fn tell_once<T, F>(
        &self,
        deadline: Deadline,
        request: impl FnOnce(Live) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let live = self.live(deadline).await.map_err(Failure::of)?;
        let at = live.via.member;
        let Some(member) = self.members.get(at) else {
            return Err(Failure::of(self.nobody()));
        };
        let limit = self.share(deadline, self.members.len().min(ATTEMPTS));
        let answer = answer(member, live, limit, request).await;
        if let Err(failure) = &answer
            && failure.elsewhere
            && !failure.unsent
        {
            self.leave(at);
        }
        answer
    }

    async fn one<T, F>(
        &self,
        member: &Arc<Member>,
        limit: Duration,
        request: &impl Fn(Live) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let until = self.clock().now() + limit;
        let mut ended = true;
        loop {
            let limit = until.since(self.clock().now());
            let live = member.live(limit).await.map_err(Failure::unreached)?;
            let limit = until.since(self.clock().now());
            match answer(member, live, limit, request).await {
                // Another connection to the same member, once.
                Err(failure) if failure.unsent && ended => ended = false,
                answer => return answer,
            }
        }
    }

    /// What the end of a stream on that connection means.
    pub(super) fn stream_ended(&self, live: &Live, status: &Status) -> StoreError {
        let trouble = trouble::judge(status, &live.name);
        if let Some(member) = self.members.get(live.via.member) {
            if trouble.cut {
                member.cut(live.via, &trouble.error.to_string());
            }
            if trouble.elsewhere && !trouble.unsent {
                self.leave(live.via.member);
            }
        }
        trouble.error
    }

    fn member(&self) -> Option<(usize, &Arc<Member>)> {
        let at = self.current.load(Ordering::Relaxed);
        self.members.get(at).map(|member| (at, member))
    }

    /// Asks the next member from now on, unless somebody has turned away already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len().max(1);
        let _ = self
            .current
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What one of `left` attempts may take.
    fn share(&self, deadline: Deadline, left: usize) -> Duration {
        self.left(deadline) / u32::try_from(left).unwrap_or(1).max(1)
    }

    fn nobody(&self) -> StoreError {
        StoreError::Unavailable(format!("{} names no server", self.address))
    }

    /// Takes changed credentials up, member by member. Never ends.
    async fn rotate(&self) {
        let credentials = &self.common.credentials;
        let mut used = credentials.newest();
        loop {
            let newest = credentials.newer_than(&used).await;
            let mut all = true;
            for member in &self.members {
                let current = member.shown();
                if current.is_none_or(|shown| Arc::ptr_eq(&shown, &newest)) {
                    continue;
                }
                let replaced = member.replace(Arc::clone(&newest), self.common.call_timeout);
                match replaced.await {
                    Ok(()) => tracing::info!(
                        store = member.name(),
                        "connected to etcd with changed credentials"
                    ),
                    Err(error) => {
                        all = false;
                        tracing::warn!(
                            store = member.name(),
                            %error,
                            "changed credentials do not work yet; the connection in use stays"
                        );
                    }
                }
            }
            if all {
                used = newest;
            } else {
                pause(TRY_CHANGED_EVERY).await;
            }
        }
    }
}

/// The task that takes changed credentials up; it ends with this value.
pub(super) struct Rotation(AbortHandle);

impl Rotation {
    pub(super) fn start(link: &Arc<Link>) -> Self {
        let link = Arc::clone(link);
        Self(tokio::spawn(async move { link.rotate().await }).abort_handle())
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer<T, F>(
    member: &Member,
    live: Live,
    limit: Duration,
    request: impl FnOnce(Live) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Status>>,
{
    let via = live.via;
    let asked = within(limit, request(live)).await;
    let failure = match asked {
        Some(Ok(answer)) => return Ok(answer),
        Some(Err(status)) => Failure {
            lease_gone: trouble::is_lease_gone(&status),
            ..Failure::new(trouble::judge(&status, member.name()))
        },
        None => {
            let why = format!(
                "{} did not answer within {} ms",
                member.name(),
                millis(limit)
            );
            Failure::new(Trouble::broken(StoreError::Indeterminate(why)))
        }
    };
    if failure.cut {
        member.cut(via, &failure.error.to_string());
    }
    Err(failure)
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: StoreError,
    /// The lease that it named does not exist.
    pub lease_gone: bool,
    cut: bool,
    elsewhere: bool,
    unsent: bool,
    unreached: bool,
}

impl Failure {
    /// There was no connection to make it on.
    fn unreached(error: StoreError) -> Self {
        Self {
            elsewhere: true,
            unreached: true,
            ..Self::of(error)
        }
    }

    /// Of two members' failures the one to tell: that the request may have been applied,
    /// else what a member said, else the later one.
    fn or(self, later: Self) -> Self {
        let doubt = |failure: &Self| failure.error.may_have_happened();
        let told = (doubt(&self), !self.unreached) > (doubt(&later), !later.unreached);
        if told { self } else { later }
    }

    fn new(trouble: Trouble) -> Self {
        Self {
            error: trouble.error,
            lease_gone: false,
            cut: trouble.cut,
            elsewhere: trouble.elsewhere,
            unsent: trouble.unsent,
            unreached: false,
        }
    }

    pub(super) fn of(error: StoreError) -> Self {
        Self::new(Trouble::refused(error))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}
