//! `/openapi.json`: the description of every route, out of the notes that stand beside
//! the handlers, and of what all routes have in common, which stands here.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::problem::MEDIA_TYPE;
use super::route::{self, PREFIX};

/// Computed once: nothing in it changes while the process runs.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));

/// GET `/openapi.json`
#[utoipa::path(
    get,
    path = "/openapi.json",
    description = "The description that you are reading.",
    responses((status = 200, description = "an OpenAPI document", body = Object))
)]
pub async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, kind)], DOCUMENT.clone()).into_response()
}

/// A fencing token, a term, an epoch: one number.
#[derive(ToSchema)]
#[schema(value_type = u64, minimum = 1, maximum = 9_007_199_254_740_991_u64)]
#[allow(dead_code)]
pub struct Epoch(u64);

/// Every error, after RFC 9457. Some carry further members.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code)]
pub struct ProblemBody {
    /// What kind of error it is: urn:tenure:problem: and its name.
    #[schema(pattern = "^urn:tenure:problem:[a-z-]+$")]
    r#type: String,
    /// The same in words.
    title: String,
    /// The status code.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong, and what to do.
    detail: String,
}

/// The states of a node.
#[derive(ToSchema)]
#[schema(as = State, rename_all = "snake_case")]
#[allow(dead_code)]
pub enum StateName {
    Starting,
    Follower,
    Candidate,
    Leader,
    SteppingDown,
    Stopping,
}

/// How the app is.
#[derive(ToSchema)]
#[allow(dead_code)]
pub struct Health {
    /// Whether it may lead; false too while it has not been heard of.
    healthy: bool,
    /// How well it would, among the healthy ones.
    #[schema(maximum = 100)]
    score: u8,
}

/// One transition of this node.
#[derive(ToSchema)]
#[schema(as = Transition)]
#[allow(dead_code)]
pub struct Entry {
    /// When, by this node's wall clock.
    #[schema(format = DateTime)]
    at: String,
    from: StateName,
    to: StateName,
    reason: String,
    /// The event that told of it.
    event: String,
    /// The epoch that it is about.
    epoch: Option<Epoch>,
    /// Who leads afterwards.
    leader: Option<String>,
    /// The revision afterwards.
    revision: u64,
}

/// The document, complete.
fn document() -> Value {
    let described = route::description();
    let mut document = serde_json::to_value(described).unwrap_or_default();
    document["info"] = json!({
        "title": "Tenure",
        "description": "The localhost API of a leader-election sidecar. Leadership is computed \
                        for each request from the lease's deadline.",
        "version": env!("CARGO_PKG_VERSION"),
        "license": {"name": "MIT OR Apache-2.0"},
    });
    document["components"]["securitySchemes"]["token"] = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "Asked for where the sidecar runs with --api-token-file.",
    });
    let schemas = document["components"]["schemas"].as_object_mut();
    for (name, schema) in schemas.into_iter().flatten() {
        // What this API sends has every member, null where unknown.
        let sent = !["StepDownBody", "ValidateBody", "SeatBody"].contains(&name.as_str());
        if let (true, Some(members)) = (sent, schema["properties"].as_object()) {
            schema["required"] = members.keys().cloned().collect();
        }
    }
    let Some(paths) = document["paths"].as_object_mut() else {
        return document;
    };
    for (path, item) in paths {
        let Some(operations) = item.as_object_mut() else {
            continue;
        };
        let of_named = path.starts_with(PREFIX);
        for (method, operation) in operations.iter_mut() {
            complete(operation, method, path);
        }
        if of_named {
            operations.insert("parameters".to_owned(), json!([election()]));
        }
    }
    document
}

/// The election that a path names.
fn election() -> Value {
    json!({
        "name": "name",
        "in": "path",
        "required": true,
        "description": "One of the elections that /elections lists.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    })
}

/// What all operations have in common.
fn complete(operation: &mut Value, method: &str, path: &str) {
    let name = path.trim_start_matches('/').replace(['/', '-', '.'], "_");
    let name = name.replace(['{', '}'], "");
    let name = if name.is_empty() { "root" } else { &name };
    operation["operationId"] = format!("{method}_{name}").into();
    let guarded = !route::is_open(&path.replace("{name}", "a"));
    if guarded {
        // An empty requirement: without --api-token-file no token is asked for.
        operation["security"] = json!([{}, {"token": []}]);
    }
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        // What is optional is left out; there is no null in a query or a header.
        if let Some(kind) = parameter["schema"]["type"].get(0).cloned() {
            parameter["schema"]["type"] = kind;
        }
    }
    if path.ends_with("/stepdown") {
        operation["requestBody"]["required"] = false.into();
    }
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    for (status, what) in common(method, path, guarded) {
        responses.entry(status).or_insert_with(|| problem(what));
    }
    for response in responses.values_mut() {
        finish(response, method);
    }
}

/// The errors that any request can meet.
fn common(method: &str, path: &str, guarded: bool) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("400", "malformed: what was wrong"),
        (
            "403",
            "forbidden-host, forbidden-origin: a Host or an Origin from elsewhere",
        ),
        ("408", "request-timeout: the request did not arrive in time"),
        (
            "431",
            "request-header-fields-too-large: more than 16 KiB, or more than 100 headers",
        ),
    ];
    if guarded {
        all.push(("401", "unauthorized: a token is asked for"));
    }
    if path.starts_with(PREFIX) {
        all.push((
            "404",
            "not-found: this sidecar takes no part in that election",
        ));
    }
    if method == "post" || method == "put" {
        all.push(("413", "payload-too-large: the body has more than 64 KiB"));
    }
    if method == "post" {
        all.push((
            "415",
            "unsupported-media-type: the body is no application/json",
        ));
    }
    all
}

fn problem(description: &str) -> Value {
    json!({
        "description": description,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    })
}

/// A problem's media type, an answer to HEAD without a body, and the header that all
/// answers have.
fn finish(response: &mut Value, method: &str) {
    let Some(response) = response.as_object_mut() else {
        return;
    };
    let headers = response.entry("headers").or_insert_with(|| json!({}));
    headers["Cache-Control"] = json!({"schema": {"type": "string", "const": "no-store"}});
    if method == "head" {
        response.remove("content");
    }
    let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) else {
        return;
    };
    let is_problem = |kind: &Map<String, Value>| {
        kind["application/json"]["schema"]["$ref"] == "#/components/schemas/Problem"
    };
    if content.contains_key("application/json")
        && is_problem(content)
        && let Some(kind) = content.remove("application/json")
    {
        content.insert(MEDIA_TYPE.to_owned(), kind);
    }
}
