//! `make demo`, as a person uses it: Ctrl-C in the leader's pane, and another counts on.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::process::BOUND;
use super::{alone, example};

/// A demo with a tmux server in a directory of its own, which is also how its processes
/// are told from all others.
struct Demo(TempDir);

impl Demo {
    fn start() -> Self {
        let demo = Self(tempfile::tempdir().unwrap());
        let told = demo.run("start");
        assert!(told.contains("the demo runs"), "{told}");
        demo
    }

    fn run(&self, what: &str) -> String {
        let mut command = example("demo.sh");
        command
            .arg(what)
            .env("TENURE", env!("CARGO_BIN_EXE_tenure"))
            .env("TMPDIR", self.0.path())
            .env("TMUX_TMPDIR", self.0.path());
        output(&mut command)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", "tenure-demo"]).args(arguments);
        output(command.env("TMUX_TMPDIR", self.0.path()))
    }

    /// What stands in a pane, with what has scrolled away.
    fn reads(&self, pane: usize) -> String {
        let pane = format!("demo.{pane}");
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-", "-t", &pane])
    }

    /// The first of these panes in which a line has that.
    fn pane_with(&self, panes: &[usize], text: &str) -> usize {
        let end = Instant::now() + BOUND;
        loop {
            let read: Vec<String> = panes.iter().map(|pane| self.reads(*pane)).collect();
            if let Some(index) = read.iter().position(|read| read.contains(text)) {
                return panes[index];
            }
            assert!(Instant::now() < end, "no pane has {text}: {read:#?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Every process that was started with this demo's directory around it.
    fn processes(&self) -> Vec<(Pid, String)> {
        let here = format!("TMUX_TMPDIR={}", self.0.path().display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| read_lossy(&entry.path().join(name));
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw)
                && read("environ").split('\0').any(|it| it == here)
            {
                found.push((pid, read("cmdline").replace('\0', " ")));
            }
        }
        found
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The values of a counter's lines, in their order.
fn counted(text: &str) -> Vec<u64> {
    let lines = text
        .lines()
        .filter(|line| line.starts_with("leader epoch="));
    let values = lines.filter_map(|line| line.split("counter=").nth(1)?.split(' ').next());
    values.filter_map(|value| value.parse().ok()).collect()
}

#[test]
fn in_the_demo_another_node_counts_on_and_nothing_is_left_behind() {
    let _alone = alone();
    let demo = Demo::start();
    let panes = [0, 1, 2];
    assert_eq!(demo.tmux(&["list-panes", "-t", "demo"]).lines().count(), 3);
    let old = demo.pane_with(&panes, "counter=5 ");
    demo.pane_with(&[old], "default: leader epoch");
    demo.tmux(&["send-keys", "-t", &format!("demo.{old}"), "C-c"]);
    demo.pane_with(&[old], "has ended; Enter starts it again");
    let last = *counted(&demo.reads(old)).last().unwrap();
    let others: Vec<usize> = panes.into_iter().filter(|pane| *pane != old).collect();
    let new = demo.pane_with(&others, "leader epoch=");
    demo.pane_with(&[new], &format!("counter={} ", last + 4));
    let first = counted(&demo.reads(new))[0];
    assert!(
        (last + 1..=last + 2).contains(&first),
        "{last}, then {first}"
    );
    // The one that was stopped comes back, and follows.
    demo.tmux(&["send-keys", "-t", &format!("demo.{old}"), "Enter"]);
    let follows = format!("follower of node-{}", new + 1);
    demo.pane_with(&[old], &follows);
    let again = demo.run("start");
    assert!(again.contains("the demo runs"), "{again}");
    assert_eq!(demo.tmux(&["list-panes", "-t", "demo"]).lines().count(), 3);

    // A pane that waits for Enter is ended, too.
    demo.tmux(&["send-keys", "-t", &format!("demo.{old}"), "C-c"]);
    assert!(demo.processes().len() >= 4, "{:?}", demo.processes());
    let told = demo.run("stop");
    assert!(told.contains("the demo has ended"), "{told}");
    // tmux's server may be seen on its way out.
    let end = Instant::now() + BOUND;
    while !demo.processes().is_empty() {
        assert!(Instant::now() < end, "left behind: {:?}", demo.processes());
    }
    let kept = std::fs::read_dir(demo.0.path()).unwrap().flatten();
    let kept: Vec<_> = kept.map(|entry| entry.file_name()).collect();
    assert!(
        kept.iter()
            .all(|name| !name.to_string_lossy().contains("demo.")),
        "{kept:?}"
    );
    assert!(demo.run("stop").contains("no demo runs"));
}

#[test]
fn without_tmux_the_demo_says_what_to_install() {
    let empty = tempfile::tempdir().unwrap();
    for name in ["sh", "dirname", "pwd"] {
        let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name));
        if let Some(found) = found.iter().find(|path| path.exists()) {
            std::os::unix::fs::symlink(found, empty.path().join(name)).unwrap();
        }
    }
    let output = example("demo.sh")
        .arg("start")
        .env("PATH", empty.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{told}");
    assert!(told.contains("apt-get install tmux"), "{told}");
}
