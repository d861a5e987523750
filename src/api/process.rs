//! Routes about the process: is it alive, is it ready, what does it take part in.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::extract::Of;
use super::openapi::{self, ProblemBody};
use super::problem::Problem;
use super::status::Status;
use crate::lease::Epoch;

/// What `/` says.
#[derive(Serialize, ToSchema)]
pub struct RootBody {
    #[serde(flatten)]
    status: Status,
    /// The leader's id; empty where nobody is known to lead.
    name: String,
}

/// GET `/`: the status with the leader's id as `name`, which clients of the
/// Kubernetes leader-elector read.
pub async fn root(State(shared): State<Shared>, Of(election): Of) -> Response {
    let status = Status::now(&shared, &election);
    let name = status
        .leader
        .as_ref()
        .map_or("", |leader| leader.id.as_str())
        .to_owned();
    Json(RootBody { status, name }).into_response()
}

/// GET HEAD OPTIONS `/livez`: whether the election loops turn. A store that is away
/// is no reason to be restarted.
#[utoipa::path(
    method(get, head, options),
    path = "/livez",
    description = "Whether the election loops turn. A store that is away is no reason to die.",
    responses(
        (status = 200, description = "they do", body = LiveBody),
        (status = 503, description = "not-live: a loop has not turned for a TTL", body = ProblemBody),
    )
)]
pub async fn livez(state: State<Shared>) -> Response {
    live(state)
}

/// GET HEAD OPTIONS `/healthz`: the same.
#[utoipa::path(
    method(get, head, options),
    path = "/healthz",
    description = "The same as /livez.",
    responses(
        (status = 200, description = "the loops turn", body = LiveBody),
        (status = 503, description = "not-live: a loop has not turned for a TTL", body = ProblemBody),
    )
)]
pub async fn healthz(state: State<Shared>) -> Response {
    live(state)
}

/// What the probes of life say.
#[derive(Serialize, ToSchema)]
pub struct LiveBody {
    live: bool,
}

fn live(State(shared): State<Shared>) -> Response {
    for election in &shared.elections {
        let idle = election.clock().now().since(election.last_turn());
        if idle > election.timing().ttl() {
            let detail = format!(
                "the loop of election {} has not turned for {}",
                election.name(),
                humantime::format_duration(idle)
            );
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Problem::new(status, "not-live", detail).into_response();
        }
    }
    Json(LiveBody { live: true }).into_response()
}

/// What `/readyz` says.
#[derive(Serialize, ToSchema)]
pub struct ReadyBody {
    ready: bool,
}

/// GET HEAD OPTIONS `/readyz`: whether the store has been reached, leader or not.
#[utoipa::path(
    method(get, head, options),
    path = "/readyz",
    description = "Whether the store has been reached, leader or not.",
    responses(
        (status = 200, description = "it has", body = ReadyBody),
        (status = 503, description = "not-ready: starting or stopping", body = ProblemBody),
    )
)]
pub async fn readyz(State(shared): State<Shared>) -> Response {
    for election in &shared.elections {
        let snapshot = election.snapshot();
        let detail = if snapshot.stopping {
            "this sidecar is stopping".to_owned()
        } else if snapshot.store.last_success.is_none() {
            let trouble = snapshot.store.trouble.map(|trouble| format!(": {trouble}"));
            format!(
                "election {} has not reached the store yet{}",
                election.name(),
                trouble.unwrap_or_default()
            )
        } else {
            continue;
        };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Problem::new(status, "not-ready", detail).into_response();
    }
    Json(ReadyBody { ready: true }).into_response()
}

/// One of the elections.
#[derive(Serialize, ToSchema)]
pub struct Listed {
    name: String,
    #[schema(value_type = openapi::StateName)]
    state: crate::machine::State,
    is_leader: bool,
    #[schema(value_type = Option<openapi::Epoch>)]
    epoch: Option<Epoch>,
}

/// GET `/elections`
#[utoipa::path(
    get,
    path = "/elections",
    description = "The elections that this sidecar takes part in; the first is that of the \
                   routes without a name.",
    responses((status = 200, description = "always", body = [Listed]))
)]
pub async fn elections(State(shared): State<Shared>) -> Response {
    let list: Vec<Listed> = shared
        .elections
        .iter()
        .map(|election| {
            let snapshot = election.snapshot();
            let now = election.clock().now();
            Listed {
                name: election.name().to_string(),
                state: snapshot.state(),
                is_leader: snapshot.is_leader(now),
                epoch: snapshot.term,
            }
        })
        .collect();
    Json(list).into_response()
}
