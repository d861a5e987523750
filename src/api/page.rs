//! GET `/`: the status page, one file with nothing from elsewhere.

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};

use super::Shared;
use super::extract::Of;
use super::problem::Problem;
use super::process::root;

const PAGE: &str = include_str!("status.html");

/// GET `/` of the API: a page that may make this node step down.
pub async fn page(state: State<Shared>, of: Of, headers: HeaderMap) -> Response {
    answer(state, of, &headers, "stepdown").await
}

/// GET `/` where nothing may be changed: a page without the button.
#[allow(dead_code, reason = "the probe listener serves it")]
pub async fn read_only_page(state: State<Shared>, of: Of, headers: HeaderMap) -> Response {
    answer(state, of, &headers, "none").await
}

async fn answer(state: State<Shared>, of: Of, headers: &HeaderMap, control: &str) -> Response {
    let mut response = if wants_json(headers) {
        root(state, of).await
    } else {
        html(&state, control).into_response()
    };
    let vary = HeaderValue::from_name(ACCEPT);
    response.headers_mut().insert(VARY, vary);
    response
}

/// Programs ask for JSON by name; browsers name HTML.
fn wants_json(headers: &HeaderMap) -> bool {
    let names = |kind: &str| {
        let mut accepted = headers.get_all(ACCEPT).iter();
        accepted.any(|value| {
            let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
            text.split(',')
                .filter_map(|range| range.split(';').next())
                .any(|range| range.trim() == kind)
        })
    };
    names("application/json") && !names("text/html")
}

/// The page. It runs its own script and style and nothing else, and talks to this
/// sidecar alone: whatever a node calls itself, it stays text.
fn html(shared: &Shared, control: &str) -> Result<Response, Problem> {
    let nonce = nonce()?;
    let elections: Vec<&str> = shared
        .elections()
        .iter()
        .map(|election| election.name().as_str())
        .collect();
    // Election names have no character that HTML knows.
    let page = PAGE
        .replace("{{nonce}}", &nonce)
        .replace("{{control}}", control)
        .replace("{{elections}}", &elections.join(","));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let mut response = Html(page).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    let plain: [(HeaderName, &'static str); 2] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in plain {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// What the page's own script and style are told from others by, new for each page.
fn nonce() -> Result<String, Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        let detail = format!("the system gives no random bytes: {error}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "out-of-resources", detail)
    })?;
    Ok(STANDARD.encode(bytes))
}
