//! One change of a record: applied where everything stands as it was read, and whole or
//! not at all.

use super::checkpoint;
use super::keys::Keys;
use super::record::{Owner, Record, Stored};
use super::rpc::{
    Compare, DeleteRangeRequest, Operation, PutRequest, RangeRequest, RequestOp, TARGET_MOD,
    TxnRequest,
};
use crate::lease::{Revision, StoreError};

pub(super) struct Change<'a> {
    keys: &'a Keys,
    compare: Vec<Compare>,
    operations: Vec<RequestOp>,
}

impl<'a> Change<'a> {
    /// A change of what `record` holds.
    pub(super) fn of(keys: &'a Keys, record: &Record) -> Self {
        let changed = [
            (
                &keys.leader,
                record.leader.as_ref().map(|leader| leader.changed),
            ),
            (
                &keys.lease,
                record.lease.as_ref().map(|lease| lease.changed),
            ),
            (&keys.hold, record.hold.as_ref().map(|hold| hold.changed)),
            (
                &keys.state,
                record.state.as_ref().map(|state| state.changed),
            ),
        ];
        let compare = changed.into_iter().map(|(key, at)| unchanged(key, at));
        Self {
            keys,
            compare: compare.collect(),
            operations: Vec::new(),
        }
    }

    /// The lease is this owner's, for as long as that etcd lease lives.
    pub(super) fn grant(mut self, owner: &Owner, lease: i64) -> Self {
        let text = format!("{}:{}", owner.epoch, owner.session);
        for key in [&self.keys.leader, &self.keys.lease] {
            self.operations.push(put(key, text.clone(), lease));
        }
        self
    }

    /// Nobody's.
    pub(super) fn free(mut self) -> Self {
        for key in [&self.keys.leader, &self.keys.lease] {
            self.operations.push(delete(key));
        }
        self
    }

    /// No grant for as long as that etcd lease lives.
    pub(super) fn hold(mut self, lease: i64) -> Self {
        let text = "no grant while this key is here";
        self.operations.push(put(&self.keys.hold, text, lease));
        self
    }

    pub(super) fn unhold(mut self) -> Self {
        self.operations.push(delete(&self.keys.hold));
        self
    }

    /// # Errors
    /// Where the state cannot be written in JSON.
    pub(super) fn state(mut self, state: &Stored) -> Result<Self, StoreError> {
        let text = serde_json::to_vec(state)
            .map_err(|error| StoreError::Rejected(format!("the profile is no JSON: {error}")))?;
        self.operations.push(put(&self.keys.state, text, 0));
        Ok(self)
    }

    /// Replaces the checkpoint whose last change was at `changed`.
    pub(super) fn checkpoint(
        mut self,
        changed: Option<i64>,
        revision: Revision,
        bytes: &[u8],
    ) -> Self {
        let text = checkpoint::text(revision, bytes);
        self.compare.push(unchanged(&self.keys.checkpoint, changed));
        self.operations.push(put(&self.keys.checkpoint, text, 0));
        self
    }

    /// The request. Its answer ends with the record as it is then, whether or not the
    /// change was applied.
    pub(super) fn request(mut self) -> TxnRequest {
        let look = RequestOp::from(Operation::Range(range(self.keys.of_lease())));
        self.operations.push(look.clone());
        TxnRequest {
            compare: self.compare,
            success: self.operations,
            failure: vec![look],
        }
    }
}

/// A read of the keys from the first up to, but without, the second.
pub(super) fn range((from, to): (&str, String)) -> RangeRequest {
    RangeRequest {
        key: from.into(),
        range_end: to.into(),
    }
}

fn unchanged(key: &str, at: Option<i64>) -> Compare {
    Compare {
        target: TARGET_MOD,
        key: key.into(),
        mod_revision: Some(at.unwrap_or(0)),
    }
}

fn put(key: &str, value: impl Into<Vec<u8>>, lease: i64) -> RequestOp {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
    };
    Operation::Put(put).into()
}

fn delete(key: &str) -> RequestOp {
    Operation::Delete(DeleteRangeRequest { key: key.into() }).into()
}
