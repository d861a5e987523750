//! `tenure cluster`: who the members of a cluster of sidecars are, and changes of that.

use clap::ArgMatches;
use serde_json::{Value, json};

use super::ask::{Refusal, client, get, good, millis, post, print_json, text};
use crate::exit::{Exit, print_bytes};

/// Runs one of them. The list of members is the process's, not an election's.
pub(super) async fn run(verb: &str, matches: &ArgMatches) -> Result<Exit, Refusal> {
    let status = match verb {
        "status" => get(matches, "/cluster").await?,
        verb => {
            let client = client(matches);
            let mut body = json!({"member": text(matches, "member")});
            if let Some(wait) = millis(matches, "wait")? {
                body["wait_ms"] = wait.into();
            }
            good(&post(&client?, &format!("/cluster/{verb}"), &body).await?)?
        }
    };
    if matches.get_flag("json") {
        return Ok(print_json(&status));
    }
    Ok(print_bytes(shown(&status).as_bytes()))
}

fn shown(status: &Value) -> String {
    let raft_leader = status["raft_leader"].as_str().unwrap_or("unknown");
    let quorum = match status["has_quorum"].as_bool() {
        Some(true) => "yes",
        _ => "NO",
    };
    let log = &status["log"];
    let mut lines = format!(
        "log led by  {raft_leader}, Raft term {}\nquorum      {quorum}\nlog         last {}, \
         committed {}, applied {}\n\n{:16} {:8} {:10} {:>6}  {}\n",
        status["raft_term"],
        log["last"],
        log["committed"],
        log["applied"],
        "MEMBER",
        "ROLE",
        "CONNECTED",
        "LAG",
        "DISK",
    );
    for member in status["members"].as_array().into_iter().flatten() {
        let of = |name: &str| member[name].as_str().unwrap_or("-");
        let connected = match member["connected"].as_bool() {
            _ if member["id"] == status["member"] => "this one",
            Some(true) => "yes",
            _ => "NO",
        };
        let lag = member["lag_entries"].as_u64();
        let lag = lag.map_or("-".to_owned(), |lag| lag.to_string());
        let disk = match member["other_disk"].as_str() {
            Some(other) => format!("{}, refused: {other}", of("disk")),
            None => of("disk").to_owned(),
        };
        let line = format!(
            "{:16} {:8} {connected:10} {lag:>6}  {disk}\n",
            of("id"),
            of("role")
        );
        lines += &line;
    }
    lines
}
