//! Reads what the scripts reply; each one's header says what that is.

use std::time::Duration;

use redis::Value;

use crate::lease::{
    Acquired, Checkpoint, CheckpointRead, CheckpointWritten, Epoch, Hint, HoldReason, Holder,
    NodeId, Observed, Profile, Released, Renewed, Revision, SessionId, StoreError,
};
use crate::time::UnixMs;

/// The elements of a reply, taken from the front.
pub(super) struct Reply {
    script: &'static str,
    state_key: String,
    values: std::vec::IntoIter<Value>,
}

type Read<T> = Result<T, StoreError>;

impl Reply {
    pub(super) fn new(script: &'static str, state_key: &str, value: Value) -> Read<Self> {
        let mut reply = Self {
            script,
            state_key: state_key.to_owned(),
            values: Vec::new().into_iter(),
        };
        let Value::Array(values) = value else {
            return Err(reply.unreadable("no list"));
        };
        reply.values = values.into_iter();
        Ok(reply)
    }

    /// The request was applied or not; nobody can tell.
    fn unreadable(&self, what: &str) -> StoreError {
        StoreError::Indeterminate(format!(
            "Redis answered the {} script with something unreadable ({what}): is it a Redis that \
             runs Lua as Redis does?",
            self.script
        ))
    }

    /// When the server wrote this, by its clock: the second element of every reply.
    pub(super) fn server_time(&self) -> Option<UnixMs> {
        match self.values.as_slice().get(1) {
            Some(Value::Int(number)) => u64::try_from(*number).ok().map(UnixMs),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Read<Vec<u8>> {
        match self.values.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            Some(Value::SimpleString(text)) => Ok(text.into_bytes()),
            _ => Err(self.unreadable("no text")),
        }
    }

    fn text(&mut self) -> Read<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes).map_err(|_| self.unreadable("no UTF-8"))
    }

    fn number(&mut self) -> Read<u64> {
        match self.values.next() {
            Some(Value::Int(number)) => {
                u64::try_from(number).map_err(|_| self.unreadable("a negative number"))
            }
            _ => Err(self.unreadable("no number")),
        }
    }

    fn millis(&mut self) -> Read<Duration> {
        self.number().map(Duration::from_millis)
    }

    fn epoch(&mut self) -> Read<Epoch> {
        let number = self.number()?;
        Epoch::new(number).map_err(|error| self.unreadable(&error.to_string()))
    }

    /// The first element, which says what follows; the second is the server's time.
    fn kind(&mut self) -> Read<String> {
        let kind = self.text()?;
        self.number()?;
        Ok(kind)
    }

    fn holder(&mut self) -> Read<(Holder, Duration)> {
        let epoch = self.epoch()?;
        let session = self.text()?;
        let session = session
            .parse::<SessionId>()
            .map_err(|error| self.unreadable(&error.to_string()))?;
        let record = self.bytes()?;
        let holder = Holder {
            epoch,
            session,
            profile: self.profile(&record)?,
            since: UnixMs(self.number()?),
            ttl: self.millis()?,
        };
        Ok((holder, self.millis()?))
    }

    fn holder_if_any(&mut self) -> Read<Option<(Holder, Duration)>> {
        if self.values.len() == 0 {
            return Ok(None);
        }
        self.holder().map(Some)
    }

    /// Empty where the store has lost it.
    fn profile(&self, record: &[u8]) -> Read<Profile> {
        if record.is_empty() {
            return Ok(Profile {
                node: NodeId::unknown(),
                url: None,
                metadata: Vec::new(),
            });
        }
        serde_json::from_slice(record).map_err(|error| {
            let shown: String = String::from_utf8_lossy(record).chars().take(80).collect();
            StoreError::Corrupt(format!(
                "{} has a field record that is no profile ({error}): {shown:?}. DEL the key to \
                 repair: the store forgets its newest epoch, and a leader in force is given a \
                 new one",
                self.state_key
            ))
        })
    }

    fn revision(&mut self) -> Read<Option<Revision>> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        let revision = text
            .parse()
            .map_err(|_| self.unreadable("no revision where one was expected"))?;
        Ok(Some(revision))
    }

    fn sure_revision(&mut self) -> Read<Revision> {
        let revision = self.revision()?;
        revision.ok_or_else(|| self.unreadable("no revision"))
    }

    pub(super) fn acquired(mut self) -> Read<Acquired> {
        match self.kind()?.as_str() {
            "won" => Ok(Acquired::Won {
                epoch: self.epoch()?,
                left: self.millis()?,
            }),
            "held" => {
                let (holder, left) = self.holder()?;
                Ok(Acquired::Held { holder, left })
            }
            "hold" => Ok(Acquired::Hold {
                retry_in: self.millis()?,
                why: self.reason()?,
            }),
            other => Err(self.unreadable(other)),
        }
    }

    fn reason(&mut self) -> Read<HoldReason> {
        match self.text()?.as_str() {
            "store_went_back" => Ok(HoldReason::StoreWentBack),
            "lease_vanished" => Ok(HoldReason::LeaseVanished),
            "server_changed" => Ok(HoldReason::ServerChanged),
            "standing" => Ok(HoldReason::Standing),
            other => Err(self.unreadable(other)),
        }
    }

    pub(super) fn renewed(mut self) -> Read<Renewed> {
        match self.kind()?.as_str() {
            "kept" => Ok(Renewed::Kept {
                left: self.millis()?,
            }),
            "lost" => {
                let holder = self.holder_if_any()?.map(|(holder, _)| holder);
                Ok(Renewed::Lost(holder))
            }
            other => Err(self.unreadable(other)),
        }
    }

    pub(super) fn released(mut self) -> Read<Released> {
        match self.kind()?.as_str() {
            "released" => Ok(Released::Released),
            "not_held" => Ok(Released::NotHeld),
            other => Err(self.unreadable(other)),
        }
    }

    fn known(&mut self) -> Read<Option<Epoch>> {
        match self.number()? {
            0 => Ok(None),
            number => Epoch::new(number)
                .map(Some)
                .map_err(|error| self.unreadable(&error.to_string())),
        }
    }

    pub(super) fn observed(mut self) -> Read<Observed> {
        match self.kind()?.as_str() {
            "observed" => Ok(Observed {
                epoch: self.known()?,
                holder: self.holder_if_any()?,
            }),
            other => Err(self.unreadable(other)),
        }
    }

    pub(super) fn checkpoint(mut self) -> Read<CheckpointRead> {
        match self.kind()?.as_str() {
            "present" => Ok(CheckpointRead::Present(Checkpoint {
                revision: self.sure_revision()?,
                bytes: self.bytes()?,
            })),
            "lost" => Ok(CheckpointRead::Lost(self.sure_revision()?)),
            "absent" => Ok(CheckpointRead::Absent),
            other => Err(self.unreadable(other)),
        }
    }

    pub(super) fn written(mut self) -> Read<CheckpointWritten> {
        match self.kind()?.as_str() {
            "written" => Ok(CheckpointWritten::Written(self.sure_revision()?)),
            "stale" => Ok(CheckpointWritten::Stale {
                epoch: self.known()?,
                revision: self.revision()?,
            }),
            "mismatch" => Ok(CheckpointWritten::Mismatch {
                revision: self.revision()?,
            }),
            other => Err(self.unreadable(other)),
        }
    }
}

/// Reads a message of the channel: `began EPOCH`, `ended EPOCH` or `ended EPOCH
/// NODE`. `None` for anything else; anybody may publish there.
pub(super) fn hint(message: &[u8]) -> Option<Hint> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.splitn(3, ' ');
    let (what, epoch) = (parts.next()?, parts.next()?.parse().ok()?);
    match (what, parts.next()) {
        ("began", None) => Some(Hint::Began(epoch)),
        ("ended", node) => Some(Hint::Ended {
            epoch,
            prefer: node.and_then(|node| node.parse().ok()),
        }),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_node_may_have_any_name() {
        let epoch = Epoch::new(7).unwrap();
        let ended = |prefer: Option<&str>| {
            let prefer = prefer.map(|node| node.parse().unwrap());
            Some(Hint::Ended { epoch, prefer })
        };
        assert_eq!(hint(b"ended 7"), ended(None));
        for node in ["a", "-", "ended 7", "a  b", "ended", "n\u{e4}chster"] {
            let message = format!("ended 7 {node}");
            assert_eq!(hint(message.as_bytes()), ended(Some(node)));
        }
        assert_eq!(hint(b"began 7"), Some(Hint::Began(epoch)));
        for other in [
            "",
            "began",
            "began x",
            "began 7 8",
            "ended",
            "ended x",
            "x 7",
        ] {
            assert_eq!(hint(other.as_bytes()), None, "{other:?}");
        }
    }
}
