//! Passwords: shown nowhere, and not taken where everybody could read them.

use super::ports::free_port;
use super::process::{Node, run, tenure};
use super::redis_server::RedisServer;
use super::settings::{check, problems};

#[test]
fn a_password_is_shown_nowhere() {
    const SECRET: &str = "s3cr3t:p@ss";
    let dir = tempfile::tempdir().unwrap();
    let url = format!("redis://user:{SECRET}@127.0.0.1:{}/0", free_port());
    let environment = [("TENURE_BACKEND", url.as_str())];
    for flags in [&[][..], &["--ttl", "1"]] {
        let ended = check(flags, &environment, None);
        assert!(!ended.text().contains("p@ss"), "{}", ended.text());
        assert!(!ended.err.contains("s3cr3t"), "{}", ended.err);
    }
    // Wrong URLs with a password in them.
    for wrong in [
        "redis://u:s3cr3t@h:99999",
        "mysql://u:s3cr3t@h",
        "redis://u:s3cr3t@",
        "redis:u:s3cr3t@h",
        "u:s3cr3t@h:6379",
    ] {
        let ended = check(&[], &[("TENURE_BACKEND", wrong)], None);
        assert_eq!(ended.code, Some(78));
        assert!(!ended.err.contains("s3cr3t"), "{}", ended.err);
        let file = format!("backend = \"{wrong}\"\n");
        let ended = check(&[], &[], Some(&file));
        assert!(!ended.err.contains("s3cr3t"), "{}", ended.err);
    }
    // A file that is no TOML because of a line with a password in it.
    let ended = check(&[], &[], Some("backend = redis://u:s3cr3t@h\n"));
    assert_eq!(ended.code, Some(78));
    assert!(!ended.err.contains("s3cr3t"), "{}", ended.err);
    // Where a store has no password, and other programs take one; nor where TOML has a
    // list or a table instead of a text.
    for wrong in [
        "file://u:s3cr3t@h/x",
        "redis://h:6379?password=s3cr3t",
        "redis://h?s3cr3t",
        "etcd://h?a=b&password=s3cr3t",
        "mongodb://h/?authToken=s3cr3t",
    ] {
        let ended = check(&[], &[("TENURE_BACKEND", wrong)], None);
        let told = problems(&ended);
        assert!(!ended.err.contains("s3cr3t"), "{}", ended.err);
        assert!(told[0].contains("TENURE_BACKEND="), "{told:?}");
    }
    for file in [
        "backend = [\"redis://u:s3cr3t@h:6379\"]\n",
        "[backend]\nurl = \"redis://u:s3cr3t@h:6379\"\n",
        "[backend]\nurl = \"redis://h\"\npassword = \"s3cr3t\"\n",
    ] {
        let ended = check(&[], &[], Some(file));
        let told = problems(&ended);
        assert!(!ended.err.contains("s3cr3t"), "{}", ended.err);
        assert!(told[0].contains("single text"), "{told:?}");
    }
    let ended = run(&["status", "--api", "http://u:s3cr3t@127.0.0.1:1"]);
    assert_eq!(ended.code, Some(78));
    assert!(!ended.err.contains("s3cr3t"), "{}", ended.err);
    // A running sidecar: its output, its logs, its status, its command line.
    let mut command = tenure();
    command.args([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--log-level",
        "trace",
        "--ttl",
        "2s",
    ]);
    command.env("TENURE_BACKEND", &url).current_dir(dir.path());
    let node = Node::spawn(&mut command);
    let status = node.until("told of trouble", |status| {
        status["backend"]["trouble"].is_string()
    });
    assert!(!status.to_string().contains("s3cr3t"), "{status:#}");
    let line = std::fs::read(format!("/proc/{}/cmdline", node.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("s3cr3t"));
    let told = [node.out.all(), node.err.all()].concat().join("\n");
    assert!(!told.contains("s3cr3t") && !told.contains("p@ss"), "{told}");
}

/// The same for a password in a file, against a server that takes it.
#[test]
fn a_password_file_is_shown_nowhere() {
    const SECRET: &str = "s3cr3t-in-a-file";
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("password");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let server = RedisServer::start();
    let reply = server.command(&["CONFIG", "SET", "requirepass", SECRET]);
    assert_eq!(reply.text(), "OK");
    let mut command = tenure();
    command
        .args(["run", "--listen", "127.0.0.1:0", "--log-level", "trace"])
        .args(["--ttl", "2s", "--backend", &server.url(), "--password-file"])
        .arg(&path);
    let node = Node::spawn(&mut command);
    let status = node.until("leads", |status| status["is_leader"] == true);
    assert!(!status.to_string().contains(SECRET), "{status:#}");
    for file in ["cmdline", "environ"] {
        let read = std::fs::read(format!("/proc/{}/{file}", node.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&read).contains(SECRET), "{file}");
    }
    let connected = |line: &str| line.contains("connected to Redis");
    node.err.until("the connection", connected);
    let told = [node.out.all(), node.err.all()].concat().join("\n");
    assert!(!told.contains(SECRET), "{told}");
}

#[test]
fn a_password_on_the_command_line_is_refused() {
    // Every user of the machine could read it there, in `ps`.
    let told = problems(&run(&["run", "--backend", "redis://u:s3cr3t@h:1"]));
    assert!(told[0].contains("TENURE_BACKEND"), "{told:?}");
    assert!(!told[0].contains("s3cr3t"), "{told:?}");
    run(&["config", "check", "--backend", "redis://u@h:1"]).ok();
    let told = problems(&run(&["lab", "--backend", "redis://u:s3cr3t@h:1"]));
    assert!(told[0].contains("TENURE_BACKEND"), "{told:?}");
    assert!(!told[0].contains("s3cr3t"), "{told:?}");
}

/// The other nodes and every client are told the URL of the app.
#[test]
fn the_url_of_the_app_carries_no_login() {
    for source in ["flag", "environment"] {
        let url = "http://u:s3cr3t@h:80/";
        let ended = match source {
            "flag" => check(&["--url", url], &[], None),
            _ => check(&[], &[("TENURE_URL", url)], None),
        };
        let told = problems(&ended);
        assert!(told[0].contains("login"), "{source}: {told:?}");
        assert!(!ended.err.contains("s3cr3t"), "{source}: {}", ended.err);
    }
    check(&["--url", "http://h:80/@home"], &[], None).ok();
}
