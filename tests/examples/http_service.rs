//! An HTTP service that remembers the highest token, and its example of a client.

use std::net::SocketAddr;
use std::path::Path;

use super::app::App;
use super::http::{Reply, request};
use super::process::finish;
use super::{example, stale_writer};

struct Service {
    app: App,
    at: SocketAddr,
}

impl Service {
    fn start(file: &Path) -> Self {
        let app = App::start(example("fencing/http_service.py").arg("0").arg(file));
        let url = app
            .out
            .until("its address", |line| line.starts_with("http://"));
        let at = url.trim_start_matches("http://").parse().unwrap();
        Self { app, at }
    }

    fn put(&self, token: &str, value: &str) -> Reply {
        let headers = [("Fence-Token", token)];
        request(self.at, "PUT", "/", &headers, value.as_bytes())
    }

    fn stored(&self) -> (String, String) {
        let reply = request(self.at, "GET", "/", &[], b"");
        (
            reply.text(),
            reply.header("fence-token").unwrap().to_owned(),
        )
    }
}

fn pair(value: &str, token: &str) -> (String, String) {
    (value.to_owned(), token.to_owned())
}

#[test]
fn the_late_write_of_a_paused_leader_bounces() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(&dir.path().join("report.json"));
    let writer = |work: &[&str]| {
        let mut writer = example("fencing/http.sh");
        writer.arg(format!("http://{}", service.at)).args(work);
        writer
    };
    // Both the reason and the status reach the writer.
    let told = stale_writer::bounces(&writer, &|| service.stored().0);
    assert!(told.contains("409"), "{told}");
}

#[test]
fn a_lower_token_is_refused_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let mut service = Service::start(&file);
    assert_eq!(service.stored(), pair("", "0"));
    for token in ["9", "10", "10"] {
        assert_eq!(service.put(token, token).status, 204);
    }
    service.app.kill();
    let mut service = Service::start(&file);
    assert_eq!(service.stored(), pair("10", "10"));
    let refused = service.put("9", "late");
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("10"), "{}", refused.text());
    for wrong in [
        "",
        "0",
        "-1",
        "+11",
        " ",
        "1_1",
        "11.0",
        "1e3",
        "٣",
        "9007199254740992",
    ] {
        assert_eq!(service.put(wrong, "wrong").status, 400, "{wrong:?}");
    }
    assert_eq!(service.stored(), pair("10", "10"));

    // A second service on the file would have a fence of its own.
    let mut second = App::start(example("fencing/http_service.py").arg("0").arg(&file));
    assert!(!second.exit().success());
    // A file that cannot be read is no fresh start.
    service.app.kill();
    std::fs::write(&file, "{").unwrap();
    let ended = finish(example("fencing/http_service.py").arg("0").arg(&file), b"");
    assert_ne!(ended.code, Some(0), "{}", ended.err);
}

#[test]
fn among_many_at_once_the_fence_only_rises() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(&dir.path().join("report.json"));
    let service = &service;
    std::thread::scope(|scope| {
        for writer in 0..4_u64 {
            scope.spawn(move || {
                for step in 1..=50 {
                    let token = (step * 4 + writer).to_string();
                    let status = service.put(&token, &token).status;
                    assert!([204, 409].contains(&status), "{status}");
                }
            });
        }
    });
    assert_eq!(service.stored(), pair("203", "203"));
}
