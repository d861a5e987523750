//! Who the members of the cluster are, and changes of that.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use super::Shared;
use super::guard::read_json;
use super::openapi::ProblemBody;
use super::problem::Problem;
use super::wait::held_for;
use crate::backend::{Membership, Seats};
use crate::cluster::{ClusterStatus, Role, SeatChange, SeatStatus};
use crate::lease::StoreError;

/// A cluster as one member sees it.
#[derive(Serialize, ToSchema)]
pub struct ClusterBody {
    backend: &'static str,
    /// This member.
    member: String,
    /// Who leads the log, as far as this member has heard; the app may lead elsewhere.
    raft_leader: Option<String>,
    /// The log's own term: no fencing token.
    raft_term: u64,
    /// Whether a majority of the voters is there, as far as this member can tell.
    has_quorum: bool,
    log: LogBody,
    members: Vec<MemberBody>,
}

/// This member's log, by the index of the entries.
#[derive(Serialize, ToSchema)]
pub struct LogBody {
    last: u64,
    committed: u64,
    applied: u64,
}

/// One member's seat.
#[derive(Serialize, ToSchema)]
pub struct MemberBody {
    id: String,
    #[schema(value_type = RoleName)]
    role: Role,
    /// Whether this member's connection to it stands.
    connected: bool,
    /// The disk that has the seat.
    disk: Option<String>,
    /// Another disk, with which it came a short time ago and was refused.
    other_disk: Option<String>,
    /// By how many entries it lags, where this member leads the log.
    lag_entries: Option<u64>,
}

/// What a member may do.
#[derive(ToSchema)]
#[schema(as = Role, rename_all = "snake_case")]
#[allow(dead_code)]
pub enum RoleName {
    Voter,
    Learner,
    None,
}

impl From<ClusterStatus> for ClusterBody {
    fn from(status: ClusterStatus) -> Self {
        let log = status.log;
        Self {
            backend: status.kind,
            member: status.member,
            raft_leader: status.raft_leader,
            raft_term: log.term,
            has_quorum: status.has_quorum,
            log: LogBody {
                last: log.last,
                committed: log.committed,
                applied: log.applied,
            },
            members: status.members.into_iter().map(MemberBody::from).collect(),
        }
    }
}

impl From<SeatStatus> for MemberBody {
    fn from(seat: SeatStatus) -> Self {
        Self {
            id: seat.id,
            role: seat.role,
            connected: seat.connected,
            disk: seat.disk,
            other_disk: seat.other_disk,
            lag_entries: seat.lag_entries,
        }
    }
}

/// The body of a change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeatBody {
    /// Whose seat.
    #[schema(required = true, value_type = String)]
    member: Option<String>,
    /// How long to wait for the change (default 30 s, at most 60 s).
    #[schema(format = "uint64", maximum = 18_446_744_073_709_551_615_u64)]
    wait_ms: Option<u64>,
}

/// Why a change was not made, or may not have been.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub enum SeatProblem {
    /// no-cluster: the backend keeps no list of members
    #[response(status = 404)]
    NoCluster(ProblemBody),
    /// seat-refused: what stands against it
    #[response(status = 409)]
    Refused(ProblemBody),
    /// backend-unavailable; outcome says whether it may have been applied
    #[response(status = 503)]
    Unavailable(ProblemBody),
}

/// GET `/cluster`
#[utoipa::path(
    get,
    path = "/cluster",
    description = "The cluster of sidecars as this member sees it, without asking anybody; raft alone.",
    responses(
        (status = 200, description = "who the members are", body = ClusterBody),
        (status = 404, description = "no-cluster: the backend keeps no list of members", body = ProblemBody),
    )
)]
pub async fn status(State(shared): State<Shared>) -> Result<Json<ClusterBody>, Problem> {
    Ok(Json(seats(&shared)?.status().into()))
}

/// POST `/cluster/add`
#[utoipa::path(
    post,
    path = "/cluster/add",
    description = "Gives a member a vote, once it has the log.",
    request_body = SeatBody,
    responses(
        (status = 200, description = "it votes; the cluster as this member sees it then", body = ClusterBody),
        SeatProblem,
    )
)]
pub async fn add(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ClusterBody>, Problem> {
    change(&shared, SeatChange::Add, &headers, body).await
}

/// POST `/cluster/remove`
#[utoipa::path(
    post,
    path = "/cluster/remove",
    description = "Takes a member's vote and seat.",
    request_body = SeatBody,
    responses(
        (status = 200, description = "it has none; the cluster as this member sees it then", body = ClusterBody),
        SeatProblem,
    )
)]
pub async fn remove(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ClusterBody>, Problem> {
    change(&shared, SeatChange::Remove, &headers, body).await
}

/// POST `/cluster/replace`
#[utoipa::path(
    post,
    path = "/cluster/replace",
    description = "Gives a member's seat to the disk that it comes with now, in place of one \
                   that was lost.",
    request_body = SeatBody,
    responses(
        (status = 200, description = "the new disk has the seat; the cluster as this member sees it then", body = ClusterBody),
        SeatProblem,
    )
)]
pub async fn replace(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ClusterBody>, Problem> {
    change(&shared, SeatChange::Replace, &headers, body).await
}

async fn change(
    shared: &Shared,
    change: SeatChange,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<ClusterBody>, Problem> {
    let body: SeatBody = read_json(headers, body).await?;
    let missing = || Problem::malformed("the body has no \"member\"");
    let member = body.member.ok_or_else(missing)?;
    let wait = held_for(body.wait_ms.map(Duration::from_millis));
    let seats = Arc::clone(seats(shared)?);
    // A change that was begun goes on though the client be gone.
    let asked = {
        let seats = Arc::clone(&seats);
        tokio::spawn(async move { seats.change(change, &member, wait).await })
    };
    let broken = || Err(StoreError::Indeterminate("the sidecar is stopping".into()));
    match asked.await.unwrap_or_else(|_| broken()) {
        Ok(()) => Ok(Json(seats.status().into())),
        Err(StoreError::Rejected(why)) => {
            Err(Problem::new(StatusCode::CONFLICT, "seat-refused", why))
        }
        Err(error) => {
            Err(Problem::store(error.to_string()).with_outcome(error.may_have_happened()))
        }
    }
}

fn seats(shared: &Shared) -> Result<&Arc<dyn Seats>, Problem> {
    let kind = shared.guarantees.kind;
    let detail = match &shared.membership {
        Membership::Seated(seats) => return Ok(seats),
        Membership::Listed => format!(
            "the members of {kind} are those that --peer lists, on every node: add or remove one at \
             a time, and restart all nodes with the same new list, see docs/peers.md"
        ),
        Membership::None => format!("{kind} is a store: this sidecar is in no cluster of sidecars"),
    };
    Err(Problem::new(StatusCode::NOT_FOUND, "no-cluster", detail))
}
