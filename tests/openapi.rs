//! `/openapi.json` against the code: the routes, their methods, the members of their
//! answers; and schemathesis, which asks whatever the document allows and forbids, and
//! would disturb every test beside it.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/http.rs"]
mod http;
#[path = "support/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use http::request;
use process::{Killed, Node, file_url};
use tempfile::TempDir;

/// A lease that no test outlasts.
const LONG: &[&str] = &["--ttl", "30s"];

fn leader() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Node::leading(&file_url(dir.path()), LONG), dir)
}

fn document(node: &Node) -> Value {
    node.get("/openapi.json").json()
}

/// Every path with its operations.
fn operations(document: &Value) -> Vec<(String, BTreeSet<String>)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| {
        let names = item.as_object().unwrap().keys();
        names
            .filter(|name| *name != "parameters")
            .map(|name| name.to_uppercase())
            .collect()
    };
    paths
        .iter()
        .map(|(path, item)| (path.clone(), methods(item)))
        .collect()
}

#[test]
fn the_routes_and_methods_are_those_that_are_served() {
    let (node, _dir) = leader();
    let all = operations(&document(&node));
    assert!(all.len() > 20, "{all:?}");
    for (path, mut methods) in all {
        // What GET answers, HEAD does.
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        let path = path.replace("{name}", "default");
        let reply = request(node.api, "BREW", &path, &[], b"");
        reply.problem(405, "method-not-allowed");
        let allowed = reply.header("allow").unwrap_or_default();
        let allowed: BTreeSet<String> = allowed.split(',').map(ToOwned::to_owned).collect();
        assert_eq!(methods, allowed, "{path}");
    }
}

#[test]
fn every_election_route_is_there_under_both_prefixes() {
    let (node, _dir) = leader();
    let document = document(&node);
    let prefix = "/elections/{name}";
    for path in document["paths"].as_object().unwrap().keys() {
        if let Some(bare) = path.strip_prefix(prefix) {
            let (own, named) = (&document["paths"][bare], &document["paths"][path]);
            for (method, operation) in own.as_object().unwrap() {
                let mut responses = named[method]["responses"].clone();
                if operation["responses"].get("404").is_none() {
                    responses.as_object_mut().unwrap().remove("404");
                }
                assert_eq!(operation["responses"], responses, "{method} {path}");
            }
            assert_eq!(named["parameters"][0]["name"], "name");
        }
    }
    let ids: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
}

/// The members that a schema names, with those of the parts that it is made of.
fn members(document: &Value, schema: &Value) -> BTreeSet<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return members(document, &document["components"]["schemas"][name]);
    }
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let inherited = parts.flat_map(|part| members(document, part));
    let own = schema["properties"].as_object().into_iter().flatten();
    own.map(|(name, _)| name.clone()).chain(inherited).collect()
}

fn told(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn what_is_answered_has_exactly_the_members_that_are_described() {
    let (leader, dir) = leader();
    let follower = Node::following(&file_url(dir.path()), LONG);
    let document = document(&leader);
    let schema = |path: &str| {
        let answer = &document["paths"][path]["get"]["responses"]["200"];
        answer["content"]["application/json"]["schema"].clone()
    };
    for node in [&leader, &follower] {
        for path in ["/", "/status", "/livez", "/readyz"] {
            let json = [("Accept", "application/json")];
            let answer = request(node.api, "GET", path, &json, b"").json();
            assert_eq!(members(&document, &schema(path)), told(&answer), "{path}");
        }
        let status = node.status();
        for (part, name) in [
            ("leader", "Leader"),
            ("lease", "Lease"),
            ("backend", "Backend"),
            ("timing", "Timing"),
        ] {
            let described = members(&document, &document["components"]["schemas"][name]);
            assert_eq!(described, told(&status[part]), "{part}");
        }
        for path in ["/history", "/elections"] {
            let list = node.get(path).json();
            let described = members(&document, &schema(path)["items"]);
            assert_eq!(described, told(&list[0]), "{path}");
        }
    }
    let leads = leader.get("/leader").json();
    assert_eq!(members(&document, &schema("/leader")), told(&leads));
    let follows = follower.get("/follower").json();
    assert_eq!(members(&document, &schema("/follower")), told(&follows));
}

/// Longer than it takes beside every other test.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn schemathesis_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--ttl", "3s", "--election", "orders", "--election", "bills"];
    let node = Node::leading(&file_url(dir.path()), &flags);
    let token = node.token().to_string();
    let written = node.put(&[("Fence-Token", &token)], b"state");
    assert_eq!(written.status, 204);
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/schemathesis.toml");
    let log = dir.path().join("log");
    let mut command = Command::new(build.join("schemathesis/bin/schemathesis"));
    command
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{}/openapi.json", node.url())])
        .current_dir(dir.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(std::fs::File::create(dir.path().join("errors")).unwrap());
    let child = command.spawn();
    let mut child = Killed(child.expect("schemathesis is there: .ci/schemathesis installs it"));
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "schemathesis does not end");
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = std::fs::read_to_string(&log).unwrap();
    let errors = std::fs::read_to_string(dir.path().join("errors")).unwrap();
    assert!(status.success(), "{said}\n{errors}");
    assert!(said.contains("No issues found"), "{said}");
    let document = document(&node);
    let asked = operations(&document)
        .into_iter()
        // The document itself, and what never ends.
        .filter(|(path, _)| path != "/openapi.json" && !path.ends_with("/events"))
        .map(|(_, methods)| methods.len());
    let tested = format!("Tested: {}", asked.sum::<usize>());
    assert!(said.contains(&tested), "not {tested}: {said}");
    // And it lives.
    assert_eq!(node.get("/livez").status, 200);
}
