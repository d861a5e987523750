//! The fencing token, and what one is worth.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::extract::{Asked, Of};
use super::guard::read_json;
use super::leadership::not_leader;
use super::openapi::{self, ProblemBody};
use super::problem::Problem;
use crate::lease::{Epoch, Validity};

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
