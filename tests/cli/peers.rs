//! The settings of members: `--peer`, `--node` and the rest.

use serde_json::json;

use super::process::{Ended, run};
use super::settings::{check, problems};

const LIST: &str = "a=127.0.0.1:7101,b=127.0.0.1:7102,c=127.0.0.1:7103";

fn member<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let usual = ["--backend", "bully", "--peer", LIST, "--node", "b"];
    let usual = [&usual[..], &["--state-dir", "/x/tenure"]].concat();
    [&usual, more].concat()
}

#[test]
fn a_member_needs_no_more_than_the_list_its_name_and_a_disk() {
    for backend in ["bully", "ring", "bully://orders", "ring://"] {
        let all = check(&member(&["--backend", backend])[2..], &[], None).ok();
        let all = all.json()["settings"].clone();
        assert_eq!(all["backend"], backend.trim_end_matches("://"));
        assert_eq!(all["peer"], json!(LIST.split(',').collect::<Vec<_>>()));
        for (name, value) in [
            ("node", "b"),
            ("peer-listen", "127.0.0.1:7102"),
            ("heartbeat", "1s"),
            ("suspicion", "3s"),
            ("election-timeout", "5s"),
            ("ttl", "3s"),
            ("renew-every", "1s"),
            ("state-dir", "/x/tenure"),
        ] {
            assert_eq!(all[name], value, "{name}");
        }
        for name in ["witness", "insecure-peers", "bootstrap"] {
            assert_eq!(all[name], false, "{name}");
        }
    }
}

#[test]
fn members_come_from_flags_the_environment_and_a_list_in_the_file() {
    let each = LIST.split(',').flat_map(|peer| ["--peer", peer]);
    let each: Vec<&str> = each.chain(member(&[])[4..].iter().copied()).collect();
    let flags = [&["--backend", "ring"], &each[..]].concat();
    let by_flags = check(&flags, &[], None).ok().json()["settings"].clone();
    let environment = [
        ("TENURE_BACKEND", "ring"),
        ("TENURE_PEER", LIST),
        ("TENURE_NODE", "b"),
        ("TENURE_STATE_DIR", "/x/tenure"),
    ];
    let by_environment = check(&[], &environment, None).ok().json()["settings"].clone();
    let listed = LIST.replace(',', "\", \"");
    let file = format!(
        "backend = \"ring\"\npeer = [\"{listed}\"]\nnode = \"b\"\nstate-dir = \"/x/tenure\"\n"
    );
    let by_file = check(&[], &[], Some(&file)).ok().json()["settings"].clone();
    assert_eq!(by_flags, by_environment);
    assert_eq!(by_flags, by_file);
}

fn told(flags: &[&str]) -> Vec<String> {
    problems(&run(&[&["config", "check"], flags].concat()))
}

#[test]
fn all_that_a_member_lacks_is_told_at_once() {
    let told = told(&["--backend", "bully"]);
    assert_eq!(told.len(), 3, "{told:#?}");
    for (line, mend) in told.iter().zip(["--state-dir", "--node", "--peer"]) {
        assert!(line.contains(mend) && line.contains("bully"), "{told:#?}");
    }
}

/// A file that can be read.
const THIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

#[test]
fn what_is_wrong_with_a_member_is_named_with_its_mend() {
    let wrong: &[(&[&str], &str)] = &[
        (&["--node", "z"], "z, is not in the list"),
        (&["--node", "a b"], "A-Z"),
        (&["--peer", "a=127.0.0.1:1,b"], "ID=HOST:PORT"),
        (&["--peer", "a=127.0.0.1,b=127.0.0.1:2"], "HOST:PORT"),
        (&["--peer", "b=127.0.0.1:1,b=127.0.0.1:2"], "twice"),
        (&["--peer", "a=h:1,b=h:1"], "same address"),
        (&["--peer-listen", "7102"], "HOST:PORT"),
        (&["--peer-listen", "0.0.0.0:7102"], "--insecure-peers"),
        (&["--peer", "a=10.0.0.7:1,b=10.0.0.8:1"], "--insecure-peers"),
        (&["--witness"], "raft"),
        (&["--heartbeat", "0s"], "longer than zero"),
        (&["--suspicion", "1s"], "--heartbeat 1s"),
        (&["--election-timeout", "5"], "15s"),
        (&["--bootstrap=perhaps"], "true or false"),
        (&["--username", "u"], "log in nowhere"),
        (&["--ca-file", "/x/ca.pem"], "cannot be read"),
        (&["--cert-file", THIS], "give all three or none"),
        (&["--key-file", THIS], "give all three or none"),
        (&["--backend", "bully://h:1"], "name of the cluster"),
    ];
    for (flags, mend) in wrong {
        let name = flags[0].split('=').next().unwrap_or_default();
        let usual = member(&[]);
        let kept = usual.chunks(2).filter(|pair| pair[0] != name).flatten();
        let kept: Vec<&str> = kept.copied().collect();
        let told = told(&[&kept[..], flags].concat());
        assert_eq!(told.len(), 1, "{flags:?}: {told:#?}");
        assert!(told[0].contains(mend), "{flags:?}: {told:?}");
    }
    let trusted = ["--peer-listen", "0.0.0.0:7102", "--insecure-peers"];
    let all = check(&member(&trusted), &[], None).ok().json()["settings"].clone();
    assert_eq!(all["peer-listen"], "0.0.0.0:7102");
}

#[test]
fn a_store_has_no_members() {
    for flag in [
        "--peer=a=h:1",
        "--node=a",
        "--peer-listen=127.0.0.1:1",
        "--witness",
        "--insecure-peers",
        "--heartbeat=1s",
        "--suspicion=3s",
        "--election-timeout=5s",
        "--bootstrap",
    ] {
        let told = told(&[flag]);
        assert_eq!(told.len(), 1, "{flag}: {told:#?}");
        assert!(told[0].contains("bully"), "{flag}: {told:?}");
    }
    let ended: Ended = check(&[], &[("TENURE_NODE", "a")], None);
    ended.ok();
}
