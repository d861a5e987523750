//! The processes below this one: finding, ending and burying them.

use std::io;
use std::path::Path;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group,
    test_kill_process_group, wait,
};
use tokio::signal::unix::{SignalKind, signal};

/// The children of this process, the dead that nobody has buried yet among them. As a
/// subreaper it is the parent of all that its children leave behind. The list may miss
/// what is born while it is made; who must not miss one asks until [`reap`] finds none.
pub fn children() -> Vec<Pid> {
    listed().or_else(|_| searched()).unwrap_or_default()
}

/// By the lists that the kernel keeps for each thread.
fn listed() -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("children"))?;
        let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
        found.extend(pids.filter_map(Pid::from_raw));
    }
    Ok(found)
}

/// A kernel without those lists tells each process' parent.
fn searched() -> io::Result<Vec<Pid>> {
    let own = getpid().as_raw_nonzero().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        if parent_of(&entry.path()).as_deref() == Some(&own) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn parent_of(process: &Path) -> Option<String> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Some(line.trim().to_owned())
}

/// Kills a group and every child. A child's pid is its own until it is buried, which
/// nobody else does meanwhile; whoever is left without a parent is a child next time.
pub fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    for child in children() {
        let _ = kill_process(child, Signal::KILL);
    }
}

/// Buries the dead; whether a child is left.
pub fn reap(mut buried: impl FnMut(Pid, WaitStatus)) -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => buried(pid, status),
            Err(rustix::io::Errno::CHILD) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return true,
        }
    }
}

/// Whether a process group has members.
pub fn is_there(group: Pid) -> bool {
    test_kill_process_group(group) != Err(rustix::io::Errno::SRCH)
}

/// The duty of the first process of a container: burying those whose parents have died.
pub async fn reap_orphans() {
    let Ok(mut deaths) = signal(SignalKind::child()) else {
        return;
    };
    loop {
        reap(|_, _| {});
        deaths.recv().await;
    }
}
