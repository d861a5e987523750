//! Which path leads where, and to which election.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, post};
use hyper::StatusCode;

use super::problem::Problem;
use super::{Shared, checkpoint, events, guard, leadership, page, process};

/// All routes of the API listener.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .merge(per_election())
        .nest("/elections/{name}", per_election())
        .route("/", get(page::page))
        .route("/elections", get(process::elections))
        .route("/livez", probe(process::live))
        .route("/healthz", probe(process::live))
        .route("/readyz", probe(process::ready))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(axum::middleware::from_fn_with_state(
            shared.clone(),
            guard::guard,
        ))
        .with_state(shared)
}

fn per_election() -> Router<Shared> {
    Router::new()
        .route("/status", get(leadership::get_status))
        .route("/leader", probe(leadership::leader))
        .route("/follower", probe(leadership::follower))
        .route("/fence-token", get(leadership::fence_token))
        .route("/fence-token/validate", post(leadership::validate))
        .route("/leadership/stepdown", post(leadership::step_down))
        .route("/checkpoint", get(checkpoint::get).put(checkpoint::put))
        .route("/events", get(events::events))
        .route("/history", get(leadership::history))
}

/// A question that load balancers ask by GET, HEAD or OPTIONS.
fn probe<H, T>(handler: H) -> MethodRouter<Shared>
where
    H: Handler<T, Shared>,
    T: 'static,
{
    get(handler.clone()).on(MethodFilter::OPTIONS, handler)
}

async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path();
    let detail = format!("there is nothing at {path}; see /status, /leader, /elections");
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let detail = format!(
        "{} is not served here; see the header Allow",
        request.method()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response()
}
