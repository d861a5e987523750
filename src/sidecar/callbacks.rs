//! Calling an embedding app when its leadership begins and ends.

use tokio::task::JoinHandle;

use super::election::Election;
use crate::lease::Epoch;

impl Election {
    /// Calls `acquired` when this node begins to lead and `lost` when it ceases to,
    /// each with the token, strictly in turn. `lost` is called at the deadline at the
    /// latest, from a timer of its own: neither a store that hangs nor a late election
    /// loop delays it. A slow callback delays only the next one, never a renewal;
    /// work that outlives `lost` is what the fencing token is for.
    ///
    /// The task ends with the election; abort it to stop the calls.
    ///
    /// # Errors
    /// Where the process has no file descriptor left for a timer.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn on_change(
        &self,
        mut acquired: impl FnMut(Epoch) + Send + 'static,
        mut lost: impl FnMut(Epoch) + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let election = self.clone();
        let mut watch = self.watch()?;
        Ok(tokio::spawn(async move {
            let mut led = None;
            while watch.changed().await.is_some() {
                // Asked anew: the watch may have waited for this task's turn.
                let leads = election.fence_token();
                if led == leads {
                    continue;
                }
                if let Some(token) = led.take() {
                    lost(token);
                }
                if let Some(token) = leads {
                    acquired(token);
                    led = Some(token);
                }
            }
            if let Some(token) = led {
                lost(token);
            }
        }))
    }
}
