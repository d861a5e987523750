//! The Debian package: made of this binary, installed and removed by dpkg in a root of its
//! own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_tenure");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the script that `make deb` runs.
fn deb(binary: &str, into: &Path) -> Output {
    Command::new(root().join(".ci/deb"))
        .arg(binary)
        .arg(into)
        // A debug binary is large, and a test need not wait for a small package.
        .env("DEB_COMPRESSION", "gzip")
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap()
}

/// What a command that must succeed prints.
fn told(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; .ci/need dpkg-deb fakeroot installs what is missing")
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The package, in that directory.
fn package(into: &Path) -> PathBuf {
    let output = deb(BINARY, into);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A root that has what dpkg asks for, and of its packages only the C library's. `fakeroot`
/// lets anyone be its root.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("var/lib/dpkg");
        for name in ["info", "updates", "triggers"] {
            std::fs::create_dir_all(base.join(name)).unwrap();
        }
        let library = told(Command::new("dpkg-query").args(["-s", "libc6", "libgcc-s1"]));
        // Each package's own stanza, with an empty line between them.
        std::fs::write(base.join("status"), library).unwrap();
        Self(dir)
    }

    fn dpkg(&self, arguments: &[&str]) -> String {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("fakeroot");
        command.arg("dpkg").arg("--root").arg(self.0.path());
        told(
            command
                .args(arguments)
                .env("PATH", format!("{path}:/usr/sbin:/sbin")),
        )
    }

    fn has(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        assert!(path.exists(), "{} is missing", path.display());
        path
    }

    /// Every file but dpkg's own.
    fn files(&self) -> Vec<String> {
        let mut find = Command::new("find");
        find.arg(self.0.path())
            .args(["-type", "f", "-not", "-path", "*/var/*"]);
        told(&mut find).lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_package_has_what_it_should_and_belongs_to_root() {
    let dir = tempfile::tempdir().unwrap();
    let made = package(dir.path());
    let listed = told(Command::new("dpkg-deb").arg("-c").arg(&made));
    for (mode, path) in [
        ("-rwxr-xr-x", "./usr/bin/tenure"),
        ("-rw-r--r--", "./usr/lib/systemd/system/tenure.service"),
        ("-rw-r--r--", "./usr/share/man/man1/tenure.1.gz"),
        (
            "-rw-r--r--",
            "./usr/share/bash-completion/completions/tenure",
        ),
        ("-rw-r--r--", "./usr/share/zsh/vendor-completions/_tenure"),
        (
            "-rw-r--r--",
            "./usr/share/fish/vendor_completions.d/tenure.fish",
        ),
        ("-rw-r--r--", "./usr/share/doc/tenure/copyright"),
        ("-rw-r--r--", "./usr/share/doc/tenure/changelog.gz"),
        ("-rw-r--r--", "./usr/share/doc/tenure/examples/tenure.env"),
        ("drwxr-xr-x", "./"),
    ] {
        let line = listed
            .lines()
            .find(|line| line.ends_with(&format!(" {path}")));
        let line = line.unwrap_or_else(|| panic!("{path} is missing: {listed}"));
        assert!(line.starts_with(&format!("{mode} root/root ")), "{line}");
    }
    let version = told(Command::new("dpkg-deb").arg("-f").arg(&made).arg("Version"));
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
    let needs = told(Command::new("dpkg-deb").arg("-f").arg(&made).arg("Depends"));
    assert!(needs.contains("libc6 (>= 2."), "{needs}");

    let again = tempfile::tempdir().unwrap();
    let again = std::fs::read(package(again.path())).unwrap();
    assert!(std::fs::read(&made).unwrap() == again, "other bytes");
}

#[test]
fn dpkg_installs_it_and_removes_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let made = package(dir.path());
    let root = Root::new();
    assert_eq!(root.files(), Vec::<String>::new());
    root.dpkg(&["--install", made.to_str().unwrap()]);
    let state = root.dpkg(&["--status", "tenure"]);
    assert!(state.contains("Status: install ok installed"), "{state}");

    let version = told(Command::new(root.has("usr/bin/tenure")).arg("--version"));
    assert_eq!(
        version.trim(),
        concat!("tenure ", env!("CARGO_PKG_VERSION"))
    );
    let unit = std::fs::read_to_string(root.has("usr/lib/systemd/system/tenure.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/tenure run "), "{unit}");
    assert!(!unit.contains("examples/systemd"), "{unit}");
    let manual = root.has("usr/share/man/man1/tenure.1.gz");
    assert!(told(Command::new("gunzip").arg("-c").arg(manual)).contains(".TH tenure 1"));
    let completions = root.has("usr/share/bash-completion/completions/tenure");
    told(Command::new("bash").arg("-n").arg(completions));

    root.dpkg(&["--purge", "tenure"]);
    assert_eq!(root.files(), Vec::<String>::new());
    assert!(!root.0.path().join("usr/share/doc/tenure").exists());
}

#[test]
fn what_is_not_built_makes_no_package() {
    let dir = tempfile::tempdir().unwrap();
    let output = deb("target/none/tenure", dir.path());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("target/none/tenure is no program"), "{told}");
}
