//! Network namespaces, each with one link to a common bridge. The bridge is in a namespace
//! too: nothing of this machine's own network is touched, and no rule of it reaches here.

use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::process::{Ended, finish, send};

/// Names of namespaces begin with it; the test's process id follows.
const PREFIX: &str = "tenure-test-";

/// Removed when it is dropped.
pub struct Network {
    /// One for each node.
    pub namespaces: Vec<String>,
    bridge: String,
}

impl Network {
    pub fn new(nodes: usize) -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| {
            assert!(
                rustix::process::geteuid().is_root(),
                "network namespaces need root: sudo -E env \"PATH=$PATH\" cargo test \
                 --all-features --test acceptance"
            );
            sweep();
        });
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let serial = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |what: &str| format!("{PREFIX}{}-{serial}-{what}", std::process::id());
        let network = Self {
            namespaces: (0..nodes).map(|at| name(&at.to_string())).collect(),
            bridge: name("bridge"),
        };
        network.make();
        network
    }

    fn make(&self) {
        ip(&["netns", "add", &self.bridge], "");
        let mut links = "link add bridge type bridge\nlink set bridge up\n".to_owned();
        for (at, namespace) in self.namespaces.iter().enumerate() {
            ip(&["netns", "add", namespace], "");
            links += &format!(
                "link add to{at} type veth peer name eth0 netns {namespace}\n\
                 link set to{at} master bridge\nlink set to{at} up\n"
            );
        }
        ip(&["-netns", &self.bridge, "-batch", "-"], &links);
        for (at, namespace) in self.namespaces.iter().enumerate() {
            let own = format!(
                "addr add {}/24 dev eth0\nlink set eth0 up\nlink set lo up\n",
                address(at)
            );
            ip(&["-netns", namespace, "-batch", "-"], &own);
        }
    }

    /// Where each node listens for the others.
    pub fn places(&self) -> Vec<String> {
        let all = 0..self.namespaces.len();
        all.map(|at| format!("{}:7001", address(at))).collect()
    }

    /// What the others say does not reach it.
    pub fn deafen(&self, at: usize, others: &[usize]) {
        self.cut(at, "INPUT -s", others);
    }

    /// What it says does not reach the others.
    pub fn mute(&self, at: usize, others: &[usize]) {
        self.cut(at, "OUTPUT -d", others);
    }

    /// No word from one side to the other.
    pub fn part(&self, side: &[usize], other: &[usize]) {
        for at in side {
            self.deafen(*at, other);
            self.mute(*at, other);
        }
    }

    pub fn heal(&self) {
        for namespace in &self.namespaces {
            let command = ["netns", "exec", namespace, "iptables", "-w", "-F"];
            ip(&command, "");
        }
    }

    fn cut(&self, at: usize, way: &str, others: &[usize]) {
        let mut rules = "*filter\n".to_owned();
        for other in others {
            rules += &format!("-A {way} {} -j DROP\n", address(*other));
        }
        rules += "COMMIT\n";
        let restore = ["iptables-restore", "-w", "--noflush"];
        let command = [&["netns", "exec", &self.namespaces[at]][..], &restore].concat();
        ip(&command, &rules);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.namespaces.iter().chain([&self.bridge]) {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn address(at: usize) -> String {
    format!("10.77.0.{}", at + 1)
}

/// Runs `ip`, which must succeed.
fn ip(arguments: &[&str], input: &str) -> Ended {
    let found = Command::new("ip").arg("-Version").output();
    assert!(
        found.is_ok(),
        "ip is missing, and perhaps iptables: `make programs` installs both"
    );
    let ended = finish(Command::new("ip").args(arguments), input.as_bytes());
    assert_eq!(
        ended.code,
        Some(0),
        "ip {arguments:?}: {}(in a container it needs CAP_NET_ADMIN and CAP_SYS_ADMIN; \
         iptables comes by `make programs`)",
        ended.err
    );
    ended
}

/// Ends what runs that were killed have left: their processes, and their namespaces.
fn sweep() {
    let listed = ip(&["netns", "list"], "").text();
    let names = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    for name in names {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|it| it.split('-').next());
        if owner.is_none_or(|pid| Path::new("/proc").join(pid).exists()) {
            continue;
        }
        let pids = finish(Command::new("ip").args(["netns", "pids", name]), b"").text();
        for pid in pids.lines().filter_map(|pid| pid.trim().parse().ok()) {
            send(pid, rustix::process::Signal::KILL);
        }
        let _ = Command::new("ip").args(["netns", "del", name]).output();
    }
}
