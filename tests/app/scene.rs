//! Sidecars that run apps on one store, and the log that all the apps write.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::process::{BOUND, Node, file_url, tenure, tenure_by};

/// Names the scene in the environment of all its processes.
const MARK: &str = "SCENE";

/// Takes the lock for life, or tells that another app is alive.
const PRELUDE: &str = r#"
exec 9>>"$SCENE/lock"
flock -n 9 || { echo "second $TENURE_ID" >>"$SCENE/log"; exit 99; }
say() { echo "$1 $TENURE_ID $TENURE_FENCE_TOKEN $$" >>"$SCENE/log"; }
"#;

/// Works until it is asked to stop.
pub const WORK: &str = "say begin; while :; do sleep 60; done";
/// Has children in its group and outside of it, none of which heeds SIGTERM.
pub const STUBBORN_FAMILY: &str = r#"
trap '' TERM
sh -c 'while :; do sleep 60; done' &
setsid sh -c 'sh -c "while :; do sleep 60; done" & sleep 60' &
(setsid sh -c 'while :; do sleep 60; done' &)
say begin
while :; do sleep 60; done
"#;

/// A directory with a store, a lock and a log. Dropping it kills what is left of its
/// processes, however they were orphaned.
pub struct Scene {
    dir: tempfile::TempDir,
    backend: String,
}

/// An app's word in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub what: String,
    pub node: String,
    pub token: u64,
    pub pid: u32,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log"), "").unwrap();
        let backend = file_url(&dir.path().join("store"));
        Self { dir, backend }
    }

    pub fn on(backend: &str) -> Self {
        let mut scene = Self::new();
        scene.backend = backend.to_owned();
        scene
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `tenure run` with these flags, and a script as its app.
    pub fn command(&self, id: &str, flags: &[&str], script: &str) -> Command {
        let mut command = self.bare(id, flags);
        command.args(["--", "sh", "-c", &format!("{PRELUDE}{script}")]);
        command
    }

    /// `tenure run` with these flags, and whatever follows.
    pub fn bare(&self, id: &str, flags: &[&str]) -> Command {
        let mut command = tenure();
        command
            .args(["run", "--listen", "127.0.0.1:0", "--id", id])
            .args(flags)
            .env("TENURE_BACKEND", &self.backend)
            .env(MARK, self.path());
        command
    }

    /// The same, by a shell that says this first.
    pub fn command_after(&self, first: &str, flags: &[&str], script: &str) -> Command {
        let inner = self.command("a", flags, script);
        let mut command = tenure_by("sh");
        command
            .args(["-c", &format!("{first}; exec \"$@\""), "sh"])
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    }

    #[track_caller]
    pub fn start(&self, id: &str, flags: &[&str], script: &str) -> Node {
        Node::spawn(&mut self.command(id, flags, script))
    }

    /// Starts a sidecar and waits for its app's first word.
    #[track_caller]
    pub fn leading(&self, id: &str, flags: &[&str], script: &str) -> (Node, Word) {
        let before = self.words("begin").len();
        let node = self.start(id, flags, script);
        let word = self.nth("begin", before);
        assert_eq!(word.node, id);
        (node, word)
    }

    #[track_caller]
    pub fn following(&self, id: &str, flags: &[&str], script: &str) -> Node {
        let node = self.start(id, flags, script);
        node.until("follows", |status| status["state"] == "follower");
        node
    }

    /// Everything that was said, in order.
    #[track_caller]
    pub fn log(&self) -> Vec<Word> {
        let text = std::fs::read_to_string(self.path().join("log")).unwrap();
        assert!(!text.contains("second"), "two apps at once: {text}");
        let words = text.lines().map(|line| {
            let parts: Vec<&str> = line.split(' ').collect();
            Word {
                what: parts[0].to_owned(),
                node: parts[1].to_owned(),
                token: parts[2].parse().unwrap(),
                pid: parts[3].parse().unwrap(),
            }
        });
        let words: Vec<Word> = words.collect();
        for pair in words.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            let same = (&before.node, before.pid) == (&after.node, after.pid);
            assert!(
                before.token < after.token || same && before.token == after.token,
                "each tenure has one app: {words:#?}"
            );
        }
        words
    }

    #[track_caller]
    pub fn words(&self, what: &str) -> Vec<Word> {
        let log = self.log();
        log.into_iter().filter(|word| word.what == what).collect()
    }

    /// The word of that kind with so many before it.
    #[track_caller]
    pub fn nth(&self, what: &str, before: usize) -> Word {
        let end = Instant::now() + BOUND;
        loop {
            if let Some(word) = self.words(what).get(before) {
                return word.clone();
            }
            assert!(Instant::now() < end, "no {what} in {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The processes of this scene with this word in their command line.
    pub fn processes(&self, word: &str) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.path().display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(pid): Option<u32> = pid else {
                continue;
            };
            let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
            let marked = read("environ")
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes());
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            if marked && line.contains(word) {
                found.push(pid);
            }
        }
        found
    }

    /// The guard below a sidecar.
    #[track_caller]
    pub fn guard_of(&self, node: &Node) -> u32 {
        let guards = self.processes("tenure __guard");
        let own = guards
            .into_iter()
            .find(|guard| parent(*guard) == Some(node.pid()));
        own.expect("it has a guard")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for pid in self.processes("") {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

pub fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Neither gone nor waiting to be buried.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|text| {
        let state = text.rsplit(") ").next().unwrap_or_default();
        !state.starts_with('Z')
    })
}

/// Waits for something to be so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A script of its own, for what a command line cannot hold.
pub fn script(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}
