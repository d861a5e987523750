//! How single values are written: a duration, a switch, the URL of the app.

use std::path::PathBuf;
use std::time::Duration;

use super::Problem;
use crate::lease::Timing;

/// A duration as humantime reads it.
///
/// # Errors
/// Says how to write one.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    humantime::parse_duration(text).map_err(|error| {
        Problem::new(format!(
            "it is no duration ({error}); write it as 15s, 500ms or 2m"
        ))
    })
}

/// A duration in which something must happen.
///
/// # Errors
/// Where it is none, or zero.
pub fn positive(text: &str) -> Result<Duration, Problem> {
    let span = duration(text)?;
    if span.is_zero() {
        return Err(Problem::new("it must be longer than zero"));
    }
    Ok(span)
}

/// The duration of a lease.
///
/// # Errors
/// Where it is none, or out of range.
pub fn ttl(text: &str) -> Result<Duration, Problem> {
    let ttl = duration(text)?;
    if !Timing::TTL.contains(&ttl) {
        let [least, most] = [Timing::TTL.start(), Timing::TTL.end()];
        let [least, most] = [least, most].map(|span| humantime::format_duration(*span));
        let text = format!("it is out of range: write {least} to {most}");
        return Err(Problem::new(text));
    }
    Ok(ttl)
}

pub(super) fn switch(text: &str) -> Result<bool, Problem> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(Problem::new("it is true or false")),
    }
}

pub(super) fn directory(text: &str) -> Result<PathBuf, Problem> {
    if text.is_empty() {
        return Err(Problem::new("name a directory"));
    }
    Ok(PathBuf::from(text))
}

/// Half of the connections that the API ever serves at once (see `process`): readers
/// who stay must not shut out those who ask.
const MOST_EVENT_READERS: usize = 512;

pub(super) fn event_readers(text: &str) -> Result<usize, Problem> {
    match text.parse() {
        Ok(readers @ 1..=MOST_EVENT_READERS) => Ok(readers),
        _ => Err(Problem::new(format!(
            "write it as a whole number from 1 to {MOST_EVENT_READERS}"
        ))),
    }
}

pub(super) fn app_url(text: &str) -> Result<String, Problem> {
    let parsed: Option<hyper::Uri> = text.parse().ok();
    let uri = parsed.filter(|uri| uri.scheme().is_some());
    let authority = uri.as_ref().and_then(hyper::Uri::authority);
    let Some(authority) = authority else {
        return Err(Problem::new("it is no URL; write it as http://host:port"));
    };
    if authority.as_str().contains('@') {
        return Err(Problem::new(
            "it carries a login, and everybody who asks who leads is told it; leave the login out",
        ));
    }
    Ok(text.to_owned())
}
