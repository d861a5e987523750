//! Keeping an etcd lease alive.

use std::sync::{Mutex, PoisonError};

use tonic::Status;

use super::client::KeepAlive;
use super::link::{Deadline, Link};
use super::member::{Live, Via};
use super::rpc::LeaseResponse;
use crate::lease::StoreError;

/// The stream over which one lease is kept alive. It is taken out while a keep-alive is
/// under way, so that one that is given up is gone with everything it may still bring.
#[derive(Default)]
pub(super) struct Renewer {
    stream: Mutex<Option<Stream>>,
}

struct Stream {
    via: Via,
    lease: i64,
    keep_alive: KeepAlive,
}

/// An answer to a keep-alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// In seconds; not above 0 where the lease is dead.
    pub ttl: i64,
    /// The store's revision when the member answered, where that says something: `None`
    /// on a connection that is new, and may lead to a store that was set back; and from an
    /// etcd that answers keep-alives without asking whether it still leads (etcd#15247), for
    /// one that hangs on its disk goes on saying that nothing has changed.
    pub revision: Option<i64>,
}

impl Renewer {
    /// Keeps it alive once.
    ///
    /// # Errors
    /// [`StoreError`]: the lease may go on.
    pub(super) async fn renew(
        &self,
        link: &Link,
        deadline: Deadline,
        lease: i64,
    ) -> Result<Answered, StoreError> {
        let ask = |live: Live| self.once(live, lease);
        Ok(link.ask(deadline, ask).await?)
    }

    async fn once(&self, live: Live, lease: i64) -> Result<Answered, Status> {
        let fits = |stream: &Stream| stream.via == live.via && stream.lease == lease;
        if let Some(mut stream) = self.take().filter(fits)
            && let Ok(answer) = stream.keep_alive.again().await
        {
            self.put(stream);
            return Ok(answered(&answer, !live.ends_early));
        }
        // A stream that etcd ended, as when its members elected a leader, is no trouble.
        let (keep_alive, answer) = live.client.keep_alive(lease).await?;
        self.put(Stream {
            via: live.via,
            lease,
            keep_alive,
        });
        Ok(answered(&answer, false))
    }

    /// Ends the stream.
    pub(super) fn rest(&self) {
        self.take();
    }

    fn take(&self) -> Option<Stream> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.take()
    }

    fn put(&self, stream: Stream) {
        let mut kept = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(stream);
    }
}

fn answered(answer: &LeaseResponse, vouches: bool) -> Answered {
    let revision = answer.header.map(|header| header.revision);
    Answered {
        ttl: answer.ttl,
        revision: revision.filter(|_| vouches),
    }
}
