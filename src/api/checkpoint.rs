//! The checkpoint over HTTP: a small value, fenced where the lease is.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};

use super::extract::Of;
use super::guard::read_body;
use super::openapi::ProblemBody;
use super::problem::Problem;
use crate::lease::{Epoch, Revision};
use crate::sidecar::{CheckpointError, Condition};

const FENCE_TOKEN: HeaderName = HeaderName::from_static("fence-token");
const TENURE_EPOCH: HeaderName = HeaderName::from_static("tenure-epoch");

/// The only condition of its kind that is served.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
enum Star {
    #[schema(rename = "*")]
    Any,
}

/// GET `/checkpoint`
#[utoipa::path(
    get,
    path = "/checkpoint",
    description = "The small state that a new leader resumes from, as it was written.",
    responses(
        (status = 200, description = "the value", body = Vec<u8>, content_type = "application/octet-stream", headers(
            ("ETag" = String, description = "its revision, quoted"),
            ("Tenure-Epoch" = u64, description = "the epoch that wrote it"),
        )),
        (status = 404, description = "no-checkpoint: none has been written yet", body = ProblemBody),
        (status = 503, description = "backend-unavailable; checkpoint-lost: the store lost it", body = ProblemBody),
    )
)]
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
#[utoipa::path(
    put,
    path = "/checkpoint",
    description = "Writes it, under the token that this node leads under. Without a condition \
                   over the revision that this node last saw.",
    params(
        ("Fence-Token" = String, Header, description = "the token", pattern = "^0*[1-9][0-9]{0,14}$"),
        ("If-Match" = Option<String>, Header, description = "only over this revision, as the ETag spelt it",
            pattern = "^\"[1-9][0-9]{0,14}\\.[1-9][0-9]{0,8}\"$"),
        ("If-None-Match" = inline(Option<Star>), Header, description = "*: only where there is no value"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "any bytes, at most 64 KiB"),
    responses(
        (status = 204, description = "written", headers(
            ("ETag" = String, description = "its revision, quoted"),
            ("Tenure-Epoch" = u64, description = "the epoch that wrote it"),
        )),
        (status = 409, description = "stale-token, with epoch and revision", body = ProblemBody),
        (status = 412, description = "revision-mismatch, with epoch and revision", body = ProblemBody),
        (status = 503, description = "backend-unavailable, checkpoint-lost; outcome says whether it may have been applied", body = ProblemBody),
    )
)]
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

/// A header's text. Of two, neither can be told to be the one that was meant.
fn only(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        let detail = format!("the header {name} is there more than once: send one");
        return Err(Problem::malformed(detail));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    Ok(Some(text.trim().to_owned()))
}

fn token(headers: &HeaderMap) -> Result<Epoch, Problem> {
    let Some(text) = only(headers, &FENCE_TOKEN)? else {
        let detail = "the header Fence-Token is missing: send the token that you lead under";
        return Err(Problem::malformed(detail));
    };
    text.parse()
        .map_err(|error| Problem::malformed(format!("Fence-Token: {error}")))
}

/// A revision as the `ETag` spelt it: tags are compared as texts, so `1.02` is not
/// `1.2`.
fn revision(tag: &str) -> Option<Revision> {
    let bare = tag.strip_prefix('"')?.strip_suffix('"')?;
    let revision: Revision = bare.parse().ok()?;
    (revision.to_string() == bare).then_some(revision)
}

fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    match (only(headers, &IF_MATCH)?, only(headers, &IF_NONE_MATCH)?) {
        (None, None) => Ok(Condition::LastKnown),
        (None, Some(any)) if any == "*" => Ok(Condition::Absent),
        (None, Some(other)) => Err(Problem::malformed(format!(
            "If-None-Match {other} is not served: only * (no value may be stored)"
        ))),
        (Some(tag), None) => revision(&tag).map(Condition::Matches).ok_or_else(|| {
            let detail = format!("If-Match {tag} is no revision: send the ETag as you got it");
            Problem::malformed(detail)
        }),
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
    match token {
        Some(_) => problem.with_outcome(may_have_happened),
        None => problem,
    }
}
