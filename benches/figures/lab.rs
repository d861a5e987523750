//! The lab of the documents, as a user starts it.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::effort::Effort;
use crate::store::Store;
use crate::table::{Row, Sample};

pub fn lab(effort: Effort) -> anyhow::Result<()> {
    let store = Store::redis()?;
    let (ttl, renew) = if effort.quick {
        ("3s", "1s")
    } else {
        ("15s", "5s")
    };
    let output = Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args([
            "lab",
            "--backend",
            &store.url(),
            "--fault",
            "kill",
            "--json",
        ])
        .args(["--ttl", ttl, "--renew-every", renew])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the lab ended with {}",
        output.status
    );
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let row = report["faults"].get(0).context("the lab did nothing")?;
    let number = |name: &str| row[name].as_f64().with_context(|| format!("no {name}"));
    let print = |what: &str, value, target| {
        Row {
            what: &format!("lab: kill, TTL {ttl}, {what}"),
            store: "redis",
            unit: "ms",
            sample: &Sample::one(value),
            floor: None,
            target: Some(target),
        }
        .print();
    };
    let ttl_ms = report["ttl_ms"].as_f64().context("no ttl_ms")?;
    print("leaderless", number("leaderless_ms")?, ttl_ms);
    print("after lease end", number("after_lease_end_ms")?, 50.0);
    Ok(())
}
