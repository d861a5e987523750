//! Settings: where they come from, what is wrong with them, what they mean.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::Value;

use super::ports::free_port;
use super::process::{Ended, Node, file_url, finish, run, tenure};

/// `config check --json` with these flags, environment and file.
pub fn check(flags: &[&str], environment: &[(&str, &str)], file: Option<&str>) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let mut command = tenure();
    command.args(["config", "check", "--json"]);
    if let Some(text) = file {
        let path = dir.path().join("tenure.toml");
        std::fs::write(&path, text).unwrap();
        command.arg("--config").arg(path);
    }
    command.args(flags).envs(environment.iter().copied());
    finish(&mut command, b"")
}

#[track_caller]
fn settings(flags: &[&str], environment: &[(&str, &str)], file: Option<&str>) -> Value {
    check(flags, environment, file).ok().json()["settings"].clone()
}

/// Every problem of these, as lines.
#[track_caller]
pub fn problems(ended: &Ended) -> Vec<String> {
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.out.is_empty());
    let mut lines = ended.err.lines();
    let first = lines.next().unwrap();
    assert!(first.contains("nothing was started"), "{first}");
    let list: Vec<String> = lines
        .filter_map(|line| line.strip_prefix("  - ").map(str::to_owned))
        .collect();
    assert!(
        first.contains(&format!("{} problem", list.len())),
        "{first}"
    );
    list
}

#[test]
fn ten_wrong_values_are_ten_problems_and_nothing_starts() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let state = home.path().join("state");
    let wrong = [
        ("--backend", "mysql://h"),
        ("--election", "a/b"),
        ("--id", "two\nlines"),
        ("--url", "not a url"),
        ("--ttl", "15"),
        ("--drift", "50%"),
        ("--allow-host", "http://name"),
        ("--wait", "soon"),
        ("--status-every", "0s"),
        ("--log-level", "loud"),
    ];
    let mut command = tenure();
    command
        .arg("run")
        .args(["--listen", &listen])
        .arg("--state-dir")
        .arg(&state);
    command
        .env("HOME", home.path())
        .env_remove("XDG_STATE_HOME");
    for (flag, value) in wrong {
        command.args([flag, value]);
    }
    let ended = finish(&mut command, b"");
    let told = problems(&ended);
    assert_eq!(told.len(), wrong.len(), "{told:#?}");
    for (flag, value) in wrong {
        let value = value.escape_debug().to_string();
        let fits = |line: &&String| line.contains(flag) && line.contains(&value);
        assert!(
            told.iter().any(|line| fits(&line)),
            "{flag} {value}: {told:#?}"
        );
    }
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none());
    TcpListener::bind(&listen).expect("the port was left alone");
}

/// `run` would be refused by it, so the check is.
#[test]
fn a_list_without_an_election_is_a_problem() {
    let told = problems(&check(&[], &[], Some("election = []\n")));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains("election in ") && told[0].contains("one election"),
        "{told:#?}"
    );
}

#[test]
fn each_wrong_value_is_named_with_its_mend() {
    for (flag, value, mend) in [
        ("--ttl", "15", "15s"),
        ("--ttl", "", "15s"),
        ("--ttl", "-5s", "15s"),
        ("--ttl", "50ms", "100ms"),
        ("--ttl", "2days", "1day"),
        ("--renew-every", "0s", "longer"),
        ("--call-timeout", "0s", "longer"),
        ("--renew-every", "15s", "ttl"),
        ("--stop-budget", "14s", "ttl"),
        ("--stop-budget", "x", "15s"),
        ("--drift", "1", "%"),
        ("--drift", "-1%", "%"),
        ("--drift", "NaN%", "%"),
        ("--election", "", "A-Z"),
        ("--election", "..", "A-Z"),
        ("--election", "a b", "A-Z"),
        ("--election", "a,a", "twice"),
        ("--id", "", "1 to 256"),
        ("--url", "example", "http://"),
        ("--hook", "app", "http://127.0.0.1"),
        ("--hook", "https://127.0.0.1/", "https"),
        ("--hook", "http://10.0.0.7:80/", "--allow-remote-hook"),
        ("--hook", "http://127.0.0.1.nip.io/", "--allow-remote-hook"),
        ("--hook", "http://localhost.evil/", "--allow-remote-hook"),
        ("--hook", "http://[::2]:80/", "--allow-remote-hook"),
        ("--hook", "http://u@127.0.0.1/", "login"),
        ("--hook", "http://127.0.0.1:99999/", "http://127.0.0.1"),
        ("--hook-timeout", "2s", "--hook"),
        ("--hook-secret-file", "/nonexistent/keys", "--hook"),
        ("--allow-remote-hook=true", "", "--hook"),
        ("--drain-timeout", "5", "15s"),
        ("--drain-timeout", "18446744073709551615s", "365days"),
        ("--wait", "366days", "365days"),
        ("--app-health", "https://127.0.0.1/", "https"),
        ("--app-health-every", "1s", "--app-health"),
        ("--app-health-failures", "3", "--app-health"),
        ("--on-unhealthy", "stepdown", "--app-health"),
        ("--priority", "101", "100"),
        ("--priority", "-1", "100"),
        ("--priority", "high", "100"),
        ("--listen", "4040", "127.0.0.1:4040"),
        ("--listen", "0.0.0.0:4040", "--api-token-file"),
        ("--listen", "[::]:4040", "127.0.0.1"),
        ("--listen", "127.0.0.1:99999", "127.0.0.1:4040"),
        ("--listen", "unix:run/t.sock", "unix:/run/tenure.sock"),
        ("--probe-listen", "4041", "127.0.0.1:4040"),
        ("--probe-status=perhaps", "", "true or false"),
        ("--api-token-file", "/nonexistent/t", "cannot be read"),
        ("--allow-host", "", "name"),
        ("--allow-host", "name:80", "name"),
        ("--allow-host", "a b", "name"),
        ("--redis-wait", "10", "from 0 to 9"),
        ("--redis-wait", "two", "from 0 to 9"),
        ("--redis-wait", "1", "leave it out"),
        ("--state-dir", "", "directory"),
        ("--wait", "1", "15s"),
        ("--once=perhaps", "", "true or false"),
        ("--status-every", "0s", "zero"),
        ("--log-format", "xml", "json"),
        ("--log-level", "LOUD", "debug"),
        ("--backend", "", "redis"),
        ("--backend", "file://relative/dir", "file:///"),
        ("--backend", "http://h", "redis"),
        ("--config", "/nonexistent/tenure.toml", "read"),
    ] {
        let ended = if flag.contains('=') {
            run(&["config", "check", flag])
        } else {
            run(&["config", "check", flag, value])
        };
        let told = problems(&ended);
        assert_eq!(told.len(), 1, "{flag} {value}: {told:#?}");
        let name = flag.trim_start_matches('-').split('=').next().unwrap();
        assert!(told[0].contains(name), "{flag} {value}: {told:?}");
        assert!(told[0].contains(mend), "{flag} {value}: {told:?}");
        let shown = value.split(',').next().unwrap();
        assert!(told[0].contains(shown), "{flag} {value}: {told:?}");
        // The same by `run`, which starts nothing.
        let again = if flag.contains('=') {
            run(&["run", flag])
        } else {
            run(&["run", flag, value])
        };
        assert_eq!(problems(&again), told);
    }
}

#[test]
fn what_the_app_needs_has_its_defaults() {
    let hook = ["--hook", "http://localhost:8080/leadership"];
    let all = settings(&hook, &[], None);
    assert_eq!(all["hook"], "http://localhost:8080/leadership");
    assert_eq!(all["hook-timeout"], "2s");
    assert_eq!(all["drain-timeout"], "5s");
    // A quarter of the TTL, for the app to stop in.
    assert_eq!(all["stop-budget"], "3s 750ms");
    assert_eq!(settings(&[], &[], None)["stop-budget"], "0s");
    for there in [
        "http://127.9.9.9/",
        "http://[::1]:1/x?y",
        "http://LOCALHOST/",
    ] {
        assert_eq!(
            settings(&["--hook", there], &[], None)["hook-timeout"],
            "2s"
        );
    }
    let remote = ["--hook", "http://app:80/", "--allow-remote-hook"];
    assert_eq!(settings(&remote, &[], None)["allow-remote-hook"], true);
    let health = ["--app-health", "http://127.0.0.1:8080/health"];
    let all = settings(&health, &[], None);
    assert_eq!(all["app-health-every"], "1s");
    assert_eq!(all["app-health-failures"], 3);
    assert_eq!(all["on-unhealthy"], "stepdown");
    assert_eq!(all["priority"], 100);
}

#[test]
fn wrong_settings_of_the_app_are_told_together() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::write(&keys, "whsec_short\n").unwrap();
    let keys = keys.to_str().unwrap();
    let flags = [
        ["--hook", "http://app/"],
        ["--hook-secret-file", keys],
        ["--hook-timeout", "0s"],
        ["--app-health", "http://127.0.0.1/"],
        ["--app-health-every", "0s"],
        ["--app-health-failures", "0"],
        ["--on-unhealthy", "restart"],
    ];
    let told = problems(&check(flags.as_flattened(), &[], None));
    assert_eq!(told.len(), 6, "{told:#?}");
    let text = told.join("\n");
    for word in [
        "--allow-remote-hook",
        "line 1 is no key",
        "--hook-timeout 0s",
        "--app-health-every 0s",
        "--app-health-failures 0",
        "no command",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("whsec_short"), "{text}");
}

#[test]
#[cfg(not(feature = "raft"))]
fn a_scheme_that_this_build_does_not_serve_is_refused_by_name() {
    for scheme in ["raft"] {
        for text in [scheme.to_owned(), format!("{scheme}://h1:1")] {
            let told = problems(&run(&["run", "--backend", &text]));
            let line = &told[0];
            assert!(
                line.contains(scheme) && line.contains("does not serve"),
                "{line}"
            );
        }
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file =
        "ttl = \"10s\"\nid = \"file\"\nurl = \"http://file:1\"\nbackend = \"redis://file:1\"\n";
    let environment = [("TENURE_TTL", "20s"), ("TENURE_ID", "env")];
    let all = settings(&["--ttl", "30s"], &environment, Some(file));
    assert_eq!(all["ttl"], "30s");
    assert_eq!(all["id"], "env");
    assert_eq!(all["url"], "http://file:1");
    assert!(
        all["backend"]
            .as_str()
            .unwrap()
            .starts_with("redis://file:1")
    );
    // A flag replaces a list, and adds nothing to it.
    let file = "election = [\"a\", \"b\"]\n";
    let flags = ["--election", "c", "--election", "d,e"];
    let all = settings(&flags, &[("TENURE_ELECTION", "f")], Some(file));
    assert_eq!(all["election"], serde_json::json!(["c", "d", "e"]));
    let all = settings(&[], &[("TENURE_ELECTION", "f, g")], Some(file));
    assert_eq!(all["election"], serde_json::json!(["f", "g"]));
    let all = settings(&[], &[], Some(file));
    assert_eq!(all["election"], serde_json::json!(["a", "b"]));
}

#[test]
fn every_default_is_shown() {
    let all = settings(&[], &[("HOME", "/home/u"), ("XDG_STATE_HOME", "/x")], None);
    assert_eq!(all["backend"], "file:///x/tenure");
    assert_eq!(all["election"], serde_json::json!(["default"]));
    for (name, value) in [
        ("ttl", "15s"),
        ("renew-every", "5s"),
        ("call-timeout", "2s 500ms"),
        ("drift", "1%"),
        ("stop-budget", "0s"),
        ("listen", "127.0.0.1:4040"),
    ] {
        assert_eq!(all[name], value, "{name}");
    }
    assert_eq!(all["once"], false);
    assert_eq!(all["redis-wait"], 0);
    let parts = settings(&["--ttl", "3s", "--once"], &[], None);
    assert_eq!(parts["renew-every"], "1s");
    assert_eq!(parts["call-timeout"], "500ms");
    assert_eq!(parts["once"], true);
}

#[test]
fn every_kind_of_redis_takes_replicas_to_wait_for() {
    for url in ["redis", "redis+sentinel://h/m", "redis+cluster://h"] {
        let all = settings(&["--backend", url, "--redis-wait", "2"], &[], None);
        assert_eq!(all["redis-wait"], 2, "{url}");
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let environment = [
        ("TENURE_TTL", ""),
        ("TENURE_ID", ""),
        ("TENURE_ELECTION", ""),
        ("TENURE_ONCE", ""),
        ("TENURE_CONFIG", ""),
        ("TENURE_STATE_DIR", ""),
    ];
    let all = settings(&[], &environment, None);
    assert_eq!(all["ttl"], "15s");
    assert_eq!(all["once"], false);
    let file = "ttl = \"10s\"\n";
    let all = settings(&[], &environment[..4], Some(file));
    assert_eq!(all["ttl"], "10s");
}

#[test]
fn switches_are_true_or_false_wherever_they_stand() {
    for (text, on) in [("true", true), ("1", true), ("false", false), ("0", false)] {
        assert_eq!(settings(&[], &[("TENURE_ONCE", text)], None)["once"], on);
        let flag = format!("--once={text}");
        assert_eq!(settings(&[&flag], &[], None)["once"], on);
    }
    for (text, on) in [("true", true), ("false", false)] {
        let file = format!("once = {text}\n");
        assert_eq!(settings(&[], &[], Some(&file))["once"], on);
    }
    let ended = check(&[], &[("TENURE_ONCE", "perhaps")], None);
    let told = problems(&ended);
    assert!(told[0].contains("TENURE_ONCE=perhaps"), "{told:?}");
}

#[test]
fn a_value_is_told_with_where_it_came_from() {
    let ended = check(&[], &[("TENURE_TTL", "15")], None);
    assert!(problems(&ended)[0].contains("TENURE_TTL=15"));
    let ended = check(&[], &[], Some("ttl = 15\n"));
    let told = problems(&ended);
    assert!(
        told[0].contains("ttl") && told[0].contains("tenure.toml"),
        "{told:?}"
    );
    let mut command = tenure();
    command.args(["config", "check"]);
    command.env("TENURE_TTL", OsStr::from_bytes(b"1\xff5s"));
    let told = problems(&finish(&mut command, b""));
    assert!(
        told[0].contains("TENURE_TTL") && told[0].contains("UTF-8"),
        "{told:?}"
    );
}

#[test]
fn a_file_with_mistakes_is_told_all_of_them() {
    let file = "tttl = \"3s\"\nttl = [\"3s\"]\n[redis]\nurl = \"x\"\n";
    let told = problems(&check(&[], &[], Some(file)));
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(
        told.iter().all(|line| line.contains("tenure.toml")),
        "{told:#?}"
    );
    for key in ["tttl", "ttl = [", "redis"] {
        assert!(
            told.iter().any(|line| line.contains(key)),
            "{key}: {told:#?}"
        );
    }
    // Underscores serve as well, once.
    let all = settings(&[], &[], Some("renew_every = \"4s\"\n"));
    assert_eq!(all["renew-every"], "4s");
    let twice = "renew_every = \"4s\"\nrenew-every = \"3s\"\n";
    let told = problems(&check(&[], &[], Some(twice)));
    assert!(
        told[0].contains("renew") && told[0].contains("twice"),
        "{told:?}"
    );
    for broken in ["ttl = ", "ttl = \"3s\"\nttl = \"4s\"\n", "\u{0}"] {
        let told = problems(&check(&[], &[], Some(broken)));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("TOML"), "{told:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let told = problems(&run(&[
        "config",
        "check",
        "--config",
        dir.path().to_str().unwrap(),
    ]));
    assert!(told[0].contains("directory"), "{told:?}");
}

#[test]
fn the_check_in_words_names_the_longest_time_without_a_leader() {
    let ended = run(&["config", "check", "--backend", "redis", "--ttl", "15s"]).ok();
    let text = ended.text();
    for told in ["ttl = \"15s\"", "backend = \"redis://", "election", "crash"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    let json = run(&[
        "config",
        "check",
        "--backend",
        "redis",
        "--ttl",
        "15s",
        "--json",
    ]);
    let worst = json.ok().json()["worst_case_failover_ms"].as_u64().unwrap();
    // The text is a file that means the same.
    let again = check(&[], &[], Some(&text)).ok().json();
    let of_flags = check(&["--backend", "redis"], &[], None).ok().json();
    assert_eq!(again, of_flags);
    // The same as the sidecar itself says: ttl · 1.01 + 2 × 2.5 s at least.
    assert!((20_150..25_000).contains(&worst), "{worst}");
}

#[test]
fn a_taken_port_is_told_with_the_command_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let backend = file_url(&dir.path().join("leases"));
    let first = Node::start(&backend, &[]);
    let listen = first.api.to_string();
    let other = file_url(&dir.path().join("others"));
    let told = problems(&run(&["run", "--backend", &other, "--listen", &listen]));
    assert!(told[0].contains(&listen), "{told:?}");
    assert!(
        told[0].contains("tenure run --listen 127.0.0.1:0"),
        "{told:?}"
    );
    // It does work.
    Node::leading(&other, &["--listen", "127.0.0.1:0"]);
}

#[test]
fn what_the_machine_refuses_is_told_together_too() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, b"").unwrap();
    let under = |name: &str| in_the_way.join(name).display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let backend = format!("file://{}", under("leases"));
    let ended = run(&[
        "run",
        "--listen",
        &listen,
        "--state-dir",
        &under("state"),
        "--backend",
        &backend,
    ]);
    let told = problems(&ended);
    assert_eq!(told.len(), 3, "{told:#?}");
    for named in ["--listen", "--state-dir", "--backend"] {
        assert!(
            told.iter().any(|line| line.contains(named)),
            "{named}: {told:#?}"
        );
    }
    assert!(Path::new(&in_the_way).is_file());
}
