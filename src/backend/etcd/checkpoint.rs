//! The checkpoint's value in etcd: its revision on a line, then the bytes.

use super::keys::Keys;
use super::record::Entry;
use super::rpc::KeyValue;
use crate::lease::{Checkpoint, Revision, StoreError};

/// Finds it among the keys of a range.
///
/// # Errors
/// `Corrupt` names the key.
pub(super) fn read(
    keys: &Keys,
    found: &[KeyValue],
) -> Result<Option<Entry<Checkpoint>>, StoreError> {
    let key = keys.checkpoint.as_bytes();
    let Some(kv) = found.iter().find(|kv| kv.key == key) else {
        return Ok(None);
    };
    let value = parse(&kv.value).ok_or_else(|| {
        let key = &keys.checkpoint;
        StoreError::Corrupt(format!(
            "the etcd key {key} is none that Tenure wrote (a revision and a line break were \
             expected): remove it with etcdctl del {key}"
        ))
    })?;
    Ok(Some(Entry {
        value,
        changed: kv.mod_revision,
        lease: kv.lease,
    }))
}

/// The value under which it is stored.
pub(super) fn text(revision: Revision, bytes: &[u8]) -> Vec<u8> {
    let mut text = format!("{revision}\n").into_bytes();
    text.extend_from_slice(bytes);
    text
}

fn parse(text: &[u8]) -> Option<Checkpoint> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let (revision, bytes) = (text.get(..end)?, text.get(end + 1..)?);
    Some(Checkpoint {
        revision: std::str::from_utf8(revision).ok()?.parse().ok()?,
        bytes: bytes.to_vec(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        for bytes in [b"".as_slice(), b"\n", b"a\nb\0\xff", &[10; 70]] {
            let revision = "42.7".parse().unwrap();
            let read = parse(&text(revision, bytes)).unwrap();
            assert_eq!((read.revision, read.bytes.as_slice()), (revision, bytes));
        }
        for other in [b"".as_slice(), b"42.7", b"42\n", b"\n42.7\n"] {
            assert_eq!(parse(other), None);
        }
    }
}
