//! The name of a member, and its rank.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name, in bytes.
const LONGEST: usize = 32;

/// A member of the cluster, as `--node` and `--peer ID=HOST:PORT` name it: 1 to 32 of
/// `A-Za-z0-9._-`.
///
/// Members are ranked by it: the longer name is the higher one, and of two that are as
/// long the one that sorts last. So `2 < 10` and `web-9 < web-10`, as one expects of
/// numbers, without a rule for where in a name the number stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MemberId {
    length: u8,
    bytes: [u8; LONGEST],
}

impl MemberId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length));
        // Only `from_str` fills it, and with ASCII.
        std::str::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    }
}

/// Why a text names no member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Empty or too long.
    #[error("a member's id has 1 to {LONGEST} characters, not {0}")]
    Length(usize),
    /// A character that names do not have.
    #[error("a member's id is made of A-Z a-z 0-9 . _ -; {0:?} is none of them")]
    Character(char),
}

impl FromStr for MemberId {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(other) = text.chars().find(|&c| !allowed(c)) {
            return Err(MemberError::Character(other));
        }
        let too_long = || MemberError::Length(text.len());
        let mut bytes = [0; LONGEST];
        let room = bytes.get_mut(..text.len()).ok_or_else(too_long)?;
        room.copy_from_slice(text.as_bytes());
        match u8::try_from(text.len()) {
            Ok(length @ 1..) => Ok(Self { length, bytes }),
            _ => Err(too_long()),
        }
    }
}

impl Ord for MemberId {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |id: &Self| (id.length, id.bytes);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for MemberId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{MemberError, MemberId};

    #[test]
    fn members_are_ranked_as_numbers_are() {
        let rank = |text: &str| text.parse::<MemberId>().ok();
        assert!(rank("2") < rank("10"));
        assert!(rank("web-9") < rank("web-10"));
        assert!(rank("b") > rank("a"));
        assert!(rank("a").is_some());
    }

    #[test]
    fn what_names_nobody_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<MemberId>().err();
        assert_eq!(refused(""), Some(MemberError::Length(0)));
        assert_eq!(refused(&"x".repeat(33)), Some(MemberError::Length(33)));
        assert_eq!(refused("a b"), Some(MemberError::Character(' ')));
        assert_eq!(refused(&"x".repeat(32)), None);
    }
}
