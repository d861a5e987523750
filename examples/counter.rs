//! An app beside its Tenure sidecar: while it leads, it counts, five a second
//! or every TICK_MS.
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

const TICK_MS: u64 = 200;

fn main() {
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let tick_ms = given("TICK_MS").and_then(|text| text.parse().ok());
    let tick = Duration::from_millis(tick_ms.unwrap_or(TICK_MS));
    let sidecar = Sidecar::at(given("TENURE_API"), tick);
    // Given by `tenure run -- counter`: leader by birth, and nothing after that.
    let born = given("TENURE_FENCE_TOKEN");
    let mut followed = None;
    loop {
        let Look { token, leader, .. } = sidecar.look();
        match token {
            Some(token) if born.as_ref().is_none_or(|born| *born == token) => {
                sidecar.lead(&token);
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
        sleep(tick);
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

/// Status (0 where no answer came), headers, body.
#[derive(Default)]
struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: String,
}

struct Sidecar {
    url: String,
    client: ureq::Agent,
    tick: Duration,
}

impl Sidecar {
    fn at(url: Option<String>, tick: Duration) -> Self {
        let settings = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self {
            url: url.unwrap_or_else(|| "http://127.0.0.1:4040".to_owned()),
            client: settings.into(),
            tick,
        }
    }

    /// Counts until the leadership is over or in doubt.
    fn lead(&self, token: &str) {
        let Some((mut value, mut stored)) = self.read() else {
            return;
        };
        println!("resumed epoch={token} counter={value}");
        loop {
            // Before each act.
            let now = self.look();
            if now.token.as_deref() != Some(token) {
                return;
            }
            let next = value + 1;
            let written = self.write(token, stored.as_deref(), next);
            if written.status != 204 {
                // Refused, or nobody knows: read before counting on.
                let status = written.status;
                println!("stopped epoch={token} counter={next} status={status}");
                return;
            }
            (value, stored) = (next, written.header("etag"));
            println!(
                "leader epoch={token} counter={value} lease_left={}ms",
                now.left
            );
            sleep(self.tick);
        }
    }

    fn look(&self) -> Look {
        let answer = self.get("/leader");
        let leads = answer.status == 200;
        Look {
            token: answer.header("tenure-epoch").filter(|_| leads),
            left: answer
                .header("tenure-lease-remaining-ms")
                .unwrap_or_default(),
            leader: answer.header("tenure-leader").unwrap_or_default(),
        }
    }

    /// The counter and its revision: 0 and none before the first write.
    fn read(&self) -> Option<(u64, Option<String>)> {
        let answer = self.get("/checkpoint");
        match answer.status {
            200 => Some((answer.body.parse().ok()?, answer.header("etag"))),
            404 => Some((0, None)),
            _ => None,
        }
    }

    fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.url)).call())
    }

    /// Writes where this token leads and what was read is still stored.
    fn write(&self, token: &str, stored: Option<&str>, value: u64) -> Answer {
        let request = self.client.put(format!("{}/checkpoint", self.url));
        let request = request.header("Fence-Token", token);
        let request = match stored {
            Some(etag) => request.header("If-Match", etag),
            None => request.header("If-None-Match", "*"),
        };
        Answer::of(request.send(value.to_string()))
    }
}

impl Answer {
    fn of(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Self {
        let whole = answer.and_then(|mut answer| {
            Ok(Self {
                status: answer.status().as_u16(),
                headers: answer.headers().clone(),
                body: answer.body_mut().read_to_string()?,
            })
        });
        whole.unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }
}
