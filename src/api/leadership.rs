//! Asking who leads.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::extract::{Asked, Of};
use super::openapi::{self, ProblemBody};
use super::problem::Problem;
use super::status::{self, Status};
use super::wait::{duration, held_for, no_timer};
use crate::lease::Epoch;
use crate::machine::{Snapshot, State as ElectionState};
use crate::sidecar::Election;
use crate::time::{Moment, millis, within};

const LEADER: HeaderName = HeaderName::from_static("tenure-leader");
const LEADER_URL: HeaderName = HeaderName::from_static("tenure-leader-url");
const EPOCH: HeaderName = HeaderName::from_static("tenure-epoch");
const LEASE_REMAINING_MS: HeaderName = HeaderName::from_static("tenure-lease-remaining-ms");

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
    description = "Whether this node, its app healthy, follows a leader that it knows.",
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
    let well = snapshot.health.is_none_or(|health| health.healthy);
    let answer = if follows && well {
        Json(FollowerBody { is_follower: true }).into_response()
    } else {
        let detail = if follows {
            "this node follows, but its app is unhealthy".to_owned()
        } else {
            let state = snapshot.state();
            format!("this node is no follower of a known leader: {state}")
        };
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

/// The answer to what only the leader may do, with who leads.
pub(super) fn not_leader(election: &Election) -> Problem {
    let leader = status::leader(election, &election.snapshot());
    let detail = match &leader {
        Some(leader) => format!("this node does not lead; {} does", leader.id),
        None => "this node does not lead, and nobody is known to".to_owned(),
    };
    Problem::new(StatusCode::CONFLICT, "not-leader", detail).with("leader", leader)
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
