//! A PostgreSQL server of the test's own, reached over a socket in its own directory.
#![allow(dead_code)]

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::process::{Ended, finish, finish_within};

const STARTS_WITHIN: Duration = Duration::from_secs(60);

pub struct Postgres {
    server: Child,
    dir: tempfile::TempDir,
}

impl Postgres {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().metadata().unwrap();
        // PostgreSQL does not run as root: the user of the package does, then.
        let user = (own.uid() == 0).then(|| user_of_the_package().unwrap_or((65_534, 65_534)));
        if let Some((uid, gid)) = user {
            chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let program = |name: &str| {
            let mut command = Command::new(binaries().join(name));
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
                .current_dir(dir.path())
                .env_clear()
                .env("LC_ALL", "C");
            command
        };
        let mut initdb = program("initdb");
        initdb.args([
            "--no-sync",
            "-A",
            "trust",
            "-U",
            "tenure",
            "-E",
            "UTF8",
            "-D",
            "data",
        ]);
        finish_within(STARTS_WITHIN, &mut initdb, b"").ok();
        let mut server = program("postgres");
        server.args([
            "-D",
            "data",
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-k",
        ]);
        server.arg(dir.path());
        let server = server
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let postgres = Self { server, dir };
        let end = Instant::now() + STARTS_WITHIN;
        while postgres.ask("SELECT 1").code != Some(0) {
            let log = std::fs::read_to_string(postgres.dir.path().join("log"));
            assert!(Instant::now() < end, "PostgreSQL does not start: {log:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        postgres
    }

    /// What points `psql` to this server.
    pub fn environment(&self) -> [(&'static str, &Path); 3] {
        [
            ("PGHOST", self.dir.path()),
            ("PGUSER", Path::new("tenure")),
            ("PGDATABASE", Path::new("postgres")),
        ]
    }

    pub fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command.envs(self.environment());
        command
    }

    pub fn ask(&self, sql: &str) -> Ended {
        finish(self.psql().args(["-c", sql]), b"")
    }

    /// The rows of a statement that must succeed.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let text = self.ask(sql).ok().text();
        text.lines().map(ToOwned::to_owned).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: at once, its children and its shared memory too.
        let pid = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::QUIT));
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && matches!(self.server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Debian keeps the server's programs out of the PATH.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let bin = std::env::split_paths(&path).find(|bin| bin.join("postgres").exists());
        bin.expect("postgres must be installed (Debian: postgresql); make test does it")
    })
}

fn user_of_the_package() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
