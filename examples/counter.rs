//! An app beside its Tenure sidecar: while it leads, it counts, five a second.
//!
//! ```sh
//! tenure run --backend redis & cargo run --example counter     # beside a sidecar
//! tenure run --backend redis -- target/debug/examples/counter  # started by it
//! ```
//!
//! It shows the whole duty of a leader: ask before each act; write under the token, and
//! over the revision that was read; where a write is refused or its outcome is not
//! known, stop, read again, and go on from what is really stored. It knows nothing of
//! Tenure but the HTTP API.

use std::thread::sleep;
use std::time::Duration;

use minreq::{Request, Response};

const TICK: Duration = Duration::from_millis(200);

fn main() {
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let api = given("TENURE_API").unwrap_or_else(|| "http://127.0.0.1:4040".to_owned());
    // Given by `tenure run -- counter`: leader by birth, and nothing after that.
    let born = given("TENURE_FENCE_TOKEN");
    let mut followed = None;
    loop {
        let Look { token, leader, .. } = look(&api);
        match token {
            Some(token) if born.as_ref().is_none_or(|born| *born == token) => {
                lead(&api, &token);
                followed = None;
            }
            _ if followed.as_ref() != Some(&leader) || born.is_some() => {
                println!("follower leader={leader}");
                if born.is_some() {
                    std::process::exit(1);
                }
                followed = Some(leader);
            }
            _ => {}
        }
        sleep(TICK);
    }
}

/// Counts until the leadership is over or in doubt.
fn lead(api: &str, token: &str) {
    let Some((mut value, mut stored)) = read(api) else {
        return;
    };
    println!("resumed epoch={token} counter={value}");
    loop {
        // Before each act.
        let now = look(api);
        if now.token.as_deref() != Some(token) {
            return;
        }
        let next = value + 1;
        let write = minreq::put(format!("{api}/checkpoint")).with_header("Fence-Token", token);
        let write = match &stored {
            Some(etag) => write.with_header("If-Match", etag),
            None => write.with_header("If-None-Match", "*"),
        };
        let answer = send(write.with_body(next.to_string()));
        let status = answer.as_ref().map_or(0, |answer| answer.status_code);
        if status != 204 {
            // Refused, or nobody knows: read before counting on.
            println!("stopped epoch={token} counter={next} status={status}");
            return;
        }
        (value, stored) = (next, header(answer.as_ref(), "etag"));
        println!(
            "leader epoch={token} counter={value} lease_left={}ms",
            now.left
        );
        sleep(TICK);
    }
}

struct Look {
    /// While this node leads.
    token: Option<String>,
    /// Of the lease, counted from before the question.
    left: String,
    /// Who leads, where that is known.
    leader: String,
}

fn look(api: &str) -> Look {
    let answer = send(minreq::get(format!("{api}/leader")));
    let leads = answer.as_ref().filter(|answer| answer.status_code == 200);
    Look {
        token: header(leads, "tenure-epoch"),
        left: header(leads, "tenure-lease-remaining-ms").unwrap_or_default(),
        leader: header(answer.as_ref(), "tenure-leader").unwrap_or_default(),
    }
}

/// The counter and its revision: 0 and none before the first write.
fn read(api: &str) -> Option<(u64, Option<String>)> {
    let answer = send(minreq::get(format!("{api}/checkpoint")))?;
    match answer.status_code {
        200 => Some((
            answer.as_str().ok()?.parse().ok()?,
            header(Some(&answer), "etag"),
        )),
        404 => Some((0, None)),
        _ => None,
    }
}

/// `None` where no answer came.
fn send(request: Request) -> Option<Response> {
    request.with_timeout(5).send().ok()
}

fn header(answer: Option<&Response>, name: &str) -> Option<String> {
    let mut headers = answer?.headers.iter();
    let (_, text) = headers.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(text.clone())
}
