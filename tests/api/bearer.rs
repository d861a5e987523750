//! `--api-token-file`: what asks for a token, which ones are taken, and how they are
//! rotated.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::LONG;
use super::http::{Reply, raw, request};
use super::process::{BOUND, Ended, Node, file_url, finish, tenure};

/// A leader that asks for a token.
struct Guarded {
    node: Node,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Guarded {
    fn new(tokens: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens");
        std::fs::write(&file, tokens).unwrap();
        let node = Node::start(
            &file_url(&dir.path().join("store")),
            &[LONG, &["--api-token-file", file.to_str().unwrap()]].concat(),
        );
        let end = Instant::now() + BOUND;
        while node.get("/leader").status != 200 {
            assert!(Instant::now() < end, "it never leads");
        }
        Self {
            node,
            file,
            _dir: dir,
        }
    }

    fn show(&self, authorization: &str) -> Reply {
        let headers = [("Authorization", authorization)];
        request(self.node.api, "GET", "/status", &headers, b"")
    }

    /// Waits until a token is taken, or is not any more.
    #[track_caller]
    fn until(&self, token: &str, status: u16) {
        let end = Instant::now() + BOUND;
        while self.show(&format!("Bearer {token}")).status != status {
            assert!(Instant::now() < end, "{token} never gets {status}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn everything_but_the_probes_asks_for_a_token() {
    let guarded = Guarded::new("s3cret\n");
    let api = guarded.node.api;
    for open in [
        "/leader",
        "/follower",
        "/livez",
        "/healthz",
        "/readyz",
        "/metrics",
        "/elections/default/leader",
        "/elections/default/follower",
    ] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let status = request(api, method, open, &[], b"").status;
            assert!([200, 503].contains(&status), "{method} {open}: {status}");
        }
    }
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/status"),
        ("HEAD", "/status"),
        ("GET", "/elections"),
        ("GET", "/elections/default/status"),
        ("GET", "/fence-token"),
        ("POST", "/fence-token/validate"),
        ("POST", "/leadership/stepdown"),
        ("POST", "/elections/default/leadership/stepdown"),
        ("GET", "/checkpoint"),
        ("PUT", "/checkpoint"),
        ("GET", "/history"),
        ("GET", "/openapi.json"),
        // Who has no token learns not even what there is.
        ("GET", "/nowhere"),
        ("GET", "/leader/"),
        ("GET", "//leader"),
        ("GET", "/x/../leader"),
        ("DELETE", "/status"),
    ] {
        let reply = request(api, method, path, &[], b"");
        assert_eq!(reply.status, 401, "{method} {path}");
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer"), "{challenge}");
        if method != "HEAD" {
            reply.problem(401, "unauthorized");
        }
    }
    assert_eq!(guarded.show("Bearer s3cret").json()["is_leader"], true);
    // A foreign page is told nothing of tokens.
    let headers = [("Host", "evil.example"), ("Authorization", "Bearer s3cret")];
    request(api, "GET", "/status", &headers, b"").problem(403, "forbidden-host");
}

#[test]
fn only_the_whole_token_is_taken() {
    let guarded = Guarded::new("s3cret\r\nsecond-one");
    for good in [
        "Bearer s3cret",
        "bearer s3cret",
        "BEARER   s3cret",
        "Bearer second-one",
    ] {
        assert_eq!(guarded.show(good).status, 200, "{good}");
    }
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "s3cret",
        "Bearer s3cre",
        "Bearer s3cret1",
        "Bearer S3CRET",
        "Bearer s3cret second-one",
        "Bearer s3cret,second-one",
        "Basic s3cret",
        "Bearers3cret",
        "Bearer \"s3cret\"",
    ] {
        let reply = guarded.show(wrong);
        reply.problem(401, "unauthorized");
        assert!(!reply.text().contains("s3cret"));
    }
    let twice = "GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\n\
                 Authorization: Bearer s3cret\r\n\r\n";
    let reply = raw(guarded.node.api, twice.as_bytes()).unwrap();
    reply.problem(401, "unauthorized");
}

#[test]
fn a_token_is_rotated_without_a_restart() {
    let guarded = Guarded::new("old\n");
    let boot_id = guarded.show("Bearer old").json()["boot_id"].clone();
    // Both, while the clients change.
    std::fs::write(&guarded.file, "new\nold\n").unwrap();
    guarded.until("new", 200);
    assert_eq!(guarded.show("Bearer old").status, 200);
    // Replaced as an operator or Kubernetes does it: another file under the name.
    let fresh = guarded.file.with_extension("fresh");
    std::fs::write(&fresh, "new\n").unwrap();
    std::fs::rename(&fresh, &guarded.file).unwrap();
    guarded.until("old", 401);
    assert_eq!(guarded.show("Bearer new").json()["boot_id"], boot_id);
    assert_eq!(guarded.show("Bearer new").json()["is_leader"], true);
}

#[test]
fn a_file_that_goes_bad_keeps_the_tokens_and_is_warned_of() {
    let guarded = Guarded::new("good\n");
    std::fs::remove_file(&guarded.file).unwrap();
    let warned = |word: &str| {
        guarded.node.err.until("a warning", |line| {
            line.contains("WARN") && line.contains("tokens") && line.contains(word)
        })
    };
    warned("cannot be read");
    assert_eq!(guarded.show("Bearer good").status, 200);
    std::fs::write(&guarded.file, "\n").unwrap();
    warned("holds no token");
    assert_eq!(guarded.show("Bearer good").status, 200);
    assert_eq!(guarded.show("Bearer ").status, 401);
    std::fs::write(&guarded.file, "two words\n").unwrap();
    warned("line 1");
    assert_eq!(guarded.show("Bearer good").status, 200);
    std::fs::write(&guarded.file, "better\n").unwrap();
    guarded.until("better", 200);
    assert_eq!(guarded.show("Bearer good").status, 401);
    for line in guarded.node.err.all() {
        assert!(
            !line.contains("better") && !line.contains("words"),
            "{line}"
        );
    }
}

#[test]
fn a_file_without_a_token_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let start = |path: &Path| {
        let mut command = tenure();
        command.args(["run", "--listen", "127.0.0.1:0"]);
        command.args(["--backend", &file_url(dir.path())]);
        command.arg("--api-token-file").arg(path);
        finish(&mut command, b"")
    };
    let absent = start(&file);
    assert_eq!(absent.code, Some(78), "{}", absent.err);
    assert!(absent.err.contains("--api-token-file") && absent.err.contains("read"));
    for bad in ["", "\n\n", "has a space", "\u{1f511}"] {
        std::fs::write(&file, bad).unwrap();
        let ended = start(&file);
        assert_eq!(ended.code, Some(78), "{bad:?}: {}", ended.err);
        assert!(ended.err.contains("--api-token-file"), "{}", ended.err);
        assert!(!ended.err.contains("has a space"), "{}", ended.err);
    }
    assert_eq!(start(dir.path()).code, Some(78));
}

#[test]
fn the_commands_show_the_token() {
    let guarded = Guarded::new("first\nsecond\n");
    let run = |arguments: &[&str], file: Option<&Path>| -> Ended {
        let mut command = tenure();
        command
            .args(arguments)
            .env("TENURE_API", guarded.node.url());
        if let Some(file) = file {
            command.env("TENURE_API_TOKEN_FILE", file);
        }
        finish(&mut command, b"state")
    };
    let file = Some(guarded.file.as_path());
    let token = run(&["token"], file).ok().text();
    for arguments in [
        &["status"][..],
        &["history", "--json"],
        &["validate", token.trim()],
        &["checkpoint", "put"],
        &["checkpoint", "get"],
        &["stepdown", "--cooldown", "0s"],
    ] {
        run(arguments, file).ok();
    }
    let flag = guarded.file.to_str().unwrap();
    run(&["status", "--api-token-file", flag], None).ok();
    for arguments in [&["status"][..], &["stepdown"], &["checkpoint", "put"]] {
        let ended = run(arguments, None);
        assert_eq!(ended.code, Some(78), "{}", ended.err);
        assert!(ended.err.contains("--api-token-file"), "{}", ended.err);
    }
    let missing = Path::new("/nonexistent/tokens");
    assert_eq!(run(&["status"], Some(missing)).code, Some(78));
    // A check of life needs no token, nor a file that can be read.
    for file in [None, file, Some(missing)] {
        run(&["healthcheck"], file).ok();
    }
}
