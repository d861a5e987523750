//! An epoch is issued once, to one session, and each is above all before it.

use tenure::lease::{Epoch, SessionId};

use super::Verdict;

#[derive(Default)]
pub struct Epochs {
    newest: Option<(Epoch, SessionId)>,
    pub tenures: u64,
}

impl Epochs {
    pub fn issued(&mut self, epoch: Epoch, session: &SessionId) -> Verdict {
        if let Some((newest, holder)) = &self.newest {
            // The answer to a lost answer.
            if *newest == epoch && holder == session {
                return Ok(());
            }
            if epoch == *newest {
                return Err(format!("epoch {epoch} issued twice"));
            }
            if epoch < *newest {
                return Err(format!("epoch {epoch} issued after {newest}"));
            }
        }
        self.newest = Some((epoch, session.clone()));
        self.tenures += 1;
        Ok(())
    }
}
