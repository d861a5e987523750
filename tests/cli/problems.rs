//! Any bad value is told, all of them together: wherever it stands, and though what it
//! belongs to is missing or wrong itself.

use super::process::{finish, run, tenure};
use super::settings::{check, problems};

/// What depends on `--hook`, `--app-health` and a peer backend, none of it right.
const DEPENDENTS: &[(&str, &str)] = &[
    ("peer", "x"),
    ("peer", "a=nohost"),
    ("node", "a b"),
    ("peer-listen", "7102"),
    ("witness", "zz"),
    ("insecure-peers", "zz"),
    ("heartbeat", "q"),
    ("suspicion", "0s"),
    ("election-timeout", "q"),
    ("bootstrap", "zz"),
    ("hook-secret-file", "/nonexistent/keys"),
    ("hook-timeout", "q"),
    ("allow-remote-hook", "zz"),
    ("app-health-every", "q"),
    ("app-health-failures", "0"),
    ("on-unhealthy", "zz"),
];

/// As a flag, whether it takes a value or is a switch.
fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

#[track_caller]
fn each_is_told_once(told: &[String], wrong: &[(&str, &str)]) {
    assert_eq!(told.len(), wrong.len(), "{told:#?}");
    for (name, value) in wrong {
        let variable = name.replace('-', "_").to_uppercase();
        let mut lines = told.iter().filter(|line| line.contains(value));
        let named = lines.any(|line| line.contains(name) || line.contains(&variable));
        assert!(named, "{name} {value}: {told:#?}");
    }
}

#[test]
fn what_depends_on_a_setting_that_is_not_there_is_read_all_the_same() {
    let flags: Vec<String> = DEPENDENTS
        .iter()
        .map(|(name, value)| flag(name, value))
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    each_is_told_once(&problems(&check(&flags, &[], None)), DEPENDENTS);

    let lines = DEPENDENTS.iter().skip(1);
    let file: String = lines
        .map(|(name, value)| format!("{name} = \"{value}\"\n"))
        .collect();
    let told = problems(&check(&[], &[], Some(&file)));
    each_is_told_once(&told, &DEPENDENTS[1..]);

    for (name, value) in DEPENDENTS {
        let variable = format!("TENURE_{}", name.replace('-', "_").to_uppercase());
        let told = problems(&check(&[], &[(&variable, value)], None));
        each_is_told_once(&told, &[(name, value)]);
    }
    // Right values that are of no use stay what they are: a file may serve several.
    let file = "heartbeat = \"2s\"\nhook-timeout = \"1s\"\non-unhealthy = \"restart\"\n";
    check(&[], &[], Some(file)).ok();
}

#[test]
fn what_depends_on_the_backend_is_read_though_that_is_wrong() {
    let wrong = [
        &[("backend", "mongo"), ("username", ""), ("redis-wait", "x")],
        &[
            ("password-file", "/nonexistent/p"),
            ("ca-file", "/nonexistent/a"),
            ("cert-file", "/nonexistent/c"),
        ][..],
        DEPENDENTS,
    ]
    .concat();
    let flags: Vec<String> = wrong
        .iter()
        .map(|(name, value)| flag(name, value))
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    each_is_told_once(&problems(&check(&flags, &[], None)), &wrong);
}

#[test]
fn every_duration_of_a_lease_is_judged_by_itself_first() {
    for wrong in [
        [("ttl", "0s"), ("renew-every", "x"), ("call-timeout", "0s")],
        [("ttl", "0s"), ("renew-every", "0s"), ("call-timeout", "0s")],
        [("ttl", "2days"), ("drift", "1"), ("stop-budget", "y")],
    ] {
        let flags: Vec<String> = wrong
            .iter()
            .map(|(name, value)| flag(name, value))
            .collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        each_is_told_once(&problems(&check(&flags, &[], None)), &wrong);
    }
}

#[test]
fn files_that_cannot_be_read_are_told_beside_a_missing_pair() {
    let flags = [
        "--backend=etcds://h",
        "--ca-file=/nonexistent/a",
        "--cert-file=/nonexistent/c",
    ];
    let told = problems(&check(&flags, &[], None)).join("\n");
    for line in [
        "--cert-file /nonexistent/c: it makes a pair",
        "--ca-file /nonexistent/a: cannot be read",
        "--cert-file /nonexistent/c: cannot be read",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[test]
fn an_empty_name_of_the_file_is_wrong_as_a_flag_alone() {
    let told = problems(&run(&["config", "check", "--config", "", "--ttl", "x"]));
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("--config \"\": name a file"), "{told:?}");
    let mut command = tenure();
    command.args(["config", "check"]).env("TENURE_CONFIG", "");
    finish(&mut command, b"").ok();
}

#[test]
fn a_name_of_dots_is_refused_with_the_rule_that_it_breaks() {
    for dots in [".", ".."] {
        let told = problems(&run(&["config", "check", "--election", dots]));
        assert!(told[0].contains("but not . or .. alone"), "{told:?}");
    }
}
