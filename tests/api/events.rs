//! `/events`: what is told, in which order, how it is resumed, and whom it refuses.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::events_reader::{Event, EventReader};
use super::http::request;
use super::process::{BOUND, Node, file_url};
use super::redis_server::RedisServer;
use super::{Alone, LONG, Pair};

const STEP_DOWN: &str = "/leadership/stepdown";
const AT_ONCE: &str = r#"{"cooldown_ms":0}"#;

/// Every event follows the one before it, and its body is of its own moment.
#[track_caller]
fn assert_gapless(events: &[Event]) {
    for pair in events.windows(2) {
        let [before, after] = pair else { return };
        assert_eq!(before.parts().0, after.parts().0, "another boot");
        assert_eq!(before.revision() + 1, after.revision(), "{pair:#?}");
    }
    for event in events {
        let told = format!(
            "{}:{}",
            event.data["boot_id"].as_str().unwrap(),
            event.data["revision"]
        );
        assert_eq!(event.id, told, "the body of another moment: {event:#?}");
        let leads = event.data["state"] == "leader";
        assert_eq!(event.data["is_leader"], leads, "{event:#?}");
        assert_eq!(event.data["fence_token"].is_u64(), leads, "{event:#?}");
    }
}

#[test]
fn a_stream_begins_with_the_status() {
    let alone = Alone::new(&[]);
    let mut reader = EventReader::open(alone.node.api);
    assert_eq!(
        reader.header("content-type").as_deref(),
        Some("text/event-stream")
    );
    assert_eq!(reader.header("cache-control").as_deref(), Some("no-store"));
    let first = reader.must();
    assert_eq!(first.name, "status");
    assert!(first.retry.is_some());
    let mut status = alone.node.status();
    for moving in ["time", "lease", "backend"] {
        status[moving] = first.data[moving].clone();
    }
    assert_eq!(first.data, status);
    assert_gapless(&[first]);
}

#[test]
fn a_handover_is_told_event_by_event_on_both_sides() {
    let pair = Pair::new(&[]);
    let mut leader = EventReader::open(pair.leader.api);
    let mut follower = EventReader::open(pair.follower.api);
    let (first, second) = (leader.must(), follower.must());
    assert_eq!(second.data["state"], "follower");
    pair.leader.post(STEP_DOWN, "{}");

    let releasing = leader.must();
    assert_eq!(releasing.name, "leadership.releasing");
    assert_eq!(releasing.data["state"], "stepping_down");
    let lost = leader.must();
    assert_eq!(lost.name, "leadership.lost");
    assert_eq!(lost.data["leader"], Value::Null);
    let changed = leader.must();
    assert_eq!(changed.name, "leader.changed");
    assert_eq!(changed.data["state"], "follower");
    assert_eq!(changed.data["leader"]["id"], "second");
    assert_gapless(&[first, releasing, lost, changed]);

    let gone = follower.must();
    assert_eq!(gone.name, "leader.changed");
    assert_eq!(gone.data["leader"], Value::Null);
    let acquired = follower.must();
    assert_eq!(acquired.name, "leadership.acquired");
    assert_eq!(acquired.data["leader"]["id"], "second");
    assert!(acquired.data["lease"]["remaining_ms"].as_u64() > Some(20_000));
    assert_gapless(&[second, gone, acquired]);
}

/// Steps down until that many further events have happened.
fn happen(node: &Node, events: u64) -> u64 {
    let from = node.status()["revision"].as_u64().unwrap();
    let end = Instant::now() + BOUND;
    loop {
        let status = node.until("leads", |status| status["is_leader"] == true);
        let revision = status["revision"].as_u64().unwrap();
        if revision >= from + events {
            return revision;
        }
        assert!(Instant::now() < end);
        node.post(STEP_DOWN, AT_ONCE);
    }
}

fn read(reader: &mut EventReader, up_to: u64) -> Vec<Event> {
    let mut events = vec![reader.must()];
    while events.last().unwrap().revision() < up_to {
        events.push(reader.must());
    }
    events
}

#[test]
fn a_reader_that_comes_back_misses_nothing_and_is_told_the_same() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let mut steady = EventReader::open(node.api);
    let mut broken = EventReader::open(node.api);
    assert_eq!(broken.must().name, "status");
    let revision = happen(node, 6);
    let mut seen = read(&mut broken, revision - 2);
    for _ in 0..3 {
        // Gone while things happen.
        drop(broken);
        let revision = happen(node, 9);
        let last = seen.last().unwrap().id.clone();
        broken = EventReader::resume(node.api, "/events", Some(&last)).unwrap();
        seen.extend(read(&mut broken, revision));
    }
    assert_gapless(&seen);
    assert!(seen.iter().all(|event| event.name != "status"), "{seen:#?}");
    let until = seen.last().unwrap().revision();
    let steady = read(&mut steady, until);
    assert_eq!(steady[1..], seen[..], "told otherwise to one who stayed");
    // One who comes back in time waits for what is next.
    let last = seen.last().unwrap().id.clone();
    let mut back = EventReader::resume(node.api, "/events", Some(&last)).unwrap();
    node.post(STEP_DOWN, AT_ONCE);
    assert_eq!(back.must().name, "leadership.releasing");
}

#[test]
fn the_history_is_resumed_to_its_end_and_no_further() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let revision = happen(node, 110);
    let boot = node.status()["boot_id"].as_str().unwrap().to_owned();
    let oldest = revision - 100;
    let resume = |id: String| EventReader::resume(node.api, "/events", Some(&id)).unwrap();
    let events = read(&mut resume(format!("{boot}:{oldest}")), revision);
    assert_eq!(events.len(), 100);
    assert_eq!(events[0].revision(), oldest + 1);
    assert_gapless(&events);
    let history = node.get("/history").json();
    for (event, entry) in events.iter().rev().zip(history.as_array().unwrap()) {
        assert_eq!(event.name, entry["event"].as_str().unwrap());
        assert_eq!(event.data["revision"], entry["revision"]);
        assert_eq!(event.data["time"], entry["at"]);
        assert_eq!(event.data["state"], entry["to"]);
    }
    for unknown in [
        format!("{boot}:{}", oldest - 1),
        format!("{boot}:0"),
        format!("{boot}:{}", revision + 1),
        format!("{boot}:{}", u64::MAX),
        format!("{boot}:"),
        format!("{boot}:-1"),
        format!("{}:{revision}", "0".repeat(32)),
        revision.to_string(),
        "x".to_owned(),
        ":".to_owned(),
        String::new(),
    ] {
        let first = resume(unknown.clone()).must();
        assert_eq!(first.name, "status", "{unknown}");
        assert_eq!(first.revision(), revision, "{unknown}");
    }
}

#[test]
fn another_start_of_the_node_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let mut first = Node::leading(&url, LONG);
    let last = EventReader::open(first.api).must();
    first.signal(Signal::TERM);
    assert_eq!(first.exit(), Some(0));
    let second = Node::leading(&url, LONG);
    let mut reader = EventReader::resume(second.api, "/events", Some(&last.id)).unwrap();
    let event = reader.must();
    assert_eq!(event.name, "status");
    assert_ne!(event.parts().0, last.parts().0);
}

#[test]
fn trouble_with_the_store_and_the_end_of_the_lease_are_told_on_time() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "2s"]);
    let mut reader = EventReader::open(node.api);
    let mut seen = vec![reader.must()];
    redis.pause();
    let down = reader.must();
    assert_eq!(down.name, "backend.down");
    assert_eq!(down.data["backend"]["connected"], false);
    assert_eq!(down.data["is_leader"], true, "the lease lasts");
    let left = node.status()["lease"]["remaining_ms"].as_u64().unwrap();
    let (left, begun) = (Duration::from_millis(left), Instant::now());
    let lost = reader.must();
    let late = begun.elapsed().saturating_sub(left);
    assert_eq!(lost.name, "leadership.lost");
    assert!(late < Duration::from_millis(500), "{late:?} late");
    assert_eq!(lost.data["lease"]["remaining_ms"], Value::Null);
    redis.resume();
    seen.extend([down, lost]);
    while seen.last().unwrap().name != "leadership.acquired" {
        seen.push(reader.must());
    }
    assert!(seen.iter().any(|event| event.name == "backend.up"));
    assert_gapless(&seen);
}

#[test]
fn silence_is_broken_by_a_comment() {
    let alone = Alone::new(&[]);
    let mut reader = EventReader::open(alone.node.api);
    reader.must();
    let begun = Instant::now();
    reader.comment(Duration::from_secs(20));
    let silent = begun.elapsed().as_secs_f64();
    assert!((14.0..17.0).contains(&silent), "{silent}");
}

#[test]
fn the_stream_ends_with_the_sidecar_after_the_last_event() {
    let mut pair = Pair::new(&[]);
    let mut reader = EventReader::open(pair.leader.api);
    let mut idle = EventReader::open(pair.leader.api);
    let mut seen = vec![reader.must()];
    let begun = Instant::now();
    pair.leader.signal(Signal::TERM);
    while let Some(event) = reader.next() {
        seen.push(event);
    }
    let names: Vec<&str> = seen.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["status", "leadership.releasing", "leadership.lost"]);
    assert_eq!(seen[1].data["state"], "stopping");
    assert_gapless(&seen);
    idle.ends(BOUND);
    assert_eq!(pair.leader.exit(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "readers hold it up"
    );
}

#[test]
fn the_methods_and_paths_of_events() {
    let alone = Alone::new(&["--max-event-readers", "1", "--election", "orders,mail.v2"]);
    let api = alone.node.api;
    for _ in 0..3 {
        let head = request(api, "HEAD", "/events", &[], b"");
        assert_eq!(head.status, 200, "a HEAD keeps its place");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert!(head.body.is_empty());
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let reply = request(api, method, "/events", &[], b"");
        reply.problem(405, "method-not-allowed");
        assert_eq!(reply.header("allow"), Some("GET,HEAD"));
    }
    let foreign = [("Host", "evil.example")];
    request(api, "GET", "/events", &foreign, b"").problem(403, "forbidden-host");
    request(api, "GET", "/elections/ghost/events", &[], b"").problem(404, "not-found");
    for (path, election) in [
        ("/events", "orders"),
        ("/elections/orders/events", "orders"),
        ("/elections/mail.v2/events", "mail.v2"),
    ] {
        let end = Instant::now() + BOUND;
        // The place of the reader before is free when the server has noticed.
        let mut reader = loop {
            match EventReader::resume(api, path, None) {
                Ok(reader) => break reader,
                Err(reply) => {
                    reply.problem(503, "too-many-event-readers");
                    assert!(Instant::now() < end);
                }
            }
        };
        assert_eq!(reader.must().data["election"], election);
    }
}

#[test]
fn one_reader_too_many_is_told_so() {
    let alone = Alone::new(&["--max-event-readers", "3"]);
    let api = alone.node.api;
    let mut readers: Vec<EventReader> = (0..3).map(|_| EventReader::open(api)).collect();
    for path in ["/events", "/elections/default/events"] {
        let refused = EventReader::resume(api, path, None).err().expect("is full");
        let problem = refused.problem(503, "too-many-event-readers");
        assert_eq!(problem["max_event_readers"], 3);
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("--max-event-readers")
        );
    }
    assert_eq!(alone.node.get("/leader").status, 200);
    for reader in &mut readers {
        assert_eq!(reader.must().name, "status");
    }
    drop(readers.pop());
    let end = Instant::now() + BOUND;
    while EventReader::resume(api, "/events", None).is_err() {
        assert!(Instant::now() < end, "the place stays taken");
    }
}
