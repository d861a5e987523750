//! Members with certificates: mutual TLS between them.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ALL;
use crate::certificates::{Authority, Files};
use crate::members::Cluster;
use crate::process::{BOUND, Node};

const HOST: &[&str] = &["127.0.0.1"];
const TAKEN_UP: &str = "the changed certificates hold for new connections to peers";

struct Secured {
    cluster: Cluster,
    files: Vec<Files>,
}

impl Secured {
    fn begun(backend: &str, authority: &Authority, more: &[&str]) -> Self {
        let cluster = Cluster::new(backend, 3);
        let files = (0..3).map(|at| Files::in_dir(&cluster.disk(at).with_extension("tls")));
        let mut secured = Self {
            files: files.collect(),
            cluster,
        };
        for files in &secured.files {
            files.trust(&[authority]);
            files.show(&authority.sign(HOST));
        }
        let more = [&["--bootstrap"], more].concat();
        for at in 0..3 {
            secured.start(at, &more);
        }
        secured
    }

    fn start(&mut self, at: usize, more: &[&str]) {
        let Files { ca, cert, key } = &self.files[at];
        let named = [
            ("--ca-file", ca),
            ("--cert-file", cert),
            ("--key-file", key),
        ];
        let flags: Vec<String> = named
            .iter()
            .map(|(flag, file)| format!("{flag}={}", file.display()))
            .collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.cluster.start(at, &[&flags, more].concat());
    }

    /// One step of a rotation, on every node; until each has taken it up.
    fn rotate(&self, step: impl Fn(&Files)) {
        let skips: Vec<usize> = (0..3)
            .map(|at| self.cluster.node(at).err.all().len())
            .collect();
        for (at, skip) in skips.into_iter().enumerate() {
            step(&self.files[at]);
            let err = &self.cluster.node(at).err;
            err.until_after(skip, "the rotation", |line| line.contains(TAKEN_UP));
        }
    }
}

/// How many renewals prolonged the lease, and how many did not.
fn renewals(leader: &Node) -> (u64, u64) {
    let metrics = leader.get("/metrics").text();
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("tenure_renewals_total{"))
        .map(|line| {
            let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            (line.contains(r#"result="kept""#), count)
        });
    let (kept, others): (Vec<_>, Vec<_>) = counts.partition(|(kept, _)| *kept);
    let sum = |of: Vec<(bool, u64)>| of.iter().map(|(_, count)| count).sum();
    (sum(kept), sum(others))
}

/// Waits until more than so many did.
fn renewed(leader: &Node, kept: u64) -> (u64, u64) {
    let end = Instant::now() + BOUND;
    loop {
        let counts = renewals(leader);
        if counts.0 > kept {
            return counts;
        }
        assert!(Instant::now() < end, "no renewal: {counts:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn members_with_certificates_elect_and_hand_over() {
    for backend in ALL {
        let mut secured = Secured::begun(backend, &Authority::new("peers"), &[]);
        let (first, epoch) = secured.cluster.leader();
        secured.cluster.kill(first);
        let (second, higher) = secured.cluster.leader();
        assert!(second != first && higher > epoch);
        secured.start(first, &[]);
        assert_eq!(secured.cluster.leader(), (second, higher));
        let mut told = secured.cluster.nodes[second].take().unwrap();
        told.signal(Signal::TERM);
        let (third, highest) = secured.cluster.leader();
        assert!(third != second && highest > higher);
        assert_eq!(told.exit(), Some(0));
    }
}

#[test]
fn certificates_are_exchanged_under_a_leader_that_loses_no_renewal() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    for backend in ALL {
        // Long, with many renewals: what a busy machine holds up is not lost.
        let times = ["--ttl", "30s", "--renew-every", "100ms"];
        let mut secured = Secured::begun(backend, &old, &times);
        let (leader, epoch) = secured.cluster.leader();
        let follower = (leader + 1) % 3;
        let before = renewed(secured.cluster.node(leader), 0);
        secured.rotate(|files| files.trust(&[&old, &new]));
        secured.rotate(|files| files.show(&new.sign(HOST)));
        secured.rotate(|files| files.trust(&[&new]));
        // Connections that begin now know the new authority alone.
        secured.cluster.kill(follower);
        let skip = secured.cluster.node(leader).err.all().len();
        secured.start(follower, &times);
        let connected = format!("connected to a peer peer=n{follower}");
        let err = &secured.cluster.node(leader).err;
        err.until_after(skip, "the new connection", |line| line.contains(&connected));
        assert_eq!(secured.cluster.leader(), (leader, epoch));
        let after = renewed(secured.cluster.node(leader), before.0 + 3);
        assert_eq!(after.1, before.1, "a renewal was lost");
    }
}
