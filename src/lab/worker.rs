//! The worker of a lab's node: counts while its sidecar leads.
//!
//! It knows nothing but the sidecar's URL, as an app would. It does *not* look
//! whether it still leads before it writes: a stale leader's write must bounce, and
//! the lab counts that it did.

use std::io::Read as _;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Answer, Client, ClientError};
use crate::exit::print_bytes;
use crate::lease::Revision;
use crate::time::pause;

/// From one count to the next.
const TICK: Duration = Duration::from_millis(50);

/// What a worker reports, one JSON line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The sidecar's own first line.
    Started { api: String },
    /// It leads, and goes on from this value; no revision before the first write.
    Resumed {
        epoch: u64,
        value: u64,
        revision: Option<Revision>,
    },
    /// The store acknowledged this value.
    Wrote { value: u64, revision: Revision },
    /// The write was refused: somebody newer leads.
    Refused { epoch: u64, value: u64 },
    /// Whether the write was applied is not known.
    Unknown { epoch: u64, value: u64 },
    /// After such a write: what the store holds, and what the next one goes on from.
    Found {
        value: u64,
        revision: Option<Revision>,
    },
}

/// Counts until the process ends. Its parent's end is its own: the parent holds the
/// other side of stdin.
pub(crate) fn start(api_url: String) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    if let (Ok(runtime), Ok(client)) = (runtime, Client::new(&api_url, None)) {
        runtime.block_on(Worker { client }.work());
    }
}

fn report(event: &Event) {
    if let Ok(line) = serde_json::to_string(event) {
        print_bytes(format!("{line}\n").as_bytes());
    }
}

struct Worker {
    client: Client,
}

/// What the store holds, as the worker read it.
struct Stored {
    value: u64,
    revision: Option<Revision>,
}

impl Worker {
    async fn work(&self) {
        let mut seen_revision = None;
        loop {
            match self.leading(seen_revision).await {
                Ok((revision, token)) => {
                    seen_revision = Some(revision);
                    if let Some(epoch) = token {
                        // However a tenure ends, the next look tells what follows.
                        let _ = self.tenure(epoch).await;
                        seen_revision = None;
                    }
                }
                Err(_) => pause(TICK).await,
            }
        }
    }

    /// The status' revision, and the token while this node leads.
    async fn leading(&self, after: Option<u64>) -> Result<(u64, Option<u64>), ClientError> {
        let path = match after {
            Some(revision) => format!("/status?after_revision={revision}&wait=10s"),
            None => "/status".to_owned(),
        };
        let answer = self.client.send("GET", &path, &[], Vec::new()).await?;
        let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let revision = status["revision"].as_u64().unwrap_or_default();
        Ok((revision, status["fence_token"].as_u64()))
    }

    async fn tenure(&self, epoch: u64) -> Result<(), ClientError> {
        let Some(mut stored) = self.resume(epoch).await? else {
            pause(TICK).await;
            return Ok(());
        };
        loop {
            let value = stored.value + 1;
            let answer = self.write(epoch, value, stored.revision).await?;
            match answer.status {
                StatusCode::NO_CONTENT => {
                    let Some(revision) = revision(&answer) else {
                        return Ok(());
                    };
                    report(&Event::Wrote { value, revision });
                    stored = Stored {
                        value,
                        revision: Some(revision),
                    };
                }
                StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                    report(&Event::Refused { epoch, value });
                    return Ok(());
                }
                _ => {
                    report(&Event::Unknown { epoch, value });
                    // Only the store knows; ask before counting on.
                    stored = self.find().await?;
                }
            }
            pause(TICK).await;
        }
    }

    /// Reads what to go on from, and says so: a write that an earlier leader knew nothing
    /// of may be there.
    async fn resume(&self, epoch: u64) -> Result<Option<Stored>, ClientError> {
        let stored = self.read().await?;
        if let Some(stored) = &stored {
            report(&Event::Resumed {
                epoch,
                value: stored.value,
                revision: stored.revision,
            });
        }
        Ok(stored)
    }

    /// Reads the same after a write of which nothing is known, as soon as the store can be
    /// asked. Whether this node leads then is not looked at: where it does not, the next
    /// write bounces.
    async fn find(&self) -> Result<Stored, ClientError> {
        loop {
            if let Some(stored) = self.read().await? {
                report(&Event::Found {
                    value: stored.value,
                    revision: stored.revision,
                });
                return Ok(stored);
            }
            pause(TICK).await;
        }
    }

    async fn read(&self) -> Result<Option<Stored>, ClientError> {
        let answer = self
            .client
            .send("GET", "/checkpoint", &[], Vec::new())
            .await?;
        let value = String::from_utf8_lossy(&answer.body).trim().parse().ok();
        Ok(match (answer.status, value) {
            (StatusCode::NOT_FOUND, _) => Some(Stored {
                value: 0,
                revision: None,
            }),
            (StatusCode::OK, Some(value)) => Some(Stored {
                value,
                revision: revision(&answer),
            }),
            _ => None,
        })
    }

    async fn write(
        &self,
        epoch: u64,
        value: u64,
        over: Option<Revision>,
    ) -> Result<Answer, ClientError> {
        let token = epoch.to_string();
        let tag = over.map(|revision| format!("\"{revision}\""));
        let condition = match &tag {
            Some(tag) => ("if-match", tag.as_str()),
            None => ("if-none-match", "*"),
        };
        let headers = [("fence-token", token.as_str()), condition];
        self.client
            .send(
                "PUT",
                "/checkpoint",
                &headers,
                value.to_string().into_bytes(),
            )
            .await
    }
}

fn revision(answer: &Answer) -> Option<Revision> {
    let tag = answer.headers.get(ETAG)?.to_str().ok()?;
    tag.trim_matches('"').parse().ok()
}
