//! What speaks to a member's port and is no member.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::ALL;
use crate::members::Cluster;
use crate::process::{BOUND, Node};

/// Far above what a member needs, far below what was announced.
const MOST_KB: u64 = 400 << 10;

/// What it says and what is told of it.
fn hostile() -> [(Vec<u8>, &'static str); 4] {
    let two_gigabytes = u32::MAX / 2 + 1;
    let garbage: Vec<u8> = (0..64_u8).map(|byte| byte.wrapping_mul(151) | 1).collect();
    let long = u32::try_from(garbage.len()).unwrap().to_be_bytes();
    [
        (
            two_gigabytes.to_be_bytes().to_vec(),
            "a frame of 2147483648 bytes was announced",
        ),
        (
            u32::MAX.to_be_bytes().to_vec(),
            "a frame of 4294967295 bytes was announced",
        ),
        ([&long[..], &garbage].concat(), "a frame cannot be read"),
        (
            [&[0, 0, 1, 0][..], b"{\"v\":1"].concat(),
            "the connection ended in the middle of a frame",
        ),
    ]
}

/// The member ends the connection; what it wrote before.
fn says(to: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // Closed, or reset for the bytes that it did not read.
    let ended = stream.read_to_end(&mut answer);
    let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(ended.as_ref().map_or_else(reset, |_| true), "{ended:?}");
}

fn resident_kb(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1));
    kb.unwrap().parse().unwrap()
}

#[test]
fn bytes_that_no_member_sends_end_their_connection_and_nothing_else() {
    for backend in ALL {
        let mut cluster = Cluster::begun(backend, 3, "30s");
        let before = cluster.leader();
        let places: Vec<String> = cluster.list.split(',').map(str::to_owned).collect();
        let places = places.iter().map(|entry| entry.split_once('=').unwrap().1);
        for (at, place) in places.enumerate() {
            for (bytes, told) in hostile() {
                says(place, &bytes);
                let node = cluster.node(at);
                node.err.until(told, |line| line.contains(told));
            }
        }
        assert_eq!(cluster.leader(), before);
        for node in cluster.nodes.iter_mut().flatten() {
            assert!(node.runs());
            let panics = |line: &String| line.contains("panicked");
            assert!(!node.err.all().iter().any(panics));
            let kb = resident_kb(node);
            assert!(kb < MOST_KB, "{kb} KB");
        }
        // The others are still let in.
        let skip = cluster.node(before.0).err.all().len();
        let follower = (before.0 + 1) % 3;
        cluster.kill(follower);
        cluster.start(follower, &["--ttl", "30s"]);
        let connected = format!("connected to a peer peer=n{follower}");
        let err = &cluster.node(before.0).err;
        err.until_after(skip, "the member", |line| line.contains(&connected));
        assert_eq!(cluster.leader(), before);
    }
}
