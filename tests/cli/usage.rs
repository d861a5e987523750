//! Commands that start nothing: help, completions, man page, wrong usage.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use super::ports::free_port;
use super::process::{finish, run, tenure};

#[test]
fn help_and_version_are_data_and_good() {
    let help = run(&["--help"]).ok();
    for command in [
        "run",
        "status",
        "stepdown",
        "token",
        "validate",
        "checkpoint",
        "history",
        "cluster",
        "lab",
        "config",
        "healthcheck",
        "completions",
        "man",
    ] {
        assert!(help.text().contains(command), "{command}");
        run(&[command, "--help"]).ok();
    }
    let version = run(&["--version"]).ok().text();
    assert_eq!(
        version.trim(),
        format!("tenure {}", env!("CARGO_PKG_VERSION"))
    );
    let run_help = run(&["run", "--help"]).ok().text();
    for flag in [
        "--backend",
        "--election",
        "--ttl",
        "--listen",
        "--state-dir",
        "--wait",
        "--once",
    ] {
        assert!(run_help.contains(flag), "{flag}");
    }
}

#[test]
fn unknown_flags_and_commands_are_usage_errors() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["run", "--no-such-flag"],
        &["run", "--ttl"],
        &["run", "stray"],
        &["run", "--ttl", "3s", "--ttl", "4s"],
        &["status", "--no-such-flag"],
        &["validate"],
        &["checkpoint"],
        &["cluster"],
        &["cluster", "add"],
        &["cluster", "status", "--election", "a"],
        &["config"],
        &["completions"],
        &["lab", "--no-such-flag"],
        &["checkpoint", "put", "--if-match", "1.2", "--if-none-match"],
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(
            ended.out.is_empty() && !ended.err.is_empty(),
            "{arguments:?}"
        );
    }
}

/// What is not known is 2; a bad value of what is known is 78.
#[test]
fn a_bad_value_is_no_wrong_usage() {
    for shell in ["tcsh", ""] {
        let ended = run(&["completions", shell]);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.err.contains("bash"), "{}", ended.err);
    }
    let mut command = tenure();
    command.arg("status");
    command.args([OsStr::new("--api"), OsStr::from_bytes(b"http://\xff")]);
    let ended = finish(&mut command, b"");
    assert_eq!(ended.code, Some(78), "{ended:?}");
}

/// A panic would have a code of its own, 101.
#[test]
fn a_full_disk_is_no_panic() {
    let ended = |arguments: &[&str], out: &str, err: &str| {
        let open = |path| File::options().write(true).open(path).unwrap();
        let mut command = tenure();
        command.args(arguments);
        command.stdout(open(out)).stderr(open(err));
        command.status().unwrap().code()
    };
    for arguments in [&["config", "check"][..], &["config", "check", "--json"]] {
        assert_eq!(ended(arguments, "/dev/full", "/dev/null"), Some(1));
        assert_eq!(ended(arguments, "/dev/full", "/dev/full"), Some(1));
    }
    let api = format!("http://127.0.0.1:{}", free_port());
    for (arguments, code) in [
        (&["config", "check", "--ttl", "x"][..], 78),
        (&["run", "--ttl", "x"], 78),
        (&["lab", "--nodes", "99"], 78),
        (&["status", "--api", &api], 69),
        (&["frobnicate"], 2),
        (&["__guard"], 71),
    ] {
        let code_seen = ended(arguments, "/dev/null", "/dev/full");
        assert_eq!(code_seen, Some(code), "{arguments:?}");
    }
}

#[test]
fn completions_and_man_page() {
    for (shell, mark) in [
        ("bash", "complete"),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
    ] {
        let script = run(&["completions", shell]).ok().text();
        assert!(script.contains(mark), "{shell}");
        assert!(script.contains("stepdown") && script.contains("call-timeout"));
        // The lab's own node is no command for people.
        assert!(!script.contains("lab-node"), "{shell}");
    }
    let bash = run(&["completions", "bash"]).text();
    let checked = finish(
        std::process::Command::new("bash").args(["-n", "/dev/stdin"]),
        bash.as_bytes(),
    );
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    let man = run(&["man"]).ok().text();
    assert!(man.contains(".TH") && man.len() > 500);
    for told in ["stepdown", "call\\-timeout"] {
        assert!(man.contains(told), "{told} is not in the man page");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for arguments in [
        &["completions", "bash"][..],
        &["man"],
        &["config", "check"],
        &["run", "--help"],
    ] {
        let mut child = tenure()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Closed before anything is read, as `head -0` would.
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

#[test]
fn colour_is_for_terminals_and_never_with_no_color() {
    for no_color in [false, true] {
        let mut command = tenure();
        command.args(["run", "--ttl", "0s", "--log-level", "debug"]);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let ended = finish(&mut command, b"");
        assert!(!ended.err.contains('\u{1b}'), "{}", ended.err);
    }
    // A terminal made by script(1), which passes its own on.
    let made = |no_color: &str| {
        let line = format!("{} run --no-such-flag", env!("CARGO_BIN_EXE_tenure"));
        let mut command = std::process::Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm");
        command.env_remove("NO_COLOR");
        if !no_color.is_empty() {
            command.env("NO_COLOR", no_color);
        }
        finish(&mut command, b"").text()
    };
    assert!(made("").contains("\u{1b}["));
    assert!(!made("1").contains("\u{1b}["));
}

#[test]
fn bad_lab_flags_are_told_together_and_start_nothing() {
    let ended = run(&[
        "lab",
        "--nodes",
        "1",
        "--rounds",
        "0",
        "--ttl",
        "soon",
        "--fault",
        "kill,flood",
        "--backend",
        "ftp://h",
    ]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    for told in ["--nodes", "--rounds", "--ttl", "flood", "ftp"] {
        assert!(ended.err.contains(told), "{told}: {}", ended.err);
    }
    let ended = run(&["lab", "--fault", "cut"]);
    assert_eq!(ended.code, Some(78));
    assert!(ended.err.contains("--fault cut"), "{}", ended.err);
    let ended = run(&["lab", "--ttl", "3s", "--renew-every", "3s"]);
    assert_eq!(ended.code, Some(78), "{}", ended.err);
    for wrong in ["x", "-1", "1.5", "10"] {
        let ended = run(&["lab", "--nodes", wrong]);
        assert_eq!(ended.code, Some(78), "{wrong}: {}", ended.err);
        assert!(ended.err.contains(wrong), "{}", ended.err);
    }
}
