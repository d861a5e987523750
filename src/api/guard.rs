//! What a request must satisfy before it is looked at: the right host, the right
//! origin, a token where one is asked for, a body of bounded size in bounded time.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use hyper::{Request, StatusCode, Version};

use super::problem::Problem;
use super::{Shared, route};
use crate::bearer::Tokens;
use crate::time::within;

/// The largest body that any route takes.
pub const MAX_BODY_BYTES: usize = crate::lease::checkpoint::MAX_BYTES;
/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Refuses hosts and origins that a page from elsewhere would send, so that no browser
/// is led to the API (DNS rebinding, cross-site requests), and whoever shows no token
/// where one is asked for.
pub fn check<B>(shared: &Shared, request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    foreign(shared, request)?;
    match &shared.tokens {
        Some(file) if !route::is_open(request.uri().path()) => authorized(&file.tokens(), headers),
        _ => Ok(()),
    }
}

/// RFC 6750, section 2.1. Nothing tells a wrong token from one that was taken away.
fn authorized(tokens: &Tokens, headers: &HeaderMap) -> Result<(), Problem> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let detail = match (given.next(), given.next()) {
        (Some(header), None) => {
            let bytes = header.as_bytes();
            let (scheme, token) = bytes.split_at(bytes.len().min("Bearer ".len()));
            let bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
            if bearer && tokens.accept(token.trim_ascii()) {
                return Ok(());
            }
            "the token of the header Authorization is not accepted"
        }
        (Some(_), Some(_)) => "the header Authorization is there more than once: send one",
        (None, _) => "this API asks for a token: send Authorization: Bearer TOKEN",
    };
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        detail,
    ))
}

fn foreign<B>(shared: &Shared, request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let refuse = |what: &str, value: &str| {
        let detail =
            format!("{what} \"{value}\" is neither a loopback name nor one given by --allow-host");
        let slug = if what == "Host" {
            "forbidden-host"
        } else {
            "forbidden-origin"
        };
        Err(Problem::new(StatusCode::FORBIDDEN, slug, detail))
    };
    for host in headers.get_all(HOST) {
        let host = String::from_utf8_lossy(host.as_bytes());
        if !host_of(&host).is_some_and(|name| allowed(shared, name)) {
            return refuse("Host", &host);
        }
    }
    if let Some(host) = request.uri().host()
        && !allowed(shared, host)
    {
        return refuse("Host", host);
    }
    for origin in headers.get_all(ORIGIN) {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let host = origin.split_once("://").and_then(|(_, host)| host_of(host));
        if !host.is_some_and(|host| allowed(shared, host)) {
            return refuse("Origin", &origin);
        }
    }
    // RFC 9112, section 3.2: HTTP/1.1 has exactly one Host, HTTP/1.0 at most one.
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() >= Version::HTTP_11) {
        let detail = format!("the request has {hosts} Host headers; send one");
        return Err(Problem::malformed(detail));
    }
    Ok(())
}

/// The name in `name:port`, `[v6]:port` or either without a port; `None` for
/// anything else, so that no loopback name is read out of a foreign one.
fn host_of(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.find(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port,
        None if rest.is_empty() => "",
        None => return None,
    };
    port.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(host)
}

fn allowed(shared: &Shared, host: &str) -> bool {
    let inside = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = inside.unwrap_or(host);
    let loopback = bare
        .parse()
        .is_ok_and(|address: IpAddr| address.is_loopback());
    let name = bare.trim_end_matches('.');
    loopback || is_localhost(name) || {
        let mut allowed = shared.allow_hosts.iter();
        allowed.any(|allow| allow.eq_ignore_ascii_case(name))
    }
}

/// RFC 6761, section 6.3: the name and all names under it are the loopback's.
fn is_localhost(name: &str) -> bool {
    let start = name.len().saturating_sub("localhost".len());
    let (under, last) = name.as_bytes().split_at(start);
    last.eq_ignore_ascii_case(b"localhost") && (under.is_empty() || under.ends_with(b"."))
}

/// Reads a whole body within the limits.
///
/// # Errors
/// 413, 408, or 400 where the client broke off.
pub async fn read_body(body: Body) -> Result<Bytes, Problem> {
    let whole = Limited::new(body, MAX_BODY_BYTES).collect();
    match within(BODY_TIME, whole).await {
        None => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            "the body did not arrive within 10 seconds",
        )),
        Some(Ok(whole)) => Ok(whole.to_bytes()),
        Some(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload-too-large",
            format!("the body is larger than {MAX_BODY_BYTES} bytes; keep large state elsewhere"),
        )
        .with("limit_bytes", MAX_BODY_BYTES)),
        Some(Err(error)) => Err(Problem::malformed(format!("the body broke off: {error}"))),
    }
}

/// Reads a JSON body; an empty one counts as `{}` and needs no type.
///
/// # Errors
/// 415 for another media type, 400 with what was wrong.
pub async fn read_json<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    let bytes = read_body(body).await?;
    if !bytes.is_empty() && !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "send the body as application/json",
        ));
    }
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    // Serde would take a list for the members in their order.
    if text.trim_ascii_start().first() != Some(&b'{') {
        let detail = "the body is no JSON object; write it as {\"name\": value}";
        return Err(Problem::malformed(detail));
    }
    serde_json::from_slice(text).map_err(|error| Problem::malformed(format!("the body: {error}")))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}
