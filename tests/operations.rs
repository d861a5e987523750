//! What operators copy, against the real thing: rules and dashboard against a live
//! sidecar, alerts against their runbook, units against systemd, the table of guarantees
//! against the tests that it names.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/http.rs"]
mod http;
#[path = "support/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use process::{Node, file_url, finish_within};

/// Longer than a program takes that starts beside every other test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exported by the backends of peers alone, which a sidecar on a directory is not.
const OF_PEERS: [&str; 3] = [
    "tenure_peers_total",
    "tenure_peers_connected",
    "tenure_has_quorum",
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[track_caller]
fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn promtool(arguments: &[&str], file: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).arg(path(file));
    finish_within(PATIENCE, &mut command, b"").ok();
}

#[test]
fn prometheus_accepts_its_files() {
    promtool(&["check", "rules"], "examples/prometheus/rules.yml");
    promtool(&["check", "config"], "examples/prometheus/prometheus.yml");
}

#[test]
fn every_alert_fires_when_it_must_and_only_then() {
    promtool(&["test", "rules"], "examples/prometheus/rules_test.yml");
    let cases = read("examples/prometheus/rules_test.yml");
    for alert in alerts() {
        for case in ["fires", "is silent"] {
            let name = format!("- name: {alert} {case}\n");
            assert!(cases.contains(&name), "no case: {name}");
        }
    }
}

/// The names of the alerts.
fn alerts() -> Vec<String> {
    let rules = read("examples/prometheus/rules.yml");
    let names = rules.split("- alert: ").skip(1);
    let names: Vec<_> = names
        .map(|rest| rest.lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 10, "{names:?}");
    names
}

#[test]
fn every_alert_leads_to_its_runbook() {
    let rules = read("examples/prometheus/rules.yml");
    let guide = read("docs/operations.md");
    for alert in alerts() {
        assert!(guide.contains(&format!("\n### {alert}\n")), "{alert}");
        let rule = rules.split(&format!("- alert: {alert}\n")).nth(1).unwrap();
        let rule = rule.split("- alert: ").next().unwrap();
        let anchor = alert.to_lowercase();
        let url = format!("runbook_url: docs/operations.md#{anchor}\n");
        for part in ["summary: ", "description: ", &url] {
            assert!(rule.contains(part), "{alert} has no {part}");
        }
    }
}

/// Every metric of ours that a text names, with the selector that follows it.
fn metrics_in(text: &str) -> Vec<(String, String)> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(of_name) {
        let word = &rest[start..];
        let end = word.find(|c| !of_name(c)).unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        if name.starts_with("tenure_") && !name.contains(':') {
            let selector = after
                .strip_prefix('{')
                .and_then(|text| text.split_once('}'));
            let selector = selector.map(|(inside, _)| inside.to_owned());
            found.push((name.to_owned(), selector.unwrap_or_default()));
        }
        rest = after;
    }
    found
}

/// The lines of the rules that are no comments.
fn rules() -> String {
    let rules = read("examples/prometheus/rules.yml");
    let lines = rules.lines().filter(|line| !line.trim().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every query of the dashboard, those of its variables, too.
fn queries(of: &Value, into: &mut Vec<String>) {
    match of {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if ["expr", "query", "definition"].contains(&&**name) => {
                        into.push(text.clone());
                    }
                    other => queries(other, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, into)),
        _ => {}
    }
}

#[test]
fn what_is_asked_for_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::leading(&file_url(dir.path()), &["--ttl", "30s"]);
    let text = node.get("/metrics").text();
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let exported: BTreeSet<&str> = series
        .iter()
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let dashboard: Value = serde_json::from_str(&read("examples/grafana/tenure.json")).unwrap();
    assert_eq!(dashboard["uid"], "tenure");
    let mut asked = vec![rules()];
    queries(&dashboard, &mut asked);
    assert!(asked.len() > 15, "{asked:?}");
    let mut of_peers = BTreeSet::new();
    for (name, selector) in asked.iter().flat_map(|query| metrics_in(query)) {
        if OF_PEERS.contains(&&*name) {
            of_peers.insert(name);
            continue;
        }
        assert!(exported.contains(&*name), "nothing exports {name}");
        // A label's value that is never exported would make an alert deaf.
        for label in selector.split(',').filter(|label| label.contains("=\"")) {
            let start = format!("{name}{{");
            let fits = |line: &&&str| line.starts_with(&start) && line.contains(label);
            assert!(
                series.iter().any(|line| fits(&line)),
                "no {name} with {label}"
            );
        }
    }
    assert_eq!(of_peers.len(), OF_PEERS.len(), "an exception too many");
}

#[track_caller]
fn of_environment(name: &str) -> Command {
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    Command::new(build.join("kubernetes-validate/bin").join(name))
}

/// Every object of a manifest.
#[track_caller]
fn objects(name: &str) -> Vec<Value> {
    let program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut python = of_environment("python");
    python.args(["-c", program]);
    let all = finish_within(PATIENCE, &mut python, read(name).as_bytes());
    all.ok().json().as_array().unwrap().clone()
}

const MANIFESTS: [&str; 2] = [
    "examples/kubernetes/app.yaml",
    "examples/kubernetes/leader.yaml",
];

#[test]
fn the_manifests_are_valid() {
    for manifest in MANIFESTS {
        let mut command = of_environment("kubernetes-validate");
        command.args(["--strict"]).arg(path(manifest));
        finish_within(PATIENCE, &mut command, b"").ok();
    }
    let mut haproxy = Command::new("haproxy");
    // Debian keeps it where an ordinary user's PATH does not look.
    let search = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
    haproxy.env("PATH", search).env("NAMESPACE", "default");
    haproxy
        .args(["-c", "-f"])
        .arg(path("examples/kubernetes/haproxy.cfg"));
    finish_within(PATIENCE, &mut haproxy, b"").ok();
}

#[test]
fn no_container_has_rights_that_it_does_not_need() {
    let mut containers = 0;
    for spec in MANIFESTS.iter().flat_map(|name| objects(name)) {
        let pod = &spec["spec"]["template"]["spec"];
        if pod.is_null() {
            continue;
        }
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let seccomp = &pod["securityContext"]["seccompProfile"]["type"];
        assert_eq!(seccomp, "RuntimeDefault");
        let lists = ["initContainers", "containers"];
        for container in lists
            .iter()
            .filter_map(|list| pod[list].as_array())
            .flatten()
        {
            let rights = &container["securityContext"];
            assert_eq!(rights["allowPrivilegeEscalation"], false, "{container}");
            assert_eq!(rights["readOnlyRootFilesystem"], true, "{container}");
            assert_eq!(rights["capabilities"]["drop"][0], "ALL", "{container}");
            containers += 1;
        }
    }
    assert_eq!(containers, 3);
}

#[test]
fn the_sidecar_takes_its_settings_and_answers_its_probes() {
    let all = objects(MANIFESTS[0]);
    let set = all.iter().find(|object| object["kind"] == "StatefulSet");
    let sidecar = &set.unwrap()["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always");
    let dir = tempfile::tempdir().unwrap();
    let mut command = process::tenure();
    command.args(["run", "--listen", "127.0.0.1:0"]);
    for variable in sidecar["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let value = match name {
            "TENURE_BACKEND" => file_url(&dir.path().join("store")),
            "TENURE_STATE_DIR" => dir.path().join("state").display().to_string(),
            "TENURE_ID" => "orders-0".to_owned(),
            // As in the manifest, but for a port that may be taken here.
            "TENURE_PROBE_LISTEN" => "127.0.0.1:0".to_owned(),
            _ => variable["value"]
                .as_str()
                .unwrap()
                .replace("$(TENURE_ID)", "orders-0"),
        };
        command.env(name, value);
    }
    let node = Node::spawn(&mut command);
    node.until("leads", |status| status["is_leader"] == true);
    let status = node.status();
    assert_eq!(status["election"], "orders");
    assert_eq!(status["leader"]["url"], "http://orders-0.orders:8080");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = sidecar[probe]["httpGet"]["path"].as_str().unwrap();
        assert_ne!(path, "/leader", "a rollout would wait for ever");
        let reply = http::request(node.probes(), "GET", path, &[], b"");
        assert_eq!(reply.status, 200, "{probe}");
    }
    let leads = http::request(node.probes(), "GET", "/leader", &[], b"");
    assert_eq!(leads.status, 200);
}

#[test]
fn systemd_accepts_the_unit_and_finds_it_locked_up() {
    let unit = read("examples/systemd/tenure.service");
    // Longer than the drain's 5 s and the sidecar's own bound of 10 s.
    assert!(unit.contains("\nTimeoutStopSec=30s\n") && unit.contains("\nType=notify\n"));
    // What systemd would complain about is a program that is not there.
    let here = unit.replace("/usr/local/bin/tenure", env!("CARGO_BIN_EXE_tenure"));
    assert_ne!(unit, here);
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("tenure.service");
    std::fs::write(&copy, here).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&copy);
    let said = finish_within(PATIENCE, &mut verify, b"").ok().err;
    // Other units of this machine may be complained about, too.
    assert!(!said.contains("tenure.service"), "{said}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--no-pager", "--threshold=20"]);
    finish_within(PATIENCE, security.arg(&copy), b"").ok();
}

#[test]
fn the_settings_of_the_unit_are_settings() {
    let mut check = process::tenure();
    check.args(["config", "check"]);
    for line in read("examples/systemd/tenure.env").lines() {
        if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            check.env(name, value);
        }
    }
    let said = finish_within(PATIENCE, &mut check, b"").ok().text();
    for part in ["10.0.0.5", "orders-0"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn prometheus_can_read_every_query_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read("examples/grafana/tenure.json")).unwrap();
    let mut all = Vec::new();
    queries(&dashboard["panels"], &mut all);
    let rules: Vec<Value> = all
        .iter()
        .enumerate()
        // What Grafana puts in place of its variables.
        .map(|(number, query)| {
            let query = query.replace("$__rate_interval", "1m");
            serde_json::json!({"record": format!("query:{number}"), "expr": query})
        })
        .collect();
    assert!(rules.len() >= 16, "{rules:?}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    let group = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(&file, group.to_string()).unwrap();
    let mut command = Command::new("promtool");
    command.args(["check", "rules"]).arg(&file);
    finish_within(PATIENCE, &mut command, b"").ok();
}

/// What the conformance suite has, by number.
fn conformance_items() -> BTreeSet<u32> {
    let files = std::fs::read_dir(path("tests/conformance/items")).unwrap();
    let text = |file: std::fs::DirEntry| std::fs::read_to_string(file.path()).unwrap();
    let all: String = files.map(|file| text(file.unwrap())).collect();
    let names = all.split("pub async fn t").skip(1);
    names
        .filter_map(|rest| rest.split('_').next().unwrap().parse().ok())
        .collect()
}

#[test]
fn every_guarantee_names_a_test_that_exists() {
    let items = conformance_items();
    let guide = read("docs/guarantees.md");
    let rows = guide.lines().filter(|line| line.starts_with('|'));
    let rows = rows.filter(|row| !row.ends_with("| test |") && !row.ends_with("---|"));
    let mut named = 0;
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        assert!(cell.starts_with('`'), "no test: {row}");
        for part in cell.split(';') {
            let (_, rest) = part.split_once('`').unwrap();
            let (binary, rest) = rest.split_once('`').unwrap();
            assert!(path(&format!("tests/{binary}.rs")).exists(), "{row}");
            for name in rest
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
            {
                let there = match name.parse() {
                    Ok(number) => binary == "conformance" && items.contains(&number),
                    Err(_) => path(&format!("tests/{binary}/{name}.rs")).exists(),
                };
                assert!(there, "no {name} in {binary}: {row}");
                named += 1;
            }
        }
    }
    assert!(named > 15, "{named}");
}
