//! A member whose disk hangs while it leads the cluster. It answers on, and knows nothing of
//! what the others have done since.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure::machine::Snapshot;
use tenure::time::pause;

use super::etcd_server::{Etcd, Version};
use super::faults::{node, raft_leader, url_with_first};
use super::recorder::Recorder;
use super::until;

/// Each sync of a process begins that much later. Over when it is dropped.
struct Stall(Child);

impl Stall {
    fn of(process: u32, span: Duration) -> Self {
        let strace = Command::new("strace")
            .args(["--quiet=all", "--follow-forks", "--trace=fdatasync,fsync"])
            .arg(format!(
                "--inject=fdatasync,fsync:delay_enter={}",
                span.as_micros()
            ))
            .args(["--output=/dev/null", "--attach", &process.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace must be installed");
        let status = format!("/proc/{process}/status");
        let stall = Self(strace);
        let begun = Instant::now();
        let attached = || {
            let text = std::fs::read_to_string(&status).unwrap();
            let tracer = text.lines().find(|line| line.starts_with("TracerPid:"));
            tracer.is_some_and(|line| !line.ends_with("\t0"))
        };
        while !attached() {
            assert!(begun.elapsed() < Duration::from_secs(20), "not attached");
            std::thread::sleep(Duration::from_millis(20));
        }
        stall
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its keep-alives prolong a lease that the others have ended (etcd#15247, before 3.4.31 and
/// 3.5.13): they prove nothing, and nobody leads by them.
#[tokio::test]
async fn a_member_that_leads_and_hangs_on_its_disk_prolongs_nothing() {
    for version in [Version::V3_4, Version::V3_5] {
        let etcd = Etcd::cluster(version);
        let recorder = Arc::<Recorder>::default();
        let hangs = raft_leader(&etcd);
        let one = node(&url_with_first(&etcd, hangs), "one", &recorder);
        let first = one.until_leads().await;
        let other = (hangs + 1) % etcd.len();
        let two = node(&url_with_first(&etcd, other), "two", &recorder);
        two.until_knows(first).await;
        // The first renewal on a connection reads the record; the later ones may do without.
        let mut renewed_at = None;
        for _ in 0..3 {
            let at = |snapshot: &Snapshot| snapshot.tenure.as_ref().map(|tenure| tenure.renewed_at);
            let renewed = one.until("renewed", |snapshot| at(snapshot) > renewed_at);
            renewed_at = at(&renewed.await);
        }
        let stall = Stall::of(etcd.process(hangs), Duration::from_secs(60));
        // A write that it must sync, and cannot: from then on it hears nobody.
        let port = etcd.port(other);
        let write = std::thread::spawn(move || Etcd::put_at(port, "x", "1"));
        // The others elect, and end what nobody prolongs with them, within three TTLs. Until
        // then a leader has moved to another member, or leads no more.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(15) {
            let led = [one.leads(), two.leads()];
            assert!(led.iter().flatten().count() < 2, "{version:?}: {led:?}");
            pause(Duration::from_millis(20)).await;
        }
        drop(stall);
        let _ = write.join();
        let led = || async { one.leads().max(two.leads()) };
        assert!(until(led, Option::is_some).await >= Some(first));
        recorder.check();
    }
}
