//! What a handler is handed: the election that the path names, and the query.

use axum::extract::{FromRequestParts, Query, RawPathParams};
use hyper::StatusCode;
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Shared;
use super::problem::Problem;
use crate::sidecar::Election;

/// The election that a path names; without a name the first one.
pub struct Of(pub Election);

impl FromRequestParts<Shared> for Of {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, shared).await;
        let params = params.map_err(|error| Problem::malformed(error.to_string()))?;
        let name = params
            .iter()
            .find_map(|(key, value)| (key == "name").then_some(value));
        let found = match name {
            None => shared.elections.first(),
            Some(name) => shared
                .elections
                .iter()
                .find(|election| election.name().as_str() == name),
        };
        found.cloned().map(Of).ok_or_else(|| {
            let detail = format!(
                "this sidecar takes no part in an election {}; see /elections",
                name.unwrap_or_default()
            );
            Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
        })
    }
}

/// The query, refused in the same voice as everything else.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequestParts<Shared> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        if parts.uri.query().is_none() {
            return Ok(Self(T::default()));
        }
        let query = Query::from_request_parts(parts, shared).await;
        let Query(query) = query.map_err(|error| Problem::malformed(error.body_text()))?;
        Ok(Self(query))
    }
}
