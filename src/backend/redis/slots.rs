//! Which node of a cluster keeps which key.

use redis::Value;

use crate::wire::Endpoint;

/// How many slots a cluster has.
const SLOTS: u16 = 16384;

/// The slot of a key, which is that of its hash tag: what stands in the first braces,
/// where that is not empty.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| {
        let (tag, _) = rest.split_once('}')?;
        (!tag.is_empty()).then_some(tag)
    });
    crc16(tag.unwrap_or(key).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the Redis Cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let mixed = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(mixed, |crc: u16, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    })
}

/// Who is the master of each slot, as one node told it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotMap {
    ranges: Vec<(u16, u16, Endpoint)>,
}

impl SlotMap {
    /// Reads the answer to CLUSTER SLOTS: `[[from, to, [host, port, …], …], …]`. A
    /// node that does not know its own address is the one that was `asked`.
    pub(super) fn read(answer: &Value, asked: &Endpoint) -> Option<Self> {
        let Value::Array(ranges) = answer else {
            return None;
        };
        let ranges = ranges.iter().map(|range| range_of(range, asked));
        Some(Self {
            ranges: ranges.collect::<Option<_>>()?,
        })
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Endpoint> {
        let within = |(from, to, _): &&(u16, u16, Endpoint)| (*from..=*to).contains(&slot);
        self.ranges.iter().find(within).map(|(_, _, owner)| owner)
    }

    /// One slot is another's, as a node that was asked for it says.
    pub(super) fn moved(&mut self, slot: u16, to: Endpoint) {
        self.ranges.insert(0, (slot, slot, to));
    }

    /// Every master once.
    pub(super) fn masters(&self) -> Vec<Endpoint> {
        let mut masters = Vec::new();
        for (_, _, owner) in &self.ranges {
            if !masters.contains(owner) {
                masters.push(owner.clone());
            }
        }
        masters
    }
}

fn range_of(range: &Value, asked: &Endpoint) -> Option<(u16, u16, Endpoint)> {
    let Value::Array(parts) = range else {
        return None;
    };
    let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = master.as_slice() else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => "",
    };
    let owner = Endpoint {
        host: host_or(host, asked),
        port: u16::try_from(*port).ok()?,
    };
    Some((u16::try_from(*from).ok()?, u16::try_from(*to).ok()?, owner))
}

/// A node that was not told its name says nothing, or `?`.
fn host_or(host: &str, asked: &Endpoint) -> String {
    if host.is_empty() || host == "?" {
        asked.host.clone()
    } else {
        host.to_owned()
    }
}

/// Reads where a redirection leads: `SLOT HOST:PORT`; an IPv6 address has no brackets
/// there, and a host may be missing.
pub(super) fn redirected(detail: &str, asked: &Endpoint) -> Option<(u16, Endpoint)> {
    let (slot, place) = detail.split_once(' ')?;
    let (host, port) = place.trim().rsplit_once(':')?;
    let to = Endpoint {
        host: host_or(host, asked),
        port: port.parse().ok()?,
    };
    Some((slot.parse().ok()?, to))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place(host: &str, port: u16) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            port,
        }
    }

    /// By `CLUSTER KEYSLOT` of a real server.
    #[test]
    fn a_slot_is_that_of_the_hash_tag() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("tenure:{foo}:leader"), slot_of("foo"));
        assert_eq!(slot_of("{}foo"), crc16(b"{}foo") % SLOTS);
        assert_eq!(slot_of("a{foo}b{bar}"), slot_of("foo"));
    }

    #[test]
    fn a_map_is_read_and_mended() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |from, to, node| Value::Array(vec![Value::Int(from), Value::Int(to), node]);
        let asked = place("asked", 1);
        let answer = Value::Array(vec![
            range(0, 99, node(text("a"), 7)),
            range(100, 16383, node(Value::Nil, 8)),
        ]);
        let mut map = SlotMap::read(&answer, &asked).unwrap();
        assert_eq!(map.owner(99), Some(&place("a", 7)));
        assert_eq!(map.owner(100), Some(&place("asked", 8)));
        map.moved(99, place("b", 9));
        assert_eq!(map.owner(99), Some(&place("b", 9)));
        assert_eq!(map.owner(98), Some(&place("a", 7)));
        assert_eq!(map.masters().len(), 3);
        assert_eq!(SlotMap::read(&Value::Nil, &asked), None);
        assert_eq!(SlotMap::default().owner(0), None);
    }

    #[test]
    fn a_redirection_is_read() {
        let asked = place("asked", 1);
        let to = |detail: &str| redirected(detail, &asked);
        assert_eq!(
            to("3999 10.0.0.1:6381"),
            Some((3999, place("10.0.0.1", 6381)))
        );
        assert_eq!(to("3999 ::1:6381"), Some((3999, place("::1", 6381))));
        assert_eq!(to("3999 :6381"), Some((3999, place("asked", 6381))));
        assert_eq!(to("nonsense"), None);
    }
}
