//! The wake-ups of one election, from the connection to whoever listens.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::lease::{Hint, Observed, StoreError};
use crate::time::within;

/// Events that a listener may lag behind before it is told of a gap.
const BACKLOG: usize = 64;
/// Between looks that the server refused, while the connection stands.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What happens to a subscription.
#[derive(Clone, Debug)]
enum Event {
    /// Messages flow from now on.
    Ready,
    /// They do not, and some may have been lost.
    Cut,
    /// A message.
    Hint(Hint),
}

/// One channel.
pub(super) struct Topic {
    channel: String,
    events: broadcast::Sender<Event>,
    /// Whether messages flow.
    flows: Mutex<bool>,
}

impl Topic {
    pub(super) fn new(channel: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            events: broadcast::channel(BACKLOG).0,
            flows: Mutex::new(false),
        }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    pub(super) fn has_listeners(&self) -> bool {
        self.events.receiver_count() > 0
    }

    fn flows(&self) -> MutexGuard<'_, bool> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, hint: Hint) {
        // Nobody listening is no error.
        let _ = self.events.send(Event::Hint(hint));
    }

    pub(super) fn ready(&self) {
        *self.flows() = true;
        let _ = self.events.send(Event::Ready);
    }

    pub(super) fn cut(&self) {
        *self.flows() = false;
        let _ = self.events.send(Event::Cut);
    }

    /// Marks it as unsubscribed where nobody listens. Under the lock, so that a
    /// listener that comes now either keeps it or finds it not flowing.
    pub(super) fn rest_if_unheard(&self) -> bool {
        let mut flows = self.flows();
        if self.has_listeners() {
            return false;
        }
        *flows = false;
        true
    }

    pub(super) fn listen(&self) -> Listener {
        let flows = self.flows();
        Listener {
            events: self.events.subscribe(),
            phase: if *flows { Phase::Asking } else { Phase::Deaf },
            told: Observed::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Messages do not flow, or the state could not be read.
    Deaf,
    /// Messages flow, and the state is to be read before they are passed on.
    Asking,
    /// Messages are passed on.
    Hearing,
}

/// One listener's place in a topic.
pub(super) struct Listener {
    events: broadcast::Receiver<Event>,
    phase: Phase,
    /// The last state that was told.
    told: Observed,
}

impl Listener {
    /// The next hint; `look` reads the state. `None` where the store is gone.
    ///
    /// The state is read after messages flow, and messages that come meanwhile wait
    /// in the backlog: what happens after the look is told after it.
    pub(super) async fn next<F>(&mut self, look: impl Fn() -> F) -> Option<Hint>
    where
        F: Future<Output = Result<Observed, StoreError>>,
    {
        loop {
            match self.phase {
                Phase::Asking => match look().await {
                    Ok(observed) => {
                        self.phase = Phase::Hearing;
                        self.told = observed.clone();
                        return Some(Hint::Present(observed));
                    }
                    Err(_) => self.phase = Phase::Deaf,
                },
                Phase::Deaf => match within(LOOK_AGAIN, self.events.recv()).await {
                    // A look will tell what these told.
                    Some(Ok(Event::Hint(_) | Event::Cut) | Err(RecvError::Lagged(_))) => {}
                    Some(Ok(Event::Ready)) | None => self.phase = Phase::Asking,
                    Some(Err(RecvError::Closed)) => return None,
                },
                Phase::Hearing => match self.events.recv().await {
                    Ok(Event::Hint(hint)) if is_in(&hint, &self.told) => {}
                    Ok(Event::Hint(hint)) => return Some(hint),
                    Ok(Event::Ready) => self.phase = Phase::Asking,
                    Ok(Event::Cut) => {
                        self.phase = Phase::Deaf;
                        return Some(Hint::Gap);
                    }
                    Err(RecvError::Lagged(_)) => {
                        self.phase = Phase::Asking;
                        return Some(Hint::Gap);
                    }
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}

/// Whether a message tells what the look before it has told: it was on its way then.
fn is_in(hint: &Hint, told: &Observed) -> bool {
    match hint {
        Hint::Began(epoch) => Some(*epoch) <= told.epoch,
        Hint::Ended { epoch, .. } => {
            let free = told.holder.is_none();
            Some(*epoch) < told.epoch || (Some(*epoch) == told.epoch && free)
        }
        Hint::Present(_) | Hint::Gap => false,
    }
}
