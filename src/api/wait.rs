//! How long a client may make the sidecar wait.

use std::time::Duration;

use hyper::StatusCode;

use super::problem::Problem;

/// The longest that a long-poll or a step-down is waited for.
const MAX_WAIT: Duration = Duration::from_secs(60);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// How long an answer is held back for a client that asked for `wait`.
pub(super) fn held_for(wait: Option<Duration>) -> Duration {
    wait.unwrap_or(DEFAULT_WAIT).min(MAX_WAIT)
}

pub(super) fn no_timer(error: &std::io::Error) -> Problem {
    let detail = format!("the sidecar cannot wait for you: {error}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "out-of-resources", detail)
}

/// Reads a query's duration.
pub(super) fn duration(name: &str, text: &str) -> Result<Duration, Problem> {
    humantime::parse_duration(text).map_err(|error| {
        let detail =
            format!("{name} \"{text}\" is no duration ({error}); write it as 30s or 500ms");
        Problem::malformed(detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_is_held_for_more_than_a_minute() {
        let second = Duration::from_secs(1);
        assert_eq!(held_for(None), second * 30);
        assert_eq!(held_for(Some(second)), second);
        assert_eq!(held_for(Some(second * 600)), second * 60);
    }
}
