//! `--username`, `--password-file`, `--ca-file`, `--cert-file`, `--key-file`.

use std::path::PathBuf;

use super::{Problem, Reader, Target};
use crate::wire::{CredentialFiles, CredentialsError};

const TLS_FILES: [&str; 3] = ["ca-file", "cert-file", "key-file"];
const ALL: [&str; 5] = [
    "username",
    "password-file",
    "ca-file",
    "cert-file",
    "key-file",
];

impl Reader<'_> {
    /// The files, and whether they fit the store. What cannot be read or understood is
    /// told now, not at the first connection.
    pub(super) fn credentials(&mut self, target: Option<&Target>) -> CredentialFiles {
        let before = self.problems.len();
        let files = CredentialFiles {
            username: self.read("username", |text| match text {
                "" => Err(Problem::new("name a user, or leave it out")),
                name => Ok(name.to_owned()),
            }),
            password: self.file("password-file"),
            ca: self.file("ca-file"),
            cert: self.file("cert-file"),
            key: self.file("key-file"),
        };
        if let Some(target) = target {
            self.fit(target);
        }
        // What the files are together is judged only where each is right by itself.
        let found = match target {
            Some(target) if self.problems.len() == before => self.unfit(&files, target),
            _ => files.unusable(),
        };
        self.problems.extend(found.into_iter().map(Problem::of));
        files
    }

    fn unfit(&self, files: &CredentialFiles, target: &Target) -> Vec<CredentialsError> {
        #[cfg(feature = "peers")]
        if target.cluster().is_some() {
            let tls = self.any_tls_file().then(|| files.problems_between_peers());
            return tls.unwrap_or_default();
        }
        files.problems(target.speaks_tls())
    }

    /// Whether any file for TLS is named.
    #[cfg(feature = "peers")]
    pub(super) fn any_tls_file(&self) -> bool {
        TLS_FILES.iter().any(|name| self.raw.get(name).is_some())
    }

    fn file(&mut self, name: &str) -> Option<PathBuf> {
        self.read(name, |text| match text {
            "" => Err(Problem::new("name a file")),
            path => Ok(PathBuf::from(path)),
        })
    }

    /// What the store does not take, or what is said twice.
    fn fit(&mut self, target: &Target) {
        #[cfg(feature = "peers")]
        if target.cluster().is_some() {
            let text = format!("the members of {target} log in nowhere; leave it out");
            return self.refuse(&ALL[..2], &text);
        }
        let Some(login) = target.login() else {
            return self.refuse(
                &ALL,
                &format!("{target} takes no credentials; leave it out"),
            );
        };
        let given = |name| self.raw.get(name).is_some();
        let twice = [
            ("username", login.user.is_some()),
            ("password-file", login.password.is_some()),
        ];
        let twice: Vec<&str> = twice
            .into_iter()
            .filter(|(name, in_address)| *in_address && given(name))
            .map(|(name, _)| name)
            .collect();
        let halves = given("cert-file") != given("key-file");
        self.refuse(
            &twice,
            "it stands in the address of --backend, too; give one of them",
        );
        if !target.speaks_tls() {
            let text = format!("{target} is spoken to without TLS; {}", target.tls_advice());
            self.refuse(&TLS_FILES, &text);
        } else if halves {
            let text = "it makes a pair with the other one: give both --cert-file and --key-file";
            self.refuse(&TLS_FILES[1..], text);
        }
    }

    fn refuse(&mut self, names: &[&str], why: &str) {
        for given in names.iter().filter_map(|name| self.raw.get(name)) {
            self.problems.push(Problem::new(format!("{given}: {why}")));
        }
    }
}
