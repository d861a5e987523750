//! `--status-every`: a line of status at an interval.

use std::io::IsTerminal as _;

use super::output::Outlet;
use crate::api::Shared;
use crate::config::{Config, LogFormat};
use crate::machine::State;
use crate::sidecar::Election;
use crate::time::pause;

/// Tells every election's status at the interval that is configured; for ever.
pub async fn tell_status(shared: &Shared, config: &Config, output: &Outlet) {
    let Some(every) = config.status_every else {
        return std::future::pending().await;
    };
    let signs = match config.app {
        Some(_) => std::io::stderr().is_terminal(),
        None => std::io::stdout().is_terminal(),
    };
    loop {
        for election in shared.elections() {
            let line = match config.logging.format {
                LogFormat::Text => status_line(election, signs),
                LogFormat::Json => json_line(shared, election),
            };
            output.say(line.into_bytes());
        }
        pause(every).await;
    }
}

/// The body of `/status`, marked like the first output.
fn json_line(shared: &Shared, election: &Election) -> String {
    let mut line = serde_json::to_value(shared.status(election)).unwrap_or_default();
    if let Some(members) = line.as_object_mut() {
        members.insert("event".to_owned(), "status".into());
    }
    format!("{line}\n")
}

fn status_line(election: &Election, signs: bool) -> String {
    let snapshot = election.snapshot();
    let state = snapshot.state();
    let sign = match state {
        _ if !signs => "",
        State::Leader => "\u{1f451} ",
        State::Follower => "\u{1f465} ",
        _ => "\u{23f3} ",
    };
    let name = election.name();
    let detail = match (&snapshot.tenure, &snapshot.leader) {
        (Some(tenure), _) => {
            let left = snapshot.leads_for(election.clock().now()).as_secs_f64();
            format!("epoch {}, {left:.1}s of lease left", tenure.epoch)
        }
        (None, Some(leader)) => {
            let holder = &leader.holder;
            format!("of {}, epoch {}", holder.profile.node, holder.epoch)
        }
        (None, None) => snapshot
            .store
            .trouble
            .clone()
            .unwrap_or_else(|| "no leader known".into()),
    };
    format!("{sign}{name}: {state} {detail}\n")
}
