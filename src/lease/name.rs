//! Names: of an election, of a node, and of one start of a node.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An election's name.
    #[error(
        "\"{0}\" is no election name: use 1 to 128 of A-Z a-z 0-9 . _ -, but not . or .. alone"
    )]
    Election(String),
    /// A node's id.
    #[error("\"{0}\" is no node id: use 1 to 256 printable characters without spaces at the ends")]
    Node(String),
    /// A session.
    #[error("\"{0}\" is no session: 32 lower-case hex digits were expected")]
    Session(String),
}

fn shown(text: &str) -> String {
    text.chars()
        .take(140)
        .flat_map(char::escape_debug)
        .collect()
}

macro_rules! text_of {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

/// The name of one contested leadership, 1 to 128 of `A-Za-z0-9._-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ElectionName(String);
text_of!(ElectionName);

impl FromStr for ElectionName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        // "." and ".." would leave a directory store's directory.
        let path = text == "." || text == "..";
        if path || text.is_empty() || text.len() > 128 || !text.bytes().all(plain) {
            return Err(NameError::Election(shown(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The label of a node. Safety never rests on it: that is the session's part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);
text_of!(NodeId);

impl NodeId {
    /// The label of a holder whose record the store has lost.
    #[must_use]
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }
}

impl FromStr for NodeId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let printable = text.chars().all(|letter| !letter.is_control());
        if text.is_empty() || text.len() > 256 || text.trim() != text || !printable {
            return Err(NameError::Node(shown(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

/// One start of one node: 128 random bits. What grants are bound to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);
text_of!(SessionId);

impl SessionId {
    /// A session that no other process has.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self::from_bits(u128::from_be_bytes(bytes)))
    }

    /// The session of these bits, for simulations and tests.
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }
}

impl FromStr for SessionId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(hex) {
            return Err(NameError::Session(shown(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_name_is_safe_in_a_key_a_path_and_a_url() {
        for good in ["default", "a", "A.b_c-9", &"x".repeat(128)] {
            assert!(good.parse::<ElectionName>().is_ok(), "{good:?} was refused");
        }
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a{b}",
            "ä",
            "a\n",
            &"x".repeat(129),
        ] {
            assert!(bad.parse::<ElectionName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_session_is_hex_and_new_each_time() {
        let first = SessionId::random().map(String::from);
        assert_ne!(first, SessionId::random().map(String::from));
        assert!("xyz".parse::<SessionId>().is_err());
        assert!(
            SessionId::from_bits(7)
                .as_str()
                .parse::<SessionId>()
                .is_ok()
        );
    }
}
