//! Asking about leadership, and giving it up.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Shared;
use super::extract::{Asked, Of};
use super::guard::read_json;
use super::openapi::{self, ProblemBody};
use super::problem::Problem;
use super::status::{self, Status};
use crate::lease::{Epoch, NodeId, Validity};
use crate::machine::{Snapshot, State as ElectionState};
use crate::sidecar::{Departure, Election};
use crate::time::{Moment, millis, within};

const LEADER: HeaderName = HeaderName::from_static("tenure-leader");
const LEADER_URL: HeaderName = HeaderName::from_static("tenure-leader-url");
const EPOCH: HeaderName = HeaderName::from_static("tenure-epoch");
const LEASE_REMAINING_MS: HeaderName = HeaderName::from_static("tenure-lease-remaining-ms");

/// The longest that a long-poll or a step-down is waited for.
const MAX_WAIT: Duration = Duration::from_secs(60);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// The query of `/status`, as text: what is wrong with it is then told in one voice.
#[derive(Debug, Default, Deserialize)]
pub struct StatusQuery {
    after_revision: Option<String>,
    wait: Option<String>,
}

/// GET `/status`
#[utoipa::path(
    get,
    path = "/status",
    description = "What this node knows, computed now; with after_revision, once the revision \
                   is higher, or the wait is over.",
    params(
        ("after_revision" = Option<u64>, Query, description = "hold the answer until then",
            format = "uint64", maximum = 18_446_744_073_709_551_615_u64),
        ("wait" = Option<String>, Query, description = "how long at most (default 30s, at most 60s)",
            pattern = "^(0|[0-9]{1,9}(ms|s|m|h))$"),
    ),
    responses(
        (status = 200, description = "always", body = Status),
        (status = 503, description = "out-of-resources: no timer for a long-poll", body = ProblemBody),
    )
)]
pub async fn get_status(
    State(shared): State<Shared>,
    Of(election): Of,
    Asked(query): Asked<StatusQuery>,
) -> Result<Response, Problem> {
    let wait = query
        .wait
        .as_deref()
        .map(|text| duration("wait", text))
        .transpose()?;
    if let Some(text) = query.after_revision {
        let revision: u64 = text.parse().map_err(|_| {
            Problem::malformed(format!("after_revision \"{text}\" is no whole number"))
        })?;
        let wait = held_for(wait);
        let mut watch = election.watch().map_err(|error| no_timer(&error))?;
        // Whatever ended the wait, the answer is computed afterwards.
        let _ = within(wait, watch.after(revision)).await;
    }
    Ok(Status::now(&shared, &election).into_response())
}

/// How long an answer is held back for a client that asked for `wait`.
pub(super) fn held_for(wait: Option<Duration>) -> Duration {
    wait.unwrap_or(DEFAULT_WAIT).min(MAX_WAIT)
}

pub(super) fn no_timer(error: &std::io::Error) -> Problem {
    let detail = format!("the sidecar cannot wait for you: {error}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "out-of-resources", detail)
}

fn duration(name: &str, text: &str) -> Result<Duration, Problem> {
    humantime::parse_duration(text).map_err(|error| {
        let detail =
            format!("{name} \"{text}\" is no duration ({error}); write it as 30s or 500ms");
        Problem::malformed(detail)
    })
}

/// The query of `/leader`.
#[derive(Debug, Default, Deserialize)]
pub struct LeaderQuery {
    min_remaining: Option<String>,
}

/// What `/leader` says while this node leads.
#[derive(Serialize, ToSchema)]
pub struct LeaderBody {
    is_leader: bool,
    #[schema(value_type = openapi::Epoch)]
    fence_token: Option<Epoch>,
}

/// What `/follower` says while this node follows.
#[derive(Serialize, ToSchema)]
pub struct FollowerBody {
    is_follower: bool,
}

/// GET HEAD OPTIONS `/leader`
#[utoipa::path(
    method(get, head, options),
    path = "/leader",
    description = "Whether this node leads. Count what remains of the lease from before you asked.",
    params(
        ("min_remaining" = Option<String>, Query, description = "503 unless so much of the lease is left",
            pattern = "^(0|[0-9]{1,9}(ms|s|m|h))$"),
    ),
    responses(
        (status = 200, description = "this node leads", body = LeaderBody, headers(
            ("Tenure-Leader" = String, description = "this node's id"),
            ("Tenure-Leader-Url" = String, description = "where its app is, where known"),
            ("Tenure-Epoch" = u64, description = "the fencing token"),
            ("Tenure-Lease-Remaining-Ms" = u64, description = "how long it still leads"),
        )),
        (status = 503, description = "not-leader", body = ProblemBody, headers(
            ("Tenure-Leader" = String, description = "the leader's id, where known"),
            ("Tenure-Leader-Url" = String, description = "where its app is, where known"),
            ("Tenure-Epoch" = u64, description = "the number of its tenure"),
        )),
    )
)]
pub async fn leader(
    Of(election): Of,
    Asked(query): Asked<LeaderQuery>,
) -> Result<Response, Problem> {
    let least = match query.min_remaining.as_deref() {
        Some(text) => duration("min_remaining", text)?,
        None => Duration::ZERO,
    };
    // One look at the clock: the headers and the code tell the same.
    let (snapshot, now) = election.now();
    let headers = describe(&election, &snapshot, now);
    let left = snapshot.leads_for(now);
    let leads = snapshot.is_leader(now) && left >= least;
    let answer = if leads {
        let fence_token = snapshot.fence_token(now);
        Json(LeaderBody {
            is_leader: true,
            fence_token,
        })
        .into_response()
    } else {
        let detail = if snapshot.is_leader(now) {
            format!("this node leads for only {} ms more", millis(left))
        } else {
            "this node does not lead".to_owned()
        };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(status, "not-leader", detail).into_response()
    };
    Ok((headers, answer).into_response())
}

/// GET HEAD OPTIONS `/follower`
#[utoipa::path(
    method(get, head, options),
    path = "/follower",
    description = "Whether this node follows a leader that it knows.",
    responses(
        (status = 200, description = "it does", body = FollowerBody, headers(
            ("Tenure-Leader" = String, description = "the leader's id"),
            ("Tenure-Leader-Url" = String, description = "where its app is, where known"),
            ("Tenure-Epoch" = u64, description = "the number of its tenure"),
        )),
        (status = 503, description = "not-follower", body = ProblemBody),
    )
)]
pub async fn follower(Of(election): Of) -> Response {
    let (snapshot, now) = election.now();
    let headers = describe(&election, &snapshot, now);
    let follows = snapshot.state() == ElectionState::Follower;
    let answer = if follows {
        Json(FollowerBody { is_follower: true }).into_response()
    } else {
        let detail = format!(
            "this node is no follower of a known leader: {}",
            snapshot.state()
        );
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-follower", detail).into_response()
    };
    (headers, answer).into_response()
}

/// Who leads, for load balancers and for apps that pass a request on.
fn describe(election: &Election, snapshot: &Snapshot, now: Moment) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    let own = snapshot.fence_token(now);
    if own.is_some() {
        let left = millis(snapshot.leads_for(now));
        headers.insert(LEASE_REMAINING_MS, HeaderValue::from(left));
    }
    let other = snapshot.leader.as_ref().map(|leader| &leader.holder);
    let leader = match (own, other) {
        (Some(epoch), _) => Some((election.profile(), epoch)),
        (None, Some(holder)) => Some((&holder.profile, holder.epoch)),
        (None, None) => None,
    };
    if let Some((profile, epoch)) = leader {
        headers.insert(EPOCH, HeaderValue::from(epoch.get()));
        let url = profile.url.as_deref().map(|url| (LEADER_URL, url));
        for (name, text) in [(LEADER, profile.node.as_str())].into_iter().chain(url) {
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                headers.insert(name, value);
            }
        }
    }
    headers
}

/// GET `/fence-token`
#[utoipa::path(
    get,
    path = "/fence-token",
    description = "The fencing token to write with.",
    responses(
        (status = 200, description = "while this node leads", body = String, content_type = "text/plain"),
        (status = 409, description = "not-leader, with a member leader", body = ProblemBody),
    )
)]
pub async fn fence_token(Of(election): Of) -> Result<String, Problem> {
    match election.fence_token() {
        Some(token) => Ok(token.to_string()),
        None => Err(not_leader(&election)),
    }
}

fn not_leader(election: &Election) -> Problem {
    let leader = status::leader(election, &election.snapshot());
    let detail = match &leader {
        Some(leader) => format!("this node does not lead; {} does", leader.id),
        None => "this node does not lead, and nobody is known to".to_owned(),
    };
    Problem::new(StatusCode::CONFLICT, "not-leader", detail).with("leader", leader)
}

/// The body of a validation.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ValidateBody {
    /// A number, or the same in decimal digits.
    #[schema(required = true, value_type = TokenText)]
    token: Option<Value>,
}

/// A fencing token as a client may write it.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code)]
pub enum TokenText {
    /// A number.
    Number(openapi::Epoch),
    /// Its digits.
    Text(Digits),
}

/// The digits of a fencing token.
#[derive(ToSchema)]
#[schema(pattern = "^0*[1-9][0-9]{0,14}$")]
#[allow(dead_code)]
pub struct Digits(String);

/// What the store says of a token.
#[derive(Serialize, ToSchema)]
pub struct Worth {
    valid: bool,
    #[schema(value_type = Reason)]
    reason: Validity,
    /// The newest epoch that the store knows.
    #[schema(value_type = Option<openapi::Epoch>)]
    current_token: Option<Epoch>,
    #[schema(format = DateTime)]
    checked_at: String,
}

/// Why a token is valid, or is not.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)]
pub enum Reason {
    Current,
    Stale,
    Unknown,
    NoLeader,
}

/// The query of a validation.
#[derive(Debug, Default, Deserialize)]
pub struct ValidateQuery {
    strict: Option<String>,
}

/// POST `/fence-token/validate`
#[utoipa::path(
    post,
    path = "/fence-token/validate",
    description = "Asks the store what a token is worth. The answer is advisory: the resource \
                   must itself refuse lower tokens.",
    params(
        ("strict" = Option<bool>, Query, description = "409 for a token that is not valid"),
    ),
    request_body = ValidateBody,
    responses(
        (status = 200, description = "what it is worth", body = Worth),
        (status = 409, description = "fence-token-invalid, with the members of the 200; under strict", body = ProblemBody),
        (status = 503, description = "backend-unavailable: the store cannot confirm", body = ProblemBody),
    )
)]
pub async fn validate(
    Of(election): Of,
    Asked(query): Asked<ValidateQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let strict = match query.strict.as_deref() {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(other) => {
            let detail = format!("strict \"{other}\" is neither true nor false");
            return Err(Problem::malformed(detail));
        }
    };
    let body: ValidateBody = read_json(&headers, body).await?;
    let token = token(body.token)?;
    let validation = election.validate(token).await;
    let validation = validation.map_err(|error| Problem::store(error.to_string()))?;
    let checked_at = election.clock().wall().to_string();
    let valid = validation.validity == Validity::Current;
    if strict && !valid {
        let detail = format!("token {token} is not the one in force");
        return Err(
            Problem::new(StatusCode::CONFLICT, "fence-token-invalid", detail)
                .with("valid", false)
                .with("reason", validation.validity)
                .with("current_token", validation.current)
                .with("checked_at", checked_at),
        );
    }
    Ok(Json(Worth {
        valid,
        reason: validation.validity,
        current_token: validation.current,
        checked_at,
    })
    .into_response())
}

/// A JSON number or a decimal string; 5.0 and 1e3 are no tokens.
fn token(value: Option<Value>) -> Result<Epoch, Problem> {
    let wrong = |shown: String| {
        Problem::malformed(format!(
            "token {shown} is no fencing token: a whole number from 1 to 9007199254740991"
        ))
    };
    let text = match value {
        None => return Err(Problem::malformed("the body has no \"token\"")),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(wrong(other.to_string().chars().take(60).collect())),
    };
    let shown: String = text.chars().take(60).collect();
    text.parse().map_err(|_| wrong(format!("\"{shown}\"")))
}

/// The body of a step-down.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepDownBody {
    /// Why, for the log.
    reason: Option<String>,
    /// How long this node campaigns last (default: one TTL).
    #[schema(format = "uint64", maximum = 18_446_744_073_709_551_615_u64)]
    cooldown_ms: Option<u64>,
    /// How long to wait for the release (default 30 s, at most 60 s).
    #[schema(format = "uint64", maximum = 18_446_744_073_709_551_615_u64)]
    wait_ms: Option<u64>,
    /// Which node may try first.
    #[schema(value_type = Option<String>, pattern = "^[!-~]([ -~]{0,254}[!-~])?$")]
    to: Option<NodeId>,
}

/// A lease that was given back.
#[derive(Serialize, ToSchema)]
pub struct GivenBack {
    released: bool,
    #[schema(value_type = openapi::Epoch)]
    fence_token: Epoch,
    leader: Option<status::Leader>,
}

/// A step-down that goes on.
#[derive(Serialize, ToSchema)]
pub struct Leaving {
    released: bool,
    #[schema(value_type = openapi::StateName)]
    state: ElectionState,
}

/// POST `/leadership/stepdown`
#[utoipa::path(
    post,
    path = "/leadership/stepdown",
    description = "Gives leadership up: not leader at once, then the app drains, then the lease \
                   is released.",
    request_body = StepDownBody,
    responses(
        (status = 200, description = "released", body = GivenBack),
        (status = 202, description = "the wait ended first; it goes on", body = Leaving),
        (status = 409, description = "not-leader, with a member leader", body = ProblemBody),
        (status = 503, description = "backend-unavailable: leadership is dropped here, the lease frees itself in remaining_ms", body = ProblemBody),
    )
)]
pub async fn step_down(
    Of(election): Of,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body: StepDownBody = read_json(&headers, body).await?;
    let Some(token) = election.fence_token() else {
        return Err(not_leader(&election));
    };
    let ttl = election.timing().ttl();
    let cooldown = body.cooldown_ms.map_or(ttl, Duration::from_millis);
    let wait = held_for(body.wait_ms.map(Duration::from_millis));
    let reason = body.reason.unwrap_or_else(|| "asked over HTTP".to_owned());
    tracing::info!(election = %election.name(), %reason, "step-down");
    // The step-down goes on though the client be gone or the wait be over.
    let asked = {
        let election = election.clone();
        tokio::spawn(async move { election.step_down(cooldown, body.to).await })
    };
    let departure = match within(wait, asked).await {
        None => {
            let body = Leaving {
                released: false,
                state: ElectionState::SteppingDown,
            };
            return Ok((StatusCode::ACCEPTED, Json(body)).into_response());
        }
        Some(departure) => departure.unwrap_or(Departure::LeftToExpire {
            free_at: election.clock().now() + ttl,
        }),
    };
    match departure {
        Departure::Released => {
            let body = GivenBack {
                released: true,
                fence_token: token,
                leader: status::leader(&election, &election.snapshot()),
            };
            Ok(Json(body).into_response())
        }
        Departure::NotLeader => Err(not_leader(&election)),
        Departure::LeftToExpire { free_at } => {
            let left = free_at.since(election.clock().now());
            let detail = "leadership is dropped, but the store could not be told: the lease \
                          frees itself when it runs out";
            Err(Problem::store(detail).with("remaining_ms", millis(left)))
        }
    }
}

/// GET `/history`
#[utoipa::path(
    get,
    path = "/history",
    description = "The last 100 transitions of this node, newest first.",
    responses((status = 200, description = "always", body = [openapi::Entry]))
)]
pub async fn history(Of(election): Of) -> Response {
    Json(election.history()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_is_held_for_more_than_a_minute() {
        let second = Duration::from_secs(1);
        assert_eq!(held_for(None), second * 30);
        assert_eq!(held_for(Some(second)), second);
        assert_eq!(held_for(Some(second * 600)), second * 60);
    }
}
