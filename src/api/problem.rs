//! Errors as RFC 9457 `application/problem+json`.

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use serde::Serialize;
use serde_json::{Map, Value};

/// The media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"tenure\"");

/// One error, as a client reads it.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    slug: &'static str,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    /// An error of that kind; `detail` says what was wrong and what to do.
    pub fn new(status: StatusCode, slug: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            slug,
            detail: detail.into(),
            members: Map::new(),
        }
    }

    /// Input that cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// The store gave no answer that can be acted upon.
    pub fn store(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "backend-unavailable", detail)
    }

    /// Says of a write that failed whether it may have been applied.
    #[must_use]
    pub fn with_outcome(self, may_have_happened: bool) -> Self {
        let outcome = match may_have_happened {
            true => "unknown",
            false => "not_applied",
        };
        self.with("outcome", outcome)
    }

    /// Adds a member that programs read.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.members.insert(name.to_owned(), value);
        self
    }

    /// The whole answer as bytes, the last of its connection: for clients whose bytes are
    /// no request that hyper could answer.
    pub fn last_words(self) -> String {
        let status = self.status;
        let body = self.body();
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\ncache-control: no-store\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }

    fn body(self) -> String {
        let mut body = Map::new();
        body.insert(
            "type".into(),
            format!("urn:tenure:problem:{}", self.slug).into(),
        );
        body.insert("title".into(), self.title().into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("detail".into(), self.detail.into());
        body.extend(self.members);
        Value::Object(body).to_string()
    }

    fn title(&self) -> String {
        let mut words = self.slug.replace('-', " ");
        if let Some(first) = words.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        words
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let kind = (CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        let answer = (status, [kind], self.body());
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 11.6.1: a 401 says what to send.
            return ([(WWW_AUTHENTICATE, CHALLENGE)], answer).into_response();
        }
        answer.into_response()
    }
}
