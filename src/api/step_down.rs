//! Giving leadership up.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Of;
use super::guard::read_json;
use super::leadership::not_leader;
use super::openapi::{self, ProblemBody};
use super::problem::Problem;
use super::status;
use super::wait::held_for;
use crate::lease::{Epoch, NodeId};
use crate::machine::State as ElectionState;
use crate::sidecar::Departure;
use crate::time::{millis, within};

/// What the log shows of a reason.
const LONGEST_REASON: usize = 256;

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

/// A client's text as the log shows it: short.
fn shown(reason: &str) -> Cow<'_, str> {
    match reason.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or("")).into(),
        None => reason.into(),
    }
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
    let own = &election.profile().node;
    if body.to.as_ref() == Some(own) {
        let detail = format!("to names this node, {own}, which gives leadership up: name another");
        return Err(Problem::malformed(detail));
    }
    let ttl = election.timing().ttl();
    let cooldown = body.cooldown_ms.map_or(ttl, Duration::from_millis);
    let wait = held_for(body.wait_ms.map(Duration::from_millis));
    let reason = shown(body.reason.as_deref().unwrap_or("asked over HTTP"));
    // As a text, which the log escapes, and not by Display: whoever may step a leader down
    // may yet not write lines of the log, nor speak to its reader's terminal.
    tracing::info!(election = %election.name(), reason = &*reason, "step-down");
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
