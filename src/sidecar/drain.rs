//! Who has to be done with a leadership before its lease may be given back.
//!
//! An app is asked to drain first and stopped afterwards: a [`Part`] waits for its turn
//! and says when it is done; the election hears of it when all of them are.

use std::sync::Arc;

use tokio::sync::watch;

use super::election::Election;
use crate::lease::Epoch;

/// Up to which epoch each part is done, in the order of the parts. Epochs rise, so
/// whoever is done with one is done with all before it.
type Done = watch::Sender<Vec<Option<Epoch>>>;

/// One of those who have to be done.
pub struct Part {
    election: Election,
    index: usize,
    done: Arc<Done>,
}

impl Election {
    /// The parts of every drain of this election, in their order: its lease is given
    /// back when each of them is done with it. Make them once.
    #[must_use]
    pub fn drained_by(&self, parts: usize) -> Vec<Part> {
        let done: Arc<Done> = Arc::new(watch::Sender::new(vec![None; parts]));
        let part = |index| Part {
            election: self.clone(),
            index,
            done: Arc::clone(&done),
        };
        (0..parts).map(part).collect()
    }
}

impl Part {
    /// Waits until all parts before this one are done with the leadership of that epoch.
    /// Only for a leadership that is given up in order: once it is lost, nobody waits.
    pub async fn turn(&self, epoch: Epoch) {
        let mut done = self.done.subscribe();
        let earlier = |done: &Vec<Option<Epoch>>| {
            let mut earlier = done.iter().take(self.index);
            earlier.all(|done| *done >= Some(epoch))
        };
        // The sender is this part's own: it is never gone.
        let _ = done.wait_for(earlier).await;
    }

    /// Whether all parts before this one are done with the leadership of that epoch.
    #[must_use]
    pub fn is_turn(&self, epoch: Epoch) -> bool {
        let done = self.done.borrow();
        let mut earlier = done.iter().take(self.index);
        earlier.all(|done| *done >= Some(epoch))
    }

    /// This part is done with the leadership of that epoch.
    pub async fn done(&self, epoch: Epoch) {
        let mut all = false;
        self.done.send_modify(|done| {
            if let Some(own) = done.get_mut(self.index) {
                *own = Some(epoch).max(*own);
            }
            all = done.iter().all(|done| *done >= Some(epoch));
        });
        if all {
            self.election.drained(epoch).await;
        }
    }
}
