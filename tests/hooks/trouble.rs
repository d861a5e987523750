//! FAULTS.md, hook-trouble: the app's hook hangs, answers 500, points elsewhere, is
//! absent. No renewal is late, and the newest state arrives once it can.

use std::time::{Duration, Instant};

use super::app::{Answer, App};
use super::ports::free_port;
use super::process::{Node, file_url};

const TTL: Duration = Duration::from_secs(3);
/// How long the trouble lasts: several renewals, longer than a lease.
const TROUBLE: Duration = Duration::from_secs(4);
/// A renewal each second; more than this between two is late, on a busy machine too.
const LATE: Duration = Duration::from_millis(1_400);

/// The longest time between two renewals, as `/status` tells them, while `ends` is not
/// reached.
fn worst_gap(node: &Node, ends: Instant) -> Duration {
    let mut renewals: Vec<jiff::Timestamp> = Vec::new();
    while Instant::now() < ends {
        let status = node.status();
        assert_eq!(status["is_leader"], true, "{status:#}");
        let renewed = status["lease"]["renewed_at"].as_str().unwrap();
        renewals.push(renewed.parse().unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    // The same moment reads a millisecond apart now and then: two clocks are compared.
    let gaps = renewals
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]));
    let gaps: Vec<Duration> = gaps
        .filter_map(|gap| Duration::try_from(gap).ok())
        .filter(|gap| *gap > Duration::from_millis(5))
        .collect();
    assert!(gaps.len() >= 3, "{gaps:?}");
    gaps.into_iter().max().unwrap()
}

fn flags(hook: &str) -> Vec<String> {
    let ttl = format!("{}s", TTL.as_secs());
    ["--ttl", &ttl, "--hook", hook].map(str::to_owned).to_vec()
}

fn start(hook: &str) -> (tempfile::TempDir, Node) {
    let dir = tempfile::tempdir().unwrap();
    let flags = flags(hook);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let node = Node::leading(&file_url(dir.path()), &flags);
    (dir, node)
}

/// The newest state arrives, once, now that the app is well.
fn arrives(app: &App, node: &Node, well: Instant) {
    let good = |asked: &super::app::Asked| asked.answered.is_some_and(|(_, status)| status == 200);
    let told = app.until("a delivery", |asked| asked.at > well && good(asked));
    assert_eq!(told.kind(), "leadership.acquired");
    let (data, status) = (told.json()["data"].clone(), node.status());
    assert_eq!(data["fence_token"], status["fence_token"]);
    // The state of that moment, not of when it was first tried.
    let renewed = |status: &serde_json::Value| -> jiff::Timestamp {
        let text = status["lease"]["renewed_at"].as_str().unwrap();
        text.parse().unwrap()
    };
    let age = renewed(&status).duration_since(renewed(&data)).as_secs();
    assert!(age <= 1, "the state is {age} s old");
    println!(
        "delivered {:?} after the app was well",
        told.at.duration_since(well)
    );
    // It is told once: what is known is not told again.
    std::thread::sleep(Duration::from_millis(600));
    let again = app
        .asked()
        .into_iter()
        .filter(|asked| asked.at > well && good(asked));
    assert_eq!(again.count(), 1);
}

fn troubled(name: &str, answer: Answer) -> App {
    let app = App::start();
    app.answers(move |_| answer.clone());
    let (_dir, node) = start(&app.url("/"));
    app.until_kind("leadership.acquired");
    let gap = worst_gap(&node, Instant::now() + TROUBLE);
    println!("{name}: worst gap between renewals {gap:?}");
    assert!(gap < LATE, "{name}: {gap:?}");
    let (well, tried) = (Instant::now(), app.asked().len());
    assert!(tried >= 2, "it is tried again: {tried}");
    app.answers(|_| Answer::Status(200));
    arrives(&app, &node, well);
    app
}

#[test]
fn a_hook_that_sleeps_for_a_minute() {
    let app = troubled("sleeping", Answer::After(Duration::from_secs(60)));
    // Each call was given up after --hook-timeout, 2 s.
    assert!(app.asked().iter().filter(|asked| asked.given_up).count() >= 2);
}

#[test]
fn a_hook_that_answers_500() {
    troubled("refusing", Answer::Status(500));
}

#[test]
fn a_hook_that_points_elsewhere() {
    let elsewhere = App::start();
    troubled("redirecting", Answer::Redirect(elsewhere.url("/other")));
    assert!(elsewhere.asked().is_empty(), "a redirect was followed");
}

#[test]
fn a_hook_that_is_absent() {
    let address = format!("127.0.0.1:{}", free_port());
    let (_dir, node) = start(&format!("http://{address}/"));
    let gap = worst_gap(&node, Instant::now() + TROUBLE);
    println!("absent: worst gap between renewals {gap:?}");
    assert!(gap < LATE, "{gap:?}");
    let well = Instant::now();
    let app = App::at(address.parse().unwrap());
    arrives(&app, &node, well);
}
