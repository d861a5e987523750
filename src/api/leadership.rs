//! Asking about leadership, and giving it up.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::extract::{Asked, Of};
use super::guard::read_json;
use super::problem::Problem;
use super::status::{self, Status};
use crate::lease::{Epoch, NodeId, Validity};
use crate::machine::{Snapshot, State as ElectionState};
use crate::sidecar::{Departure, Election};
use crate::time::{Moment, millis, within};

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
pub async fn get_status(
    State(shared): State<Shared>,
    Of(election): Of,
    Asked(query): Asked<StatusQuery>,
) -> Result<Json<Status>, Problem> {
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
    Ok(Json(Status::now(&shared, &election)))
}

/// How long an answer is held back for a client that asked for `wait`.
fn held_for(wait: Option<Duration>) -> Duration {
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

/// GET HEAD OPTIONS `/leader`
pub async fn leader(
    Of(election): Of,
    Asked(query): Asked<LeaderQuery>,
) -> Result<Response, Problem> {
    let least = match query.min_remaining.as_deref() {
        Some(text) => duration("min_remaining", text)?,
        None => Duration::ZERO,
    };
    let snapshot = election.snapshot();
    let headers = describe(&election, &snapshot);
    let now = election.clock().now();
    let left = snapshot.leads_for(now);
    let leads = snapshot.is_leader(now) && left >= least;
    let answer = if leads {
        Json(json!({"is_leader": true, "fence_token": snapshot.fence_token(now)})).into_response()
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
pub async fn follower(Of(election): Of) -> Response {
    let snapshot = election.snapshot();
    let headers = describe(&election, &snapshot);
    let follows = snapshot.state() == ElectionState::Follower;
    let answer = if follows {
        Json(json!({"is_follower": true})).into_response()
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
fn describe(election: &Election, snapshot: &Snapshot) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(leader) = status::leader(election, snapshot) {
        put("tenure-leader", leader.id.as_str().as_bytes());
        put("tenure-epoch", leader.epoch.to_string().as_bytes());
        if let Some(url) = leader.url {
            put("tenure-leader-url", url.as_bytes());
        }
    }
    let now: Moment = election.clock().now();
    if snapshot.is_leader(now) {
        let left = millis(snapshot.leads_for(now));
        put("tenure-lease-remaining-ms", left.to_string().as_bytes());
    }
    headers
}

/// GET `/fence-token`
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
#[derive(Debug, Deserialize)]
pub struct ValidateBody {
    token: Option<Value>,
}

/// The query of a validation.
#[derive(Debug, Default, Deserialize)]
pub struct ValidateQuery {
    strict: Option<String>,
}

/// POST `/fence-token/validate`
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
    Ok(Json(json!({
        "valid": valid,
        "reason": validation.validity,
        "current_token": validation.current,
        "checked_at": checked_at,
    }))
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
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepDownBody {
    reason: Option<String>,
    cooldown_ms: Option<u64>,
    wait_ms: Option<u64>,
    to: Option<NodeId>,
}

/// POST `/leadership/stepdown`
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
            let state = ElectionState::SteppingDown;
            let body = Json(json!({"released": false, "state": state}));
            return Ok((StatusCode::ACCEPTED, body).into_response());
        }
        Some(departure) => departure.unwrap_or(Departure::LeftToExpire {
            free_at: election.clock().now() + ttl,
        }),
    };
    match departure {
        Departure::Released => {
            let leader = status::leader(&election, &election.snapshot());
            let body = json!({"released": true, "fence_token": token, "leader": leader});
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
