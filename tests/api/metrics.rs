//! `/metrics`: every series on every node from the start, and what moves them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::http::request;
use super::ports::free_port;
use super::process::{BOUND, Node, file_url};
use super::redis_server::RedisServer;
use super::{Alone, LONG, Pair};

/// Each series of the text format and its value.
fn scrape(node: &Node) -> BTreeMap<String, f64> {
    let reply = node.get("/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = reply.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| line.rsplit_once(' ').unwrap());
    let all: Vec<_> = series
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect();
    let unique: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(unique.len(), all.len(), "a series twice: {text}");
    unique
}

/// A series of the only election.
#[track_caller]
fn of(series: &BTreeMap<String, f64>, name: &str, labels: &str) -> f64 {
    let comma = if labels.is_empty() { "" } else { "," };
    let whole = format!("tenure_{name}{{election=\"default\"{comma}{labels}}}");
    let found = series.get(&whole);
    *found.unwrap_or_else(|| panic!("no {whole} in {series:#?}"))
}

/// What the API's contract lists, each name with its further labels.
fn assert_complete(series: &BTreeMap<String, f64>) {
    for (name, labels) in [
        ("is_leader", ""),
        ("has_leader", ""),
        ("term", ""),
        ("lease_remaining_seconds", ""),
        ("transitions_total", r#"to="leader",reason="won""#),
        ("transitions_total", r#"to="candidate",reason="expired""#),
        ("transitions_total", r#"to="candidate",reason="revoked""#),
        (
            "transitions_total",
            r#"to="stepping_down",reason="step_down""#,
        ),
        ("transitions_total", r#"to="follower",reason="leader_seen""#),
        ("transitions_total", r#"to="leader",reason="store_trouble""#),
        ("renewals_total", r#"result="kept""#),
        ("renewals_total", r#"result="lost""#),
        ("renewals_total", r#"result="unavailable""#),
        ("renewals_total", r#"result="unknown""#),
        ("renewals_total", r#"result="refused""#),
        ("renewal_duration_seconds_bucket", r#"le="+Inf""#),
        ("renewal_duration_seconds_bucket", r#"le="0.001""#),
        ("renewal_duration_seconds_sum", ""),
        ("renewal_duration_seconds_count", ""),
        ("leaderless_seconds_total", ""),
        ("leadership_seconds_total", ""),
        ("backend_up", ""),
        ("backend_last_success_timestamp_seconds", ""),
        ("fence_checks_total", r#"result="current""#),
        ("fence_checks_total", r#"result="stale""#),
        ("fence_checks_total", r#"result="unavailable""#),
        ("checkpoint_writes_total", r#"result="written""#),
        ("checkpoint_writes_total", r#"result="stale""#),
        ("checkpoint_writes_total", r#"result="unknown""#),
        (
            "hook_deliveries_total",
            r#"type="leadership.acquired",result="delivered""#,
        ),
        (
            "hook_deliveries_total",
            r#"type="health.changed",result="unreachable""#,
        ),
        ("child_restarts_total", ""),
        ("clock_step_seconds", ""),
    ] {
        of(series, name, labels);
    }
    let build = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!((of(series, "build_info", &build) - 1.0).abs() < f64::EPSILON);
}

/// Prometheus's own word on a text.
#[track_caller]
fn assert_promtool_likes(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: .ci/need promtool");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let ended = child.wait_with_output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ended.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn a_leader_and_its_follower_have_every_series() {
    let pair = Pair::new(&[]);
    let leader = scrape(&pair.leader);
    let follower = scrape(&pair.follower);
    let names = |series: &BTreeMap<String, f64>| series.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&leader), names(&follower));
    assert_complete(&leader);
    let token = pair.leader.status()["fence_token"].as_f64().unwrap();
    for (series, leads) in [(&leader, 1.0), (&follower, 0.0)] {
        assert_eq!(of(series, "is_leader", ""), leads);
        assert_eq!(of(series, "has_leader", ""), 1.0);
        assert_eq!(of(series, "term", ""), token);
        let left = of(series, "lease_remaining_seconds", "");
        assert!((10.0..=30.0).contains(&left), "{left}");
        assert_eq!(of(series, "backend_up", ""), 1.0);
        let won = of(series, "transitions_total", r#"to="leader",reason="won""#);
        assert_eq!(won, leads);
        assert_eq!(
            of(series, "leadership_seconds_total", "") > 0.0,
            leads > 0.0
        );
    }
    let seen = r#"to="follower",reason="leader_seen""#;
    assert_eq!(of(&follower, "transitions_total", seen), 1.0);
    for node in [&pair.leader, &pair.follower] {
        assert_promtool_likes(&node.get("/metrics").text());
    }
}

#[test]
fn before_the_first_election_every_series_is_there_and_says_so() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let node = Node::start(&url, &["--ttl", "2s"]);
    node.until("told of trouble", |status| {
        status["backend"]["trouble"].is_string()
    });
    let series = scrape(&node);
    assert_complete(&series);
    for name in [
        "is_leader",
        "has_leader",
        "term",
        "lease_remaining_seconds",
        "backend_up",
        "backend_last_success_timestamp_seconds",
        "leadership_seconds_total",
    ] {
        assert_eq!(of(&series, name, ""), 0.0, "{name}");
    }
    assert!(of(&series, "leaderless_seconds_total", "") > 0.0);
    assert_promtool_likes(&node.get("/metrics").text());
}

#[test]
fn what_happens_is_counted() {
    let alone = Alone::new(&[]);
    let node = &alone.node;
    let token = node.token();
    for body in [
        format!(r#"{{"token":{token}}}"#),
        r#"{"token":1}"#.to_owned(),
        r#"{"token":9007199254740991}"#.to_owned(),
    ] {
        assert_eq!(node.post("/fence-token/validate", &body).status, 200);
    }
    let own = token.to_string();
    let put = |token: &str, more: &[(&str, &str)]| {
        let headers = [&[("Fence-Token", token)], more].concat();
        node.put(&headers, b"state").status
    };
    assert_eq!(put(&own, &[]), 204);
    assert_eq!(put("1", &[]), 409);
    assert_eq!(put(&own, &[("If-None-Match", "*")]), 412);
    node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    node.until("leads again", |status| status["is_leader"] == true);
    let series = scrape(node);
    for (name, labels, count) in [
        ("fence_checks_total", r#"result="current""#, 1.0),
        ("fence_checks_total", r#"result="stale""#, 1.0),
        ("fence_checks_total", r#"result="unknown""#, 1.0),
        ("checkpoint_writes_total", r#"result="written""#, 1.0),
        ("checkpoint_writes_total", r#"result="stale""#, 1.0),
        ("checkpoint_writes_total", r#"result="mismatch""#, 1.0),
        ("transitions_total", r#"to="leader",reason="won""#, 2.0),
        (
            "transitions_total",
            r#"to="stepping_down",reason="step_down""#,
            1.0,
        ),
        (
            "transitions_total",
            r#"to="candidate",reason="released""#,
            1.0,
        ),
    ] {
        assert_eq!(of(&series, name, labels), count, "{name} {labels}");
    }
    assert!(of(&series, "term", "") > token as f64);
}

#[test]
fn renewals_are_counted_and_timed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::leading(&file_url(dir.path()), &["--ttl", "600ms"]);
    let end = Instant::now() + BOUND;
    let series = loop {
        let series = scrape(&node);
        if of(&series, "renewals_total", r#"result="kept""#) >= 3.0 {
            break series;
        }
        assert!(Instant::now() < end, "{series:#?}");
    };
    let count = of(&series, "renewal_duration_seconds_count", "");
    assert_eq!(of(&series, "renewals_total", r#"result="kept""#), count);
    let whole = of(&series, "renewal_duration_seconds_bucket", r#"le="+Inf""#);
    assert_eq!(whole, count);
    let sum = of(&series, "renewal_duration_seconds_sum", "");
    assert!(sum > 0.0 && sum < count, "{sum}");
    let led = of(&series, "leadership_seconds_total", "");
    assert!(led > 0.3, "{led}");
}

#[test]
fn no_scrape_tells_of_a_lease_that_is_over() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "2s"]);
    let before = scrape(&node);
    // The server's clock runs beside this one.
    assert!(of(&before, "clock_step_seconds", "").abs() < 0.5);
    redis.pause();
    let end = Instant::now() + BOUND;
    loop {
        let series = scrape(&node);
        let leads = of(&series, "is_leader", "") > 0.0;
        let left = of(&series, "lease_remaining_seconds", "");
        assert!(!leads || left > 0.0, "leads with nothing left");
        let result = |result| of(&series, "renewals_total", result);
        // Sent and unanswered, or not sent because the connection was given up.
        let in_vain = result(r#"result="unknown""#) + result(r#"result="unavailable""#);
        let expired = r#"to="candidate",reason="expired""#;
        let expired = of(&series, "transitions_total", expired) > 0.0;
        if !leads && expired && in_vain > 0.0 && of(&series, "backend_up", "") == 0.0 {
            assert_eq!(of(&series, "has_leader", ""), 0.0);
            break;
        }
        assert!(Instant::now() < end, "{series:#?}");
    }
    let first = of(&scrape(&node), "leaderless_seconds_total", "");
    let led = of(&scrape(&node), "leadership_seconds_total", "");
    let second = of(&scrape(&node), "leaderless_seconds_total", "");
    assert!(second > first);
    assert_eq!(of(&scrape(&node), "leadership_seconds_total", ""), led);
}

#[test]
fn openmetrics_for_those_who_ask() {
    let alone = Alone::new(&["--election", "orders", "--election", "bills"]);
    let ask = |accept: &str| {
        let headers = [("Accept", accept)];
        request(alone.node.api, "GET", "/metrics", &headers, b"")
    };
    let reply = ask("application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert_eq!(
        reply.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains("# TYPE tenure_renewals counter\n"));
    for name in ["orders", "bills"] {
        let line = format!("tenure_renewals_total{{election=\"{name}\",result=\"lost\"}} 0\n");
        assert!(text.contains(&line), "{text}");
    }
    let plain = ask("text/plain").text();
    assert!(plain.contains("# TYPE tenure_renewals_total counter\n"));
    assert!(!plain.contains("# EOF"));
    let head = request(alone.node.api, "HEAD", "/metrics", &[], b"");
    assert_eq!(head.status, 200);
}

#[test]
fn a_follower_counts_no_leadership() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let _leader = Node::leading(&url, LONG);
    let follower = Node::following(&url, LONG);
    let series = scrape(&follower);
    let first = of(&series, "leaderless_seconds_total", "");
    let again = of(&scrape(&follower), "leaderless_seconds_total", "");
    assert_eq!(first, again, "a leader is known");
    assert_eq!(of(&series, "leadership_seconds_total", ""), 0.0);
}
