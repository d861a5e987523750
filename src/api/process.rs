//! Routes about the process: is it alive, is it ready, what does it take part in.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::extract::Of;
use super::problem::Problem;
use super::status::Status;

/// GET `/`: the status with the leader's id as `name`, which clients of the
/// Kubernetes leader-elector read.
pub async fn root(State(shared): State<Shared>, Of(election): Of) -> Response {
    let status = Status::now(&shared, &election);
    let name = status
        .leader
        .as_ref()
        .map_or("", |leader| leader.id.as_str())
        .to_owned();
    let mut body = serde_json::to_value(status).unwrap_or_default();
    if let Value::Object(body) = &mut body {
        body.insert("name".to_owned(), name.into());
    }
    Json(body).into_response()
}

/// GET `/livez`, `/healthz`: whether the election loops turn. A store that is away
/// is no reason to be restarted.
pub async fn live(State(shared): State<Shared>) -> Response {
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
    Json(json!({"live": true})).into_response()
}

/// GET `/readyz`: whether the store has been reached, leader or not.
pub async fn ready(State(shared): State<Shared>) -> Response {
    for election in &shared.elections {
        let snapshot = election.snapshot();
        let detail = if snapshot.stopping {
            "this sidecar is stopping".to_owned()
        } else if snapshot.store.last_success.is_none() {
            let trouble = snapshot.store.trouble.unwrap_or_default();
            format!(
                "election {} has not reached the store yet {trouble}",
                election.name()
            )
        } else {
            continue;
        };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Problem::new(status, "not-ready", detail.trim_end()).into_response();
    }
    Json(json!({"ready": true})).into_response()
}

/// GET `/elections`
pub async fn elections(State(shared): State<Shared>) -> Response {
    let list: Vec<Value> = shared
        .elections
        .iter()
        .map(|election| {
            let snapshot = election.snapshot();
            let now = election.clock().now();
            json!({
                "name": election.name(),
                "state": snapshot.state(),
                "is_leader": snapshot.is_leader(now),
                "epoch": snapshot.term,
            })
        })
        .collect();
    Json(list).into_response()
}
