//! The epochs of acknowledged writes never go down; what was acknowledged is never lost;
//! what a leader resumed from stays, unless it or a later one writes.

use std::collections::BTreeMap;

use tenure::lease::{Checkpoint, Epoch, Revision};

use super::Verdict;

#[derive(Default)]
pub struct Checkpoints {
    values: BTreeMap<Revision, Vec<u8>>,
    acknowledged: Option<Revision>,
    /// What the newest leader found, and under which epoch it did.
    resumed: Option<(Epoch, Option<Revision>)>,
    pub writes: u64,
}

/// What a read may return, noted when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    acknowledged: Option<Revision>,
    resumed: Option<(Epoch, Option<Revision>)>,
}

impl Checkpoints {
    /// Where two lead at once, the older one may hear late of a write that the members
    /// took before the newer one's claim: `in_order` is then not asked for.
    pub fn acknowledge(
        &mut self,
        epoch: Epoch,
        revision: Revision,
        bytes: Vec<u8>,
        in_order: bool,
    ) -> Verdict {
        if revision.epoch != epoch {
            return Err(format!("checkpoint: {epoch} wrote {revision}"));
        }
        if in_order && Some(revision) <= self.acknowledged {
            let newest = self.acknowledged;
            return Err(format!("fencing: {revision} acknowledged after {newest:?}"));
        }
        self.acknowledged = self.acknowledged.max(Some(revision));
        self.writes += 1;
        match self.values.insert(revision, bytes.clone()) {
            Some(other) if other != bytes => Err(format!("checkpoint: {revision} has two values")),
            _ => Ok(()),
        }
    }

    pub fn asked(&self) -> Asked {
        Asked {
            acknowledged: self.acknowledged,
            resumed: self.resumed,
        }
    }

    pub fn read(&mut self, asked: Asked, found: Option<&Checkpoint>, by: Option<Epoch>) -> Verdict {
        let revision = found.map(|found| found.revision);
        if revision < asked.acknowledged {
            let wanted = asked.acknowledged;
            return Err(format!(
                "checkpoint: {wanted:?} was acknowledged, and {revision:?} read"
            ));
        }
        if let (Some((epoch, resumed)), Some(read)) = (asked.resumed, revision)
            && Some(read) != resumed
            && read.epoch < epoch
        {
            return Err(format!(
                "fencing: {epoch} resumed from {resumed:?}, and {read} appeared after that"
            ));
        }
        if let Some(found) = found
            && let Some(known) = self.values.insert(found.revision, found.bytes.clone())
            && known != found.bytes
        {
            return Err(format!("checkpoint: {} has two values", found.revision));
        }
        if let Some(epoch) = by
            && self.resumed.is_none_or(|(newest, _)| newest < epoch)
        {
            self.resumed = Some((epoch, revision));
        }
        Ok(())
    }
}
