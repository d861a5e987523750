//! What only the leader does: cron, and a migration that is done once.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::app::App;
use super::example;
use super::postgres_server::Postgres;
use super::process::{Ended, Node, file_url, finish};

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

fn three(dir: &Path, flags: &[&str]) -> Vec<Node> {
    let ids = ["a", "b", "c"].map(|id| ["--id", id]);
    let start = |id: &[&str; 2]| Node::start(&file_url(dir), &[flags, id].concat());
    ids.iter().map(start).collect()
}

fn cron(api: &str, seconds: &str, work: &[&str]) -> Ended {
    let mut cron = example("cron.sh");
    cron.arg(seconds).args(work).env("TENURE_API", api);
    finish(&mut cron, b"")
}

#[test]
fn cron_runs_its_command_on_the_leader_only() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = three(dir.path(), &["--ttl", "30s"]);
    let log = dir.path().join("log");
    let note = format!("echo $TENURE_FENCE_TOKEN >> {}", log.display());
    let mut tokens = Vec::new();
    for round in 0..3 {
        let leads = |node: &&Node| node.status()["is_leader"] == true;
        for node in &nodes {
            node.until("knows", |status| status["leader"].is_object());
        }
        let leader = nodes.iter().find(leads).expect("one of them leads");
        tokens.push(leader.token().to_string());
        for node in &nodes {
            let ended = cron(&node.url(), "5", &["sh", "-c", &note]).ok();
            assert_eq!(ended.err, "", "cron mails what is printed");
        }
        assert_eq!(lines(&log), tokens, "round {round}");
        let before = leader.token();
        leader.post("/leadership/stepdown", "{}");
        let follower = nodes.iter().find(|node| node.api != leader.api).unwrap();
        follower.until("another leads", |status| {
            status["leader"].is_object() && status["term"].as_u64() > Some(before)
        });
    }
}

#[test]
fn cron_says_what_hinders_it_and_ends_what_takes_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::leading(&file_url(dir.path()), &["--ttl", "10s"]);
    assert_eq!(
        cron(&node.url(), "1", &["sh", "-c", "exit 7"]).code,
        Some(7)
    );
    assert_eq!(cron(&node.url(), "1", &["sleep", "60"]).code, Some(124));
    let never = cron(&node.url(), "60", &["echo", "ran"]);
    assert_eq!(never.code, Some(75), "{never:?}");
    assert!(
        never.out.is_empty() && never.err.contains("63 s"),
        "{never:?}"
    );
    let away = cron("http://127.0.0.1:1", "1", &["echo", "ran"]);
    assert_eq!(away.code, Some(69), "{away:?}");
    assert!(away.out.is_empty() && away.err.contains("127.0.0.1:1"));
}

const ELECTION: &str = "migration-7";

fn migrate(node: &Node, work: &str) -> Command {
    let mut migrate = example("migrate.sh");
    migrate.args([ELECTION, "sh", "-c", work]);
    migrate.env("TENURE_API", node.url());
    migrate
}

/// The node that leads the migration.
fn migrating(nodes: &[Node]) -> usize {
    let path = format!("/elections/{ELECTION}/status");
    let end = std::time::Instant::now() + super::process::BOUND;
    loop {
        let leads = |node: &Node| node.get(&path).json()["is_leader"] == true;
        if let Some(at) = nodes.iter().position(leads) {
            return at;
        }
        assert!(std::time::Instant::now() < end, "nobody leads");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

const ELECTIONS: [&str; 2] = ["--election", "orders,migration-7"];

#[test]
fn a_migration_is_run_once_by_whoever_leads() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = three(dir.path(), &[&["--ttl", "30s"][..], &ELECTIONS].concat());
    let log = dir.path().join("log");
    let work = format!("echo ran >> {}; sleep 0.3", log.display());
    let all: Vec<App> = nodes
        .iter()
        .map(|node| App::start(&mut migrate(node, &work)))
        .collect();
    for mut app in all {
        assert!(app.exit().success(), "{:?}", app.err.all());
    }
    assert_eq!(lines(&log), ["ran"]);
    // Not by a node that comes later, nor under another leader.
    let leader = migrating(&nodes);
    nodes[leader].post(&format!("/elections/{ELECTION}/leadership/stepdown"), "{}");
    for node in &nodes {
        finish(&mut migrate(node, &work), b"").ok();
    }
    assert_eq!(lines(&log), ["ran"]);
    // The app's own election has its own checkpoint.
    assert_eq!(nodes[0].get("/checkpoint").status, 404);
}

#[test]
fn a_migration_that_fails_is_left_to_another_node() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = three(dir.path(), &[&["--ttl", "30s"][..], &ELECTIONS].concat());
    let leader = migrating(&nodes);
    let failed = finish(&mut migrate(&nodes[leader], "exit 7"), b"");
    assert_eq!(failed.code, Some(7), "{}", failed.err);
    assert!(failed.err.contains("failed with code 7"), "{}", failed.err);
    let log = dir.path().join("log");
    let work = format!("echo ran >> {}", log.display());
    let others = nodes.iter().filter(|node| node.api != nodes[leader].api);
    let others: Vec<App> = others
        .map(|node| App::start(&mut migrate(node, &work)))
        .collect();
    for mut app in others {
        assert!(app.exit().success(), "{:?}", app.err.all());
    }
    assert_eq!(lines(&log), ["ran"]);

    // What will never be is said, not waited for.
    let mut wrong = example("migrate.sh");
    wrong
        .args(["ghost", "echo", "ran"])
        .env("TENURE_API", nodes[0].url());
    let wrong = finish(&mut wrong, b"");
    assert_eq!(wrong.code, Some(78), "{wrong:?}");
    assert!(
        wrong.out.is_empty() && wrong.err.contains("ghost"),
        "{wrong:?}"
    );
}

/// The command is one transaction behind a fence: what a leader that was paused in the
/// middle of it does later bounces, and the database has it once.
#[test]
fn a_paused_migration_bounces_and_the_next_leader_does_it() {
    let postgres = Postgres::start();
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fencing/postgres.sql");
    finish(postgres.psql().arg("-f").arg(sql), b"").ok();
    postgres.ask("CREATE TABLE migrated (token bigint)").ok();
    let dir = tempfile::tempdir().unwrap();
    let nodes = three(dir.path(), &[&["--ttl", "3s"][..], &ELECTIONS].concat());
    let gate = dir.path().join("gate");
    let transaction = "psql -X -q -1 -v ON_ERROR_STOP=1 \
        -c \"SELECT raise_fence('schema', $TENURE_FENCE_TOKEN)\" \
        -c \"INSERT INTO migrated VALUES ($TENURE_FENCE_TOKEN)\"";
    let held = format!(
        "echo working >&2; until [ -e {} ]; do sleep 0.02; done; {transaction}",
        gate.display()
    );
    let start =
        |node: &Node, work: &str| App::start(migrate(node, work).envs(postgres.environment()));
    let first = migrating(&nodes);
    let mut paused = start(&nodes[first], &held);
    paused.err.until("its work", |line| line == "working");
    paused.signal(Signal::STOP);
    nodes[first].signal(Signal::STOP);

    let others = nodes.iter().filter(|node| node.api != nodes[first].api);
    for mut app in others
        .map(|node| start(node, transaction))
        .collect::<Vec<_>>()
    {
        assert!(app.exit().success(), "{:?}", app.err.all());
    }
    assert_eq!(postgres.rows("SELECT count(*) FROM migrated"), ["1"]);

    std::fs::write(&gate, "").unwrap();
    nodes[first].signal(Signal::CONT);
    paused.signal(Signal::CONT);
    assert!(!paused.exit().success());
    paused.err.ended();
    let told = paused.err.all().join("\n");
    assert!(told.contains("stale fencing token"), "{told}");
    assert_eq!(postgres.rows("SELECT count(*) FROM migrated"), ["1"]);
    // Started again, as a supervisor does, it finds it done.
    finish(&mut migrate(&nodes[first], "exit 1"), b"").ok();
}

#[test]
fn a_leader_killed_midway_is_followed_by_one_that_does_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = three(dir.path(), &[&["--ttl", "3s"][..], &ELECTIONS].concat());
    let first = nodes.remove(migrating(&nodes));
    let mut killed = App::start(&mut migrate(&first, "echo working >&2; exec sleep 60"));
    killed.err.until("its work", |line| line == "working");
    killed.kill();
    first.signal(Signal::KILL);
    let log = dir.path().join("log");
    let work = format!("echo ran >> {}", log.display());
    let others: Vec<App> = nodes
        .iter()
        .map(|node| App::start(&mut migrate(node, &work)))
        .collect();
    for mut app in others {
        assert!(app.exit().success(), "{:?}", app.err.all());
    }
    assert_eq!(lines(&log), ["ran"]);
}
