//! The keys that hooks are signed with, and the signature: Standard Webhooks, symmetric.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

/// What a key's text begins with.
const PREFIX: &str = "whsec_";
/// How long a key is, in bytes, by the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a file of keys cannot be used. Never shows a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// The file.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// No line with a key.
    #[error("it holds no key; write one a line: whsec_ and the base64 of 24 to 64 random bytes")]
    Empty,
    /// A line that is no key.
    #[error(
        "line {0} is no key; write whsec_ and the base64 of 24 to 64 random bytes, such as \
         `echo whsec_$(openssl rand -base64 32)` prints"
    )]
    NoKey(usize),
}

/// One key, or two and more during a rotation.
pub struct Secrets(Vec<SecretSlice<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Secrets {
    /// Reads a file of keys, one a line.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn read(path: &Path) -> Result<Self, SecretsError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| SecretsError::Unreadable(error.to_string()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, SecretsError> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let coded = line.strip_prefix(PREFIX);
            let key = coded.and_then(|coded| BASE64.decode(coded).ok());
            match key {
                Some(key) if KEY_BYTES.contains(&key.len()) => keys.push(key.into()),
                _ => return Err(SecretsError::NoKey(number)),
            }
        }
        if keys.is_empty() {
            return Err(SecretsError::Empty);
        }
        Ok(Self(keys))
    }

    /// The header `webhook-signature` of a message: one signature for each key.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signature = |key: &SecretSlice<u8>| {
            // HMAC takes a key of any length, so there is nothing that can fail.
            let mac = Hmac::<Sha256>::new_from_slice(key.expose_secret());
            mac.map(|mut mac| {
                mac.update(format!("{id}.{timestamp}.").as_bytes());
                mac.update(body);
                format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
            })
        };
        let signatures: Vec<String> = self.0.iter().flat_map(signature).collect();
        signatures.join(" ")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn sign(keys: &str) -> String {
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let secrets = Secrets::parse(keys).unwrap();
        secrets.sign(id, 1_614_265_330, br#"{"test": 2432232314}"#)
    }

    /// The vector that the specification's own libraries are tested with.
    #[test]
    fn the_published_vector_comes_out() {
        assert_eq!(sign(KEY), SIGNATURE);
        assert_eq!(sign(&format!("\n  {KEY}  \r\n\n")), SIGNATURE);
    }

    #[test]
    fn two_keys_give_two_signatures_in_their_order() {
        let both = sign(&format!("{OTHER}\n{KEY}\n"));
        let parts: Vec<&str> = both.split(' ').collect();
        assert_eq!(parts, [sign(OTHER).as_str(), SIGNATURE]);
        assert_ne!(parts[0], parts[1]);
    }

    #[test]
    fn what_is_no_key_is_told_by_its_line_and_never_shown() {
        let failed = |text: &str| Secrets::parse(text).unwrap_err();
        assert_eq!(failed(" \n"), SecretsError::Empty);
        for bad in [
            "secret",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_not base64",
            &format!("whsec_{}", BASE64.encode([7; 65])),
            KEY.trim_start_matches(PREFIX),
        ] {
            let error = failed(&format!("{KEY}\n{bad}"));
            assert_eq!(error, SecretsError::NoKey(2));
            assert!(!error.to_string().contains(bad) || bad == PREFIX);
        }
        assert_eq!(format!("{:?}", Secrets::parse(KEY).unwrap()), "1 keys");
    }
}
