//! The checkpoint over HTTP: a small value, fenced where the lease is.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};

use super::extract::Of;
use super::guard::read_body;
use super::problem::Problem;
use crate::lease::{Epoch, Revision};
use crate::sidecar::{CheckpointError, Condition};

const FENCE_TOKEN: HeaderName = HeaderName::from_static("fence-token");
const TENURE_EPOCH: HeaderName = HeaderName::from_static("tenure-epoch");

/// GET `/checkpoint`
pub async fn get(Of(election): Of) -> Result<Response, Problem> {
    let read = election.read_checkpoint().await;
    let Some(checkpoint) = read.map_err(|error| refused(error, None))? else {
        let detail = "no checkpoint has been written yet";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-checkpoint", detail));
    };
    let revision = checkpoint.revision;
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (ETAG, etag(revision)),
        (TENURE_EPOCH, HeaderValue::from(revision.epoch.get())),
    ];
    Ok((headers, checkpoint.bytes).into_response())
}

/// PUT `/checkpoint`
pub async fn put(Of(election): Of, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let token = token(&headers)?;
    let condition = condition(&headers)?;
    let bytes = read_body(body).await?;
    let written = election
        .write_checkpoint(token, condition, bytes.to_vec())
        .await;
    let revision = written.map_err(|error| refused(error, Some(token)))?;
    let headers = [
        (ETAG, etag(revision)),
        (TENURE_EPOCH, HeaderValue::from(revision.epoch.get())),
    ];
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

fn etag(revision: Revision) -> HeaderValue {
    let text = format!("\"{revision}\"");
    // Digits, a dot and quotes are always a header value.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("\"\""))
}

fn token(headers: &HeaderMap) -> Result<Epoch, Problem> {
    let Some(value) = headers.get(&FENCE_TOKEN) else {
        let detail = "the header Fence-Token is missing: send the token that you lead under";
        return Err(Problem::malformed(detail));
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.trim()
        .parse()
        .map_err(|error| Problem::malformed(format!("Fence-Token: {error}")))
}

fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let text = |name| {
        let value: Option<&HeaderValue> = headers.get(name);
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
    };
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::LastKnown),
        (None, Some(any)) if any == "*" => Ok(Condition::Absent),
        (None, Some(other)) => Err(Problem::malformed(format!(
            "If-None-Match {other} is not served: only * (no value may be stored)"
        ))),
        (Some(tag), None) => {
            let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let revision = bare.and_then(|bare| bare.parse().ok());
            revision.map(Condition::Matches).ok_or_else(|| {
                let detail = format!("If-Match {tag} is no revision: send the ETag as you got it");
                Problem::malformed(detail)
            })
        }
        (Some(_), Some(_)) => Err(Problem::malformed(
            "If-Match and If-None-Match exclude each other: send one",
        )),
    }
}

/// `token` is that of the write that was refused; a read has none.
fn refused(error: CheckpointError, token: Option<Epoch>) -> Problem {
    let text = error.to_string();
    match error {
        CheckpointError::TooLarge(_) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", text)
        }
        CheckpointError::Stale { epoch, revision } => {
            let detail = match token {
                Some(token) => {
                    format!("fencing token {token} is not the one this node leads under")
                }
                None => text,
            };
            Problem::new(StatusCode::CONFLICT, "stale-token", detail)
                .with("epoch", epoch)
                .with("revision", revision)
        }
        CheckpointError::Mismatch { revision } => {
            let detail = "another revision is stored: read it, then write with its ETag";
            Problem::new(StatusCode::PRECONDITION_FAILED, "revision-mismatch", detail)
                .with("epoch", revision.map(|revision| revision.epoch))
                .with("revision", revision)
        }
        CheckpointError::Lost { lost, stored } => {
            let detail = format!(
                "the store has lost the checkpoint that was there at revision {lost}; restore \
                 the store, or begin anew: the leader writes with If-None-Match: *"
            );
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "checkpoint-lost", detail)
                .with("lost_revision", lost)
                .with("revision", stored);
            with_outcome(problem, token, false)
        }
        CheckpointError::Store(error) => {
            with_outcome(Problem::store(text), token, error.may_have_happened())
        }
    }
}

/// A writer is told whether its write may have been applied.
fn with_outcome(problem: Problem, token: Option<Epoch>, may_have_happened: bool) -> Problem {
    let outcome = if may_have_happened {
        "unknown"
    } else {
        "not_applied"
    };
    match token {
        Some(_) => problem.with("outcome", outcome),
        None => problem,
    }
}
