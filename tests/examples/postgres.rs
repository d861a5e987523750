//! The fence in PostgreSQL, on a real server and against real concurrency.

use std::path::Path;
use std::time::Instant;

use super::app::App;
use super::postgres_server::Postgres;
use super::process::{BOUND, finish, finish_within};
use super::{example, stale_writer};

fn ready() -> Postgres {
    let postgres = Postgres::start();
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fencing/postgres.sql");
    finish(postgres.psql().arg("-f").arg(sql), b"").ok();
    postgres
}

#[test]
fn the_late_write_of_a_paused_leader_bounces() {
    let postgres = ready();
    let writer = |work: &[&str]| {
        let mut writer = example("fencing/postgres.sh");
        writer.arg("today").args(work).envs(postgres.environment());
        writer
    };
    let stored = || {
        postgres
            .rows("SELECT body FROM reports WHERE name = 'today'")
            .concat()
    };
    let told = stale_writer::bounces(&writer, &stored);
    assert!(
        told.contains("stale fencing token") && told.contains("stop leading"),
        "{told}"
    );
}

#[test]
fn tokens_are_compared_as_numbers_in_their_range() {
    let postgres = ready();
    let raise = |token: &str| postgres.ask(&format!("SELECT raise_fence('r', {token})"));
    for token in ["9", "10", "10", "999999999999999", "9007199254740991"] {
        raise(token).ok();
    }
    for token in ["9", "10", "9007199254740990"] {
        let refused = raise(token);
        assert!(
            refused.err.contains("stale fencing token"),
            "{}",
            refused.err
        );
    }
    for token in ["0", "-1", "9007199254740992", "NULL", "'x'"] {
        let refused = raise(token);
        assert_ne!(refused.code, Some(0), "{token}");
        assert!(!refused.err.contains("stale"), "{token}: {}", refused.err);
    }
    let marks = postgres.rows("SELECT resource, token FROM fences");
    assert_eq!(marks, ["r|9007199254740991"]);
    // What the transaction had already done is undone.
    let late =
        "BEGIN; INSERT INTO reports VALUES ('x', 'x', 1); SELECT raise_fence('r', 5); COMMIT";
    assert_ne!(postgres.ask(late).code, Some(0));
    assert!(postgres.rows("SELECT * FROM reports").is_empty());
}

/// What each session does, over and over, with tokens in no order.
fn many(statement: &str, session: u64) -> String {
    let mut random = fastrand::Rng::with_seed(session);
    let line = |token: u64| statement.replace("TOKEN", &token.to_string()) + "\n";
    // Rising on the whole, so that many are accepted and many are refused.
    (0..100)
        .map(|step| line(1 + step / 4 + random.u64(0..20)))
        .collect()
}

/// Runs the statements in four sessions at once, and returns what was accepted, in order.
fn at_once(postgres: &Postgres, level: &str, statement: &str) -> Vec<u64> {
    std::thread::scope(|scope| {
        for session in 0..4 {
            scope.spawn(move || {
                let mut psql = postgres.psql();
                let level = format!(
                    "-c default_transaction_isolation={}",
                    level.replace(' ', "\\ ")
                );
                psql.env("PGOPTIONS", level).args(["-v", "ON_ERROR_STOP=0"]);
                let ended =
                    finish_within(BOUND * 4, &mut psql, many(statement, session).as_bytes());
                let other = ended.err.lines().find(|line| {
                    let known = [
                        "stale fencing token",
                        "could not serialize",
                        "transaction is aborted",
                    ];
                    line.contains("ERROR") && !known.iter().any(|text| line.contains(text))
                });
                assert_eq!(other, None);
            });
        }
    });
    let rows = postgres.rows("SELECT token FROM accepted ORDER BY place");
    eprintln!("{rows:?}");
    rows.iter().map(|row| row.parse().unwrap()).collect()
}

#[test]
fn among_many_at_once_accepted_tokens_only_rise() {
    let postgres = ready();
    let statement = "BEGIN; SELECT raise_fence('r', TOKEN); INSERT INTO accepted (token) \
                     VALUES (TOKEN); COMMIT;";
    for level in ["read committed", "repeatable read", "serializable"] {
        // Places are drawn under the fence's lock, so they are in the order of commits.
        let fresh = "DROP TABLE IF EXISTS accepted; DELETE FROM fences; \
                     CREATE TABLE accepted (place bigserial, token bigint)";
        postgres.ask(fresh).ok();
        let accepted = at_once(&postgres, level, statement);
        assert!(accepted.is_sorted(), "{level}: {accepted:?}");
        assert!(
            (5..400).contains(&accepted.len()),
            "{level}: {}",
            accepted.len()
        );
    }
}

/// The statement that the file shows for a row with its own fence.
fn own_fence() -> String {
    let sql = include_str!("../../examples/fencing/postgres.sql");
    let shown = sql
        .lines()
        .skip_while(|line| !line.contains("INSERT INTO reports AS"))
        .map_while(|line| line.strip_prefix("--     "));
    let shown = shown.collect::<Vec<_>>().join(" ");
    shown.trim_end_matches(';').to_owned()
}

#[test]
fn a_row_that_carries_its_own_fence_does_the_same() {
    let postgres = ready();
    let shown = own_fence().replace("42", "TOKEN");
    let statement = format!(
        "WITH written AS ({shown} RETURNING report.token) \
         INSERT INTO accepted (token) SELECT token FROM written;"
    );
    postgres
        .ask("CREATE TABLE accepted (place bigserial, token bigint)")
        .ok();
    let accepted = at_once(&postgres, "read committed", &statement);
    assert!(accepted.is_sorted(), "{accepted:?}");
    assert!((5..400).contains(&accepted.len()), "{}", accepted.len());
}

/// A session that stands inside its transaction, after these statements, until the gate
/// is opened; then it commits.
struct Standing {
    psql: App,
    dir: tempfile::TempDir,
}

impl Standing {
    fn after(postgres: &Postgres, statements: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        let shown = gate.display();
        let wait = format!("\\! echo standing; until [ -e {shown} ]; do sleep 0.02; done");
        let mut psql = postgres.psql();
        for statement in [&["BEGIN"], statements, &[&wait, "COMMIT"]].concat() {
            psql.args(["-c", statement]);
        }
        let psql = App::start(&mut psql);
        psql.out.until("its statements", |line| line == "standing");
        Self { psql, dir }
    }

    fn commit(&mut self) -> bool {
        std::fs::write(self.dir.path().join("gate"), "").unwrap();
        self.psql.exit().success()
    }
}

/// Until somebody waits for a lock.
fn waits(postgres: &Postgres) {
    let end = Instant::now() + BOUND;
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while postgres.rows(waiting).is_empty() {
        assert!(Instant::now() < end, "nobody waits");
    }
}

#[test]
fn who_waited_for_the_lock_is_judged_by_what_was_committed_meanwhile() {
    let postgres = ready();
    for level in ["read committed", "repeatable read", "serializable"] {
        // The first row of a resource, and a row that is there.
        for before in ["", "SELECT raise_fence('r', 5)"] {
            for (standing, waiting, accepted) in [(8, 7, false), (7, 8, true), (8, 8, true)] {
                postgres.ask("TRUNCATE fences").ok();
                postgres.ask(before).ok();
                let raise = |token: i32| format!("SELECT raise_fence('r', {token})");
                let mut first = Standing::after(&postgres, &[&raise(standing)]);
                let mut second = postgres.psql();
                let level = format!(
                    "-c default_transaction_isolation={}",
                    level.replace(' ', "\\ ")
                );
                second
                    .env("PGOPTIONS", &level)
                    .args(["-c", &raise(waiting)]);
                let mut second = App::start(&mut second);
                waits(&postgres);
                assert!(first.commit());
                let done = second.exit().success();
                second.err.ended();
                let told = second.err.all().join(" ");
                let retry = told.contains("could not serialize");
                assert_eq!(
                    done,
                    accepted && !retry,
                    "{level} {standing} {waiting}: {told}"
                );
                assert!(done || retry || told.contains("stale"), "{told}");
                assert!(!retry || !level.contains("committed"), "{told}");
                let highest = if done { waiting } else { standing };
                let marks = postgres.rows("SELECT token FROM fences");
                assert_eq!(marks, [highest.to_string()]);
            }
        }
    }
}

#[test]
fn a_row_that_carries_its_own_fence_is_judged_the_same_way() {
    let postgres = ready();
    let write = |token: i32| own_fence().replace("42", &token.to_string());
    let mut first = Standing::after(&postgres, &[&write(8)]);
    let mut second = postgres.psql();
    let mut second = App::start(second.args(["-c", &format!("{} RETURNING 'changed'", write(7))]));
    waits(&postgres);
    assert!(first.commit());
    assert!(second.exit().success());
    assert!(second.last_words().is_empty());
    assert_eq!(postgres.rows("SELECT token FROM reports"), ["8"]);
}

#[test]
fn a_leader_paused_inside_its_transaction_is_ended_by_the_server() {
    let postgres = ready();
    postgres
        .ask("ALTER DATABASE postgres SET idle_in_transaction_session_timeout = '500ms'")
        .ok();
    let write = "INSERT INTO reports VALUES ('today', 'old', 7)";
    let mut paused = Standing::after(&postgres, &["SELECT raise_fence('r', 7)", write]);
    // Waits for the lock, and has it when the server has ended the other.
    let next =
        "BEGIN; SELECT raise_fence('r', 8); INSERT INTO reports VALUES ('today', 'new', 8); COMMIT";
    postgres.ask(next).ok();
    assert!(!paused.commit());
    assert_eq!(postgres.rows("SELECT body FROM reports"), ["new"]);
}
