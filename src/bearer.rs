//! The tokens of `--api-token-file`: one a line, each of them good, so that a token is
//! rotated by adding the new one, telling the clients, and taking the old one away.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use subtle::{Choice, ConstantTimeEq as _};

use crate::time::pause;

/// Between two looks at the file. A look is a read: it sees a file that was replaced,
/// written over, or moved by a symbolic link, on every file system.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Nobody writes so many tokens; a file of this size is another one.
const MAX_BYTES: usize = 64 * 1024;

/// Why a file gives no tokens. Never shows one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The system.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Nothing in it.
    #[error("it holds no token; write one on its first line")]
    Empty,
    /// Not one token a line.
    #[error("its line {0} is no token: visible ASCII characters without spaces")]
    NoToken(usize),
    /// Another file, surely.
    #[error("it has more than {MAX_BYTES} bytes: is it the right file?")]
    TooLarge,
}

/// Tokens as they stood in a file.
#[derive(Clone)]
pub struct Tokens(Vec<SecretString>);

impl Tokens {
    fn parse(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() > MAX_BYTES {
            return Err(TokenError::TooLarge);
        }
        let mut tokens = Vec::new();
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let wrong = || TokenError::NoToken(at + 1);
            let line = std::str::from_utf8(line).map_err(|_| wrong())?.trim();
            if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong());
            }
            if !line.is_empty() {
                tokens.push(SecretString::from(line));
            }
        }
        if tokens.is_empty() {
            return Err(TokenError::Empty);
        }
        Ok(Self(tokens))
    }

    /// Whether a client's token is one of them. Takes the same time whichever it is
    /// and wherever it differs; only its length shows.
    #[must_use]
    pub fn accept(&self, given: &[u8]) -> bool {
        let good = self.0.iter().fold(Choice::from(0), |good, token| {
            good | token.expose_secret().as_bytes().ct_eq(given)
        });
        good.into()
    }

    /// The one that a client shows: the first line.
    #[must_use]
    pub fn first(&self) -> &str {
        self.0.first().map_or("", ExposeSecret::expose_secret)
    }
}

/// Without what they are.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

/// What was last seen in the file.
#[derive(Debug)]
struct Seen {
    tokens: Arc<Tokens>,
    /// What is wrong with it now, so that it is told once.
    trouble: Option<TokenError>,
}

/// Tokens that follow their file.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    seen: Mutex<Seen>,
}

impl TokenFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open(path: PathBuf) -> Result<Self, TokenError> {
        let tokens = Arc::new(read(&path)?);
        let seen = Seen {
            tokens,
            trouble: None,
        };
        Ok(Self {
            path,
            seen: Mutex::new(seen),
        })
    }

    /// The newest that could be read.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.lock().tokens)
    }

    /// Looks at the file again and again, for ever. What cannot be used is told in the
    /// log once and not taken up: nobody is locked out, or let in, by half a file.
    pub async fn follow(self: Arc<Self>) {
        loop {
            pause(LOOK_EVERY).await;
            let path = self.path.clone();
            // On a thread of its own: a file system that hangs must not hang the API.
            if let Ok(read) = tokio::task::spawn_blocking(move || read(&path)).await {
                self.take(read);
            }
        }
    }

    fn take(&self, read: Result<Tokens, TokenError>) {
        let mut seen = self.lock();
        match read {
            Ok(tokens) => {
                if seen.trouble.is_some() || !tokens.same(&seen.tokens) {
                    let (path, count) = (self.path.display(), tokens.0.len());
                    tracing::info!(%path, count, "the API's tokens were read again");
                }
                seen.tokens = Arc::new(tokens);
                seen.trouble = None;
            }
            Err(error) if seen.trouble.as_ref() == Some(&error) => {}
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the API's tokens stay as they were");
                seen.trouble = Some(error);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    fn same(&self, other: &Self) -> bool {
        let own = self.0.iter().map(ExposeSecret::expose_secret);
        own.eq(other.0.iter().map(ExposeSecret::expose_secret))
    }
}

fn read(path: &Path) -> Result<Tokens, TokenError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX) + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| TokenError::Unreadable(error.to_string()))?;
    Tokens::parse(&bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_token() {
        let tokens = Tokens::parse(b"new-token\r\n\n old \n").unwrap();
        assert!(tokens.accept(b"new-token") && tokens.accept(b"old"));
        assert_eq!(tokens.first(), "new-token");
        let near = [
            "",
            "new-toke",
            "new-token1",
            "ol",
            "old\n",
            " old",
            "NEW-TOKEN",
        ];
        for wrong in near {
            assert!(!tokens.accept(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(!format!("{tokens:?}").contains("old"));
    }

    #[test]
    fn what_is_no_token_is_told_by_its_line() {
        for empty in ["", "\n", " \r\n\n"] {
            assert_eq!(
                Tokens::parse(empty.as_bytes()).err(),
                Some(TokenError::Empty)
            );
        }
        for wrong in ["good\ntwo words\n", "good\nt\u{f6}ken", "good\n\u{7f}"] {
            let error = Tokens::parse(wrong.as_bytes()).err();
            assert_eq!(error, Some(TokenError::NoToken(2)), "{wrong:?}");
        }
        let error = Tokens::parse(&[0xff, 0xfe]).err();
        assert_eq!(error, Some(TokenError::NoToken(1)));
        let error = Tokens::parse(&vec![b'x'; MAX_BYTES + 1]).err();
        assert_eq!(error, Some(TokenError::TooLarge));
    }

    #[test]
    fn a_file_that_goes_bad_keeps_the_last_good_tokens() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tokens");
        std::fs::write(&path, "one\n").unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        std::fs::write(&path, "one\ntwo\n").unwrap();
        file.take(read(&path));
        assert!(file.tokens().accept(b"one") && file.tokens().accept(b"two"));
        std::fs::write(&path, "").unwrap();
        file.take(read(&path));
        std::fs::remove_file(&path).unwrap();
        file.take(read(&path));
        assert!(file.tokens().accept(b"one") && file.tokens().accept(b"two"));
        std::fs::write(&path, "two\n").unwrap();
        file.take(read(&path));
        assert!(!file.tokens().accept(b"one") && file.tokens().accept(b"two"));
    }
}
