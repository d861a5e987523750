//! What this node shows a store and what it asks the store to show, read from files
//! and read again when they change.
//!
//! A rotation never costs a lease: whoever holds a connection makes another one with
//! the new files first, and gives the old one up only when the new one works.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::mutual;
use super::tls::{self, TlsError, TlsFiles};
use super::url::Login;
use crate::time::{pause, within};

/// Between two looks at the files. A look is a read: it sees a file that was replaced,
/// written over, or moved by a symbolic link, on every file system.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Whoever waits for a look connects with what is known after this.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// The files and the name that the configuration gives; each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    /// Who asks.
    pub username: Option<String>,
    /// Holds the password on its first line.
    pub password: Option<PathBuf>,
    /// PEM: the authorities that vouch for the server, instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM: the certificate that this node shows, with its chain.
    pub cert: Option<PathBuf>,
    /// PEM: the key of that certificate.
    pub key: Option<PathBuf>,
}

impl CredentialFiles {
    /// Everything that is wrong with the files, for a store that is spoken to over TLS
    /// or in the clear.
    #[must_use]
    pub fn problems(&self, tls: bool) -> Vec<CredentialsError> {
        self.problems_with(tls.then_some(Speech::Store { protocols: &[] }))
    }

    /// Everything that is wrong with the files for TLS between peers, who ask each other
    /// for a certificate: all three files must be there.
    #[must_use]
    pub fn problems_between_peers(&self) -> Vec<CredentialsError> {
        self.problems_with(Some(Speech::Peers))
    }

    /// The files that cannot be used, whatever they are for.
    #[must_use]
    pub fn unusable(&self) -> Vec<CredentialsError> {
        let password = match (
            &self.password,
            read(self.password.as_deref(), "password-file"),
        ) {
            (Some(path), Ok(Some(bytes))) => first_line(&bytes, path).err(),
            (_, read) => read.err(),
        };
        let tls = [
            (&self.ca, "ca-file"),
            (&self.cert, "cert-file"),
            (&self.key, "key-file"),
        ];
        let unreadable = tls
            .into_iter()
            .filter_map(|(path, flag)| read(path.as_deref(), flag).err());
        password.into_iter().chain(unreadable).collect()
    }

    fn problems_with(&self, speech: Option<Speech>) -> Vec<CredentialsError> {
        let unusable = self.unusable();
        if !unusable.is_empty() {
            return unusable;
        }
        let loaded = Credentials::load(self.clone(), Login::default(), speech);
        loaded.err().into_iter().collect()
    }
}

/// Why credentials cannot be used. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("--{flag} {path}: cannot be read: {reason}")]
    Unreadable {
        /// The flag that names it.
        flag: &'static str,
        /// Which file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The password file holds none.
    #[error("--password-file {0}: its first line is empty; write the password there")]
    NoPassword(String),
    /// The password is no text.
    #[error("--password-file {0}: it is not UTF-8")]
    NoText(String),
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How TLS is spoken, where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Speech {
    /// As the client of a store.
    Store {
        /// The protocols to offer inside TLS (ALPN).
        protocols: &'static [&'static [u8]],
    },
    /// Both ways, among sidecars.
    #[cfg_attr(not(feature = "peers"), allow(dead_code))]
    Peers,
}

/// Credentials as they were when the files were read.
pub(crate) struct Loaded {
    login: Login,
    /// `None` where the store is spoken to in the clear.
    pub tls: Option<Arc<ClientConfig>>,
    /// For connections that are taken: peers' alone.
    #[cfg_attr(not(feature = "peers"), allow(dead_code))]
    pub serves: Option<Arc<ServerConfig>>,
    /// What the files held.
    read: Contents,
}

#[cfg(any(feature = "etcd", feature = "redis"))]
impl Loaded {
    pub fn user(&self) -> Option<&str> {
        self.login.user.as_deref()
    }

    pub fn password(&self) -> Option<&str> {
        use secrecy::ExposeSecret as _;
        self.login
            .password
            .as_ref()
            .map(SecretString::expose_secret)
    }
}

/// Without what they hold.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("login", &self.login)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// The raw bytes of the files, to compare.
#[derive(Clone, Default, PartialEq, Eq)]
struct Contents {
    password: Option<Vec<u8>>,
    tls: TlsFiles,
}

/// Where credentials come from.
struct Source {
    files: CredentialFiles,
    /// What stands in the address, and is used where no file says otherwise.
    login: Login,
    speech: Option<Speech>,
}

/// Credentials that follow their files.
pub(crate) struct Credentials(Arc<Kept>);

struct Kept {
    source: Source,
    newest: Mutex<Arc<Loaded>>,
    /// Why the newest files are not taken up, once that was told.
    told: Mutex<Option<CredentialsError>>,
    /// Somebody reads the files.
    looking: AtomicBool,
}

impl Credentials {
    /// Reads the files for the first time. `speech`: how TLS is spoken; `None` for
    /// none.
    ///
    /// # Errors
    /// Where a file cannot be used.
    pub fn load(
        files: CredentialFiles,
        login: Login,
        speech: Option<Speech>,
    ) -> Result<Self, CredentialsError> {
        let source = Source {
            files,
            login,
            speech,
        };
        let loaded = source.understood(source.read()?)?;
        Ok(Self(Arc::new(Kept {
            newest: Mutex::new(Arc::new(loaded)),
            told: Mutex::default(),
            looking: AtomicBool::new(false),
            source,
        })))
    }

    /// The newest that could be used.
    pub fn newest(&self) -> Arc<Loaded> {
        self.0.newest()
    }

    /// Reads the files again where they have changed. What cannot be used is told in
    /// the log and not taken up: a file may be half written. Where the file system hangs,
    /// this does not: what is known goes on, and a read that ends later is taken up then.
    pub async fn look_again(&self) {
        if self.0.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let kept = Arc::clone(&self.0);
        let look = tokio::task::spawn_blocking(move || {
            let _looking = Looking(&kept.looking);
            kept.look()
        });
        if let Some(Ok(looked)) = within(LONGEST_LOOK, look).await {
            self.0.tell(looked.err());
        }
    }

    /// Waits until there are newer ones than `used`. Never ends where there are no
    /// files.
    pub async fn newer_than(&self, used: &Arc<Loaded>) -> Arc<Loaded> {
        let files = &self.0.source.files;
        if files.password.is_none() && files.ca.is_none() && files.cert.is_none() {
            return std::future::pending().await;
        }
        loop {
            let newest = self.newest();
            if !Arc::ptr_eq(&newest, used) {
                return newest;
            }
            pause(LOOK_EVERY).await;
            self.look_again().await;
        }
    }
}

/// Over when it is dropped, also where the look panics.
struct Looking<'a>(&'a AtomicBool);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Kept {
    fn newest(&self) -> Arc<Loaded> {
        let newest = self.newest.lock();
        Arc::clone(&newest.unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self) -> Result<(), CredentialsError> {
        let read = self.source.read()?;
        if read == self.newest().read {
            return Ok(());
        }
        let fresh = Arc::new(self.source.understood(read)?);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Each trouble once: the files are looked at every second, and may stay as they are.
    fn tell(&self, trouble: Option<CredentialsError>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = trouble.as_ref().filter(|_| *told != trouble) {
            tracing::warn!(%error, "changed credentials are not taken up");
        }
        *told = trouble;
    }
}

fn read(path: Option<&Path>, flag: &'static str) -> Result<Option<Vec<u8>>, CredentialsError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let unreadable = |error: std::io::Error| CredentialsError::Unreadable {
        flag,
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    std::fs::read(path).map(Some).map_err(unreadable)
}

impl Source {
    fn read(&self) -> Result<Contents, CredentialsError> {
        let files = &self.files;
        Ok(Contents {
            password: read(files.password.as_deref(), "password-file")?,
            tls: TlsFiles {
                ca: read(files.ca.as_deref(), "ca-file")?,
                cert: read(files.cert.as_deref(), "cert-file")?,
                key: read(files.key.as_deref(), "key-file")?,
            },
        })
    }

    fn understood(&self, read: Contents) -> Result<Loaded, CredentialsError> {
        let files = &self.files;
        let password = match (&read.password, &files.password) {
            (Some(bytes), Some(path)) => Some(first_line(bytes, path)?),
            _ => self.login.password.clone(),
        };
        let (tls, serves) = match self.speech {
            Some(Speech::Store { protocols }) => {
                (Some(tls::config(&read.tls, files, protocols)?), None)
            }
            Some(Speech::Peers) => {
                let mutual = mutual::configs(&read.tls, files)?;
                (Some(mutual.dials), Some(mutual.serves))
            }
            None => (None, None),
        };
        Ok(Loaded {
            login: Login {
                user: files.username.clone().or_else(|| self.login.user.clone()),
                password,
            },
            tls: tls.map(Arc::new),
            serves: serves.map(Arc::new),
            read,
        })
    }
}

/// Editors end a file with a line break, which belongs to no password.
fn first_line(bytes: &[u8], path: &Path) -> Result<SecretString, CredentialsError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| CredentialsError::NoText(path.display().to_string()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(SecretString::from(line)),
        _ => Err(CredentialsError::NoPassword(path.display().to_string())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with_password(text: &str) -> (tempfile::TempDir, CredentialFiles) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("password");
        std::fs::write(&path, text).unwrap();
        let files = CredentialFiles {
            password: Some(path),
            ..CredentialFiles::default()
        };
        (home, files)
    }

    #[test]
    fn the_first_line_is_the_password() {
        for text in ["hunter2", "hunter2\n", "hunter2\r\n", "hunter2\nnotes"] {
            let (_home, files) = with_password(text);
            let loaded = Credentials::load(files, Login::default(), None).unwrap();
            assert_eq!(loaded.newest().password(), Some("hunter2"));
            assert!(!format!("{:?}", loaded.newest()).contains("hunter2"));
        }
        for text in ["", "\n", "\nhunter2"] {
            let (_home, files) = with_password(text);
            let error = Credentials::load(files, Login::default(), None)
                .err()
                .unwrap();
            assert!(matches!(error, CredentialsError::NoPassword(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_change_is_taken_up_and_a_broken_one_is_not() {
        let (_home, files) = with_password("one");
        let path = files.password.clone().unwrap();
        let credentials = Credentials::load(files, Login::default(), None).unwrap();
        let used = credentials.newest();
        credentials.look_again().await;
        assert!(Arc::ptr_eq(&used, &credentials.newest()), "nothing changed");
        for broken in ["", "\n"] {
            std::fs::write(&path, broken).unwrap();
            credentials.look_again().await;
            assert_eq!(credentials.newest().password(), Some("one"));
        }
        std::fs::write(&path, "two\n").unwrap();
        let newer = credentials.newer_than(&used).await;
        assert_eq!(newer.password(), Some("two"));
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn files_that_stay_broken_are_told_once() {
        let (_home, files) = with_password("one");
        let path = files.password.clone().unwrap();
        let credentials = Credentials::load(files, Login::default(), None).unwrap();
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let _told = tracing::subscriber::set_default(subscriber.finish());
        let told = || {
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            text.matches("are not taken up").count()
        };
        for (text, times) in [("", 1), ("\n", 1), ("two", 1), ("", 2)] {
            std::fs::write(&path, text).unwrap();
            for _ in 0..3 {
                credentials.look_again().await;
            }
            assert_eq!(told(), times, "{text:?}");
        }
    }
}
