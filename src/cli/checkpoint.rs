//! `tenure checkpoint`: the small state that a new leader resumes from.

use std::io::{IsTerminal as _, Read as _};

use clap::ArgMatches;
use hyper::StatusCode;
use hyper::header::ETAG;
use serde_json::json;

use super::ask::{self, Refusal, client, complain, good, parsed, print_json, refused};
use crate::client::Answer;
use crate::exit::{Exit, print_bytes, tell};
use crate::lease::checkpoint::MAX_BYTES;
use crate::lease::{Epoch, Revision};

/// Prints it, byte by byte or as JSON.
pub(super) async fn get(matches: &ArgMatches) -> Result<Exit, Refusal> {
    let answer = client(matches)?
        .send("GET", "/checkpoint", &[], Vec::new())
        .await?;
    if !answer.status.is_success() {
        let body = serde_json::from_slice(&answer.body).unwrap_or_default();
        let exit = refused(&answer, &body);
        let absent = answer.status == StatusCode::NOT_FOUND;
        return Ok(if absent { Exit::Failure } else { exit });
    }
    if !matches.get_flag("json") {
        return Ok(print_bytes(&answer.body));
    }
    let value = match std::str::from_utf8(&answer.body) {
        Ok(text) => json!({"revision": revision(&answer), "value": text}),
        Err(_) => {
            use base64::Engine as _;
            let value = base64::engine::general_purpose::STANDARD.encode(&answer.body);
            json!({"revision": revision(&answer), "value_base64": value})
        }
    };
    Ok(print_json(&value))
}

fn revision(answer: &Answer) -> Option<String> {
    let tag = answer.headers.get(ETAG)?.to_str().ok()?;
    Some(tag.trim_matches('"').to_owned())
}

/// Writes what stands on stdin.
pub(super) async fn put(matches: &ArgMatches) -> Result<Exit, Refusal> {
    let client = client(matches);
    let token = parsed::<Epoch>(matches, "token", "token");
    let tag = parsed::<Revision>(matches, "if-match", "if-match");
    let (client, token, tag) = (client?, token?, tag?);
    let tag = tag.map(|revision| format!("\"{revision}\""));
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        tell("tenure: reading the checkpoint from the terminal; end with Ctrl-D");
    }
    let mut value = Vec::new();
    // One byte more than is taken shows that there is more.
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX) + 1;
    if let Err(error) = stdin.lock().take(most).read_to_end(&mut value) {
        return Ok(complain(
            Exit::Failure,
            &format!("cannot read stdin: {error}"),
        ));
    }
    if value.len() > MAX_BYTES {
        let text = format!(
            "the checkpoint on stdin is larger than {MAX_BYTES} bytes; keep large state \
             elsewhere, and its address in the checkpoint"
        );
        return Ok(complain(Exit::Configuration, &text));
    }
    let token = match token {
        Some(token) => token.to_string(),
        None => ask::get(matches, "/fence-token").await?.to_string(),
    };
    let mut headers = vec![("fence-token", token.as_str())];
    if let Some(tag) = &tag {
        headers.push(("if-match", tag));
    }
    if matches.get_flag("if-none-match") {
        headers.push(("if-none-match", "*"));
    }
    let answer = client.send("PUT", "/checkpoint", &headers, value).await?;
    good(&answer)?;
    let revision = revision(&answer);
    if matches.get_flag("json") {
        return Ok(print_json(&json!({"revision": revision})));
    }
    Ok(print_bytes(
        format!("{}\n", revision.unwrap_or_default()).as_bytes(),
    ))
}
