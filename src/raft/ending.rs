//! The end of a member's Raft before the end of its process.
//!
//! `openraft` ends for good when its disk has refused a single write, and `redb` takes no other
//! one then. That is right: what is on the disk is unknown until it is read anew, at a start.

use openraft::error::Fatal;

use super::member::Member;
use super::types::RaftId;
use crate::lease::StoreError;

impl Member {
    /// Why Raft has ended here, for good, where it has: this member promises nothing any more.
    pub fn ended(&self) -> Option<StoreError> {
        let metrics = self.raft.metrics();
        let why = match &metrics.borrow().running_state {
            Ok(()) if metrics.has_changed().is_ok() => return None,
            // It went without a word.
            Ok(()) => Fatal::<RaftId>::Panicked.to_string(),
            Err(Fatal::Stopped) => {
                let why = "this member is stopping".to_owned();
                return Some(StoreError::Unavailable(why));
            }
            Err(fatal) => fatal.to_string(),
        };
        Some(StoreError::Unavailable(format!(
            "Raft has ended on this member, which takes no part until it is restarted ({why}): \
             see to the disk of {} (free space on it, or replace it), then restart the node",
            self.options.file().display()
        )))
    }

    /// Waits for that.
    pub async fn until_ended(&self) -> StoreError {
        loop {
            let mut metrics = self.raft.metrics();
            // An error says that there will be no more of them: the end as well.
            let _ = metrics.wait_for(|it| it.running_state.is_err()).await;
            if let Some(why) = self.ended() {
                return why;
            }
        }
    }
}
