//! `--backend` as a URL: which servers, and the login that may stand in it.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::endpoint::{Endpoint, EndpointError, shown};

/// A user and a password that stand in a URL. `Debug` hides the password.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// Empty is none.
    pub user: Option<String>,
    /// Empty is none.
    pub password: Option<SecretString>,
}

/// `scheme://[user[:password]@]host[:port][,host[:port]…][/path]`, read.
///
/// In user and password `%XX` stands for any byte. Neither `Display` nor `Debug`
/// shows the password.
#[derive(Clone, Debug)]
pub struct StoreUrl {
    /// As written.
    pub scheme: String,
    /// Who asks.
    pub login: Login,
    /// At least one.
    pub servers: Vec<Endpoint>,
    /// What follows the servers, without its slash; empty for nothing.
    pub path: String,
}

/// Why a text is no address of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error(
        "\"{0}\" is no address of a store: scheme://[user[:password]@]host[:port] was expected"
    )]
    Malformed(String),
    /// One of the servers is wrong.
    #[error(transparent)]
    Server(#[from] EndpointError),
    /// A part that no store takes.
    #[error("\"{0}\" at the end of the address is more than it may have: leave it out")]
    Ending(String),
    /// The login is wrong; it is not shown.
    #[error(
        "the user or password in the address cannot be read: write % as %25, @ as %40, / as %2F \
         and : as %3A"
    )]
    Login,
}

impl StoreUrl {
    /// Reads an address; `default_port` stands where a server has none.
    ///
    /// # Errors
    /// [`UrlError`], which never shows a password.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, UrlError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| UrlError::Malformed(without_login(text)))?;
        // A password may hold a slash, by mistake; it must not end up as a host.
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        if let Some(at) = place.find(['?', '#']) {
            return Err(UrlError::Ending(ending(place.get(at..).unwrap_or(""))));
        }
        let (servers, path) = place.split_once('/').unwrap_or((place, ""));
        let servers = servers
            .split(',')
            .map(|server| Endpoint::parse(server.trim(), default_port))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            scheme: scheme.to_owned(),
            login: login.map_or(Ok(Login::default()), user_and_password)?,
            servers,
            path: path.to_owned(),
        })
    }
}

fn user_and_password(login: &str) -> Result<Login, UrlError> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, password),
        None => (login, ""),
    };
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Login {
        user: filled(decoded(user)?),
        password: filled(decoded(password)?).map(SecretString::from),
    })
}

/// `%XX` to the byte it stands for.
fn decoded(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(UrlError::Login);
        };
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Login)
}

/// A query by the name of its first member: its value may be a password.
fn ending(text: &str) -> String {
    match text.split_once('=') {
        Some((name, _)) => format!("{}=***", shown(name)),
        None => format!("{}***", text.get(..1).unwrap_or("")),
    }
}

/// What may be a login is left out of an error.
fn without_login(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, place)) => format!("***@{}", shown(place)),
        None => shown(text),
    }
}

/// Without the password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(user) = &self.login.user {
            write!(f, "{user}@")?;
        }
        for (index, server) in self.servers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{server}")?;
        }
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        Ok(())
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        let password = |login: &Self| {
            let password = login.password.as_ref();
            password.map(|password| password.expose_secret().to_owned())
        };
        self.user == other.user && password(self) == password(other)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> StoreUrl {
        StoreUrl::parse(text, 7).unwrap()
    }

    fn password(url: &StoreUrl) -> Option<&str> {
        url.login.password.as_ref().map(|text| text.expose_secret())
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(read("x://db").to_string(), "x://db:7");
        assert_eq!(read("x://[::1]:8/3").to_string(), "x://[::1]:8/3");
        assert_eq!(read("x://[::1]").servers[0].host, "::1");
        let full = read("x://us%65r:p%40ss:w%2Frd@a:1,b,[::2]:3/path/more");
        assert_eq!(full.to_string(), "x://user@a:1,b:7,[::2]:3/path/more");
        assert_eq!(full.login.user.as_deref(), Some("user"));
        assert_eq!(password(&full), Some("p@ss:w/rd"));
        let nameless = read("x://:secret@db");
        assert_eq!(password(&nameless), Some("secret"));
        assert_eq!(nameless.login.user, None);
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = read("x://user:hunter2@db");
        assert!(!format!("{url} {url:?}").contains("hunter2"));
        for bad in [
            "x://user:hunter2@db:x",
            "x://user:hunter2@",
            "x://user:hunter2%@db",
            "x://user:hunter2@db?a=b",
            "x:/user:hunter2@db",
            "x://user:hunter2@a,,b",
            "x://db?password=hunter2",
            "x://db?a=b&password=hunter2",
            "x://db?hunter2",
            "x://db#hunter2",
        ] {
            let error = StoreUrl::parse(bad, 7).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("localhost:6379", "no address"),
            ("", "no address"),
            ("x://", "no host"),
            ("x://a, ,b", "no host"),
            ("x://[::1", "no host"),
            ("x://db:0", "no port"),
            ("x://db:99999", "no port"),
            ("x://db?timeout=1", "\"?timeout=***\""),
            ("x://a%2@db", "%25"),
        ] {
            let error = StoreUrl::parse(text, 7).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
