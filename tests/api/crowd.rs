//! Many readers of `/events`, half of them stuck: renewals stay on time, memory stays
//! bounded, and whoever stands still loses its place.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use rustix::process::Signal;

use super::events_reader::EventReader;
use super::http::Wire;
use super::process::{BOUND, Node, file_url};

/// One election that nothing happens to, and one that changes hands without an end:
/// the API serves both from one thread, the loops of both turn on another.
const ELECTIONS: [&str; 4] = ["--election", "steady", "--election", "busy"];
const BUSY: &str = "/elections/busy/events";

/// A connection on which nobody will read, with little room for what is sent.
fn narrow(to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    connect(&socket, &to).unwrap();
    TcpStream::from(socket)
}

/// A reader who has read that it is served, and reads no more.
fn stuck(to: SocketAddr) -> EventReader {
    let reader = EventReader::over(narrow(to), to, BUSY, None);
    reader.unwrap_or_else(|reply| panic!("refused: {reply:?}"))
}

/// Reads to the end of the stream, which must not come before `stopping`, and counts.
fn reading(mut reader: EventReader, stopping: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let stopping = Arc::clone(stopping);
    std::thread::spawn(move || {
        let mut last = reader.must();
        let mut count = 0;
        while let Some(event) = reader.next_within(BOUND * 2) {
            assert_eq!(
                event.revision(),
                last.revision() + 1,
                "{last:#?} {event:#?}"
            );
            last = event;
            count += 1;
        }
        let stops = stopping.load(Ordering::SeqCst);
        assert!(stops, "dropped though it reads: {last:#?}");
        count
    })
}

/// Makes the busy election change hands once at each call, where it is held.
fn churn(node: &Node) -> impl FnMut() -> u64 + use<> {
    let api = node.api;
    let mut wire = Wire::open(api);
    move || {
        let body = r#"{"cooldown_ms":0}"#;
        let length = body.len();
        let request = format!(
            "POST /elections/busy/leadership/stepdown HTTP/1.1\r\nHost: {api}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        assert!(wire.send(request.as_bytes()));
        let reply = wire.reply(false).expect("an answer to a step-down");
        u64::from(reply.status == 200)
    }
}

#[test]
fn a_reader_that_stands_still_is_dropped_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--ttl", "30s", "--max-event-readers", "2"];
    let mut node = Node::leading(&file_url(dir.path()), &[&flags[..], &ELECTIONS].concat());
    let reader = EventReader::resume(node.api, BUSY, None);
    let mut reader = reader.unwrap_or_else(|_| panic!("refused"));
    let mut last = reader.must().revision();
    let _stuck = stuck(node.api);
    let begun = Instant::now();
    let mut turn = churn(&node);
    while EventReader::resume(node.api, "/events", None).is_err() {
        // Releasing, lost, acquired, each read at once.
        for _ in 0..3 * turn() {
            let event = reader.must();
            assert_eq!(event.revision(), last + 1, "{event:#?}");
            last += 1;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it keeps its place"
        );
    }
    // At the least, the time that a client may take no byte.
    assert!(begun.elapsed() > Duration::from_secs(9));
    node.signal(Signal::TERM);
    reader.ends(BOUND);
    assert_eq!(node.exit(), Some(0));
}

/// What a crowd cost.
#[derive(Debug)]
struct Cost {
    rss_before_kib: u64,
    rss_most_kib: u64,
    worst_gap: Duration,
    renewals: usize,
    events_each: u64,
    slowest_answer: Duration,
}

fn rss_kib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

/// 256 readers, every second one stuck, of an election that changes hands all the time.
fn crowd(lasting: Duration) -> Cost {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--ttl", "3s", "--call-timeout", "100ms"];
    let mut node = Node::leading(&file_url(dir.path()), &[&flags[..], &ELECTIONS].concat());
    let before = node.status();
    let mut cost = Cost {
        rss_before_kib: rss_kib(&node),
        rss_most_kib: 0,
        worst_gap: Duration::ZERO,
        renewals: 0,
        events_each: 0,
        slowest_answer: Duration::ZERO,
    };
    let stopping = Arc::new(AtomicBool::new(false));
    let mut standing = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..128 {
        standing.push(stuck(node.api));
        let reader = EventReader::resume(node.api, BUSY, None);
        let reader = reader.unwrap_or_else(|_| panic!("refused"));
        readers.push(reading(reader, &stopping));
    }
    let refused = EventReader::resume(node.api, BUSY, None).err();
    let refused = refused.expect("there is no 257th place");
    refused.problem(503, "too-many-event-readers");

    let mut turn = churn(&node);
    let mut renewed: Vec<i64> = Vec::new();
    let end = Instant::now() + lasting;
    // As long as it is, and as often as tells something: a busy machine takes its time.
    let mut changes = 0;
    while Instant::now() < end || changes < 10 {
        assert!(Instant::now() < end + BOUND, "{changes} changes");
        changes += turn();
        cost.rss_most_kib = cost.rss_most_kib.max(rss_kib(&node));
        let asked = Instant::now();
        let status = node.status();
        cost.slowest_answer = cost.slowest_answer.max(asked.elapsed());
        assert_eq!(status["fence_token"], before["fence_token"], "{status:#}");
        let at = status["lease"]["renewed_at"].as_str().unwrap();
        let at: jiff::Timestamp = at.parse().unwrap();
        // Told from two clocks, a moment moves by a millisecond or so.
        if renewed
            .last()
            .is_none_or(|last| at.as_millisecond() - last > 100)
        {
            renewed.push(at.as_millisecond());
        }
    }
    let gaps = renewed.windows(2).map(|pair| pair[1] - pair[0]);
    cost.worst_gap = Duration::from_millis(gaps.max().unwrap().unsigned_abs());
    cost.renewals = renewed.len();
    stopping.store(true, Ordering::SeqCst);
    node.signal(Signal::TERM);
    assert_eq!(node.exit(), Some(0));
    let counts = readers.into_iter().map(|reader| reader.join().unwrap());
    cost.events_each = counts.min().unwrap();
    cost
}

#[track_caller]
fn assert_bearable(cost: &Cost) {
    // Renewed every second; a call may take 100 ms, and this machine has other work.
    assert!(cost.worst_gap < Duration::from_millis(1500), "{cost:?}");
    assert!(
        cost.rss_most_kib < cost.rss_before_kib + 32 * 1024,
        "{cost:?}"
    );
    assert!(cost.events_each > 20, "{cost:?}");
}

#[test]
fn a_crowd_of_readers_delays_no_renewal() {
    let cost = crowd(Duration::from_secs(6));
    println!("{cost:?}");
    assert_bearable(&cost);
}

/// `cargo test --test api a_minute -- --ignored --nocapture`
#[test]
#[ignore = "it takes a minute, and prints what the crowd costs"]
fn a_minute_of_a_crowd_of_readers() {
    let cost = crowd(Duration::from_secs(60));
    println!("{cost:#?}");
    assert_bearable(&cost);
}
