//! Three threads a node: one asks `/status` all the time, one long-polls, and one
//! writes the checkpoint while the node says that it leads.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::history::{Answer, At, Fate, Read, Recorder, Revision, Write, revision};
use super::http::{Http, Response};

const POLL_EVERY: Duration = Duration::from_millis(20);
const WRITE_EVERY: Duration = Duration::from_millis(60);
/// Longer than any pause of a process here: a request waits inside a stopped one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a node is found at present; every start takes another port.
#[derive(Default)]
pub struct Place {
    address: Mutex<Option<SocketAddr>>,
    /// The token it last told; 0 for none.
    token: AtomicU64,
    over: AtomicBool,
}

impl Place {
    pub fn move_to(&self, address: Option<SocketAddr>) {
        *self.address.lock().unwrap() = address;
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap()
    }
}

/// Watches a node until its place ends.
pub fn watch(node: usize, place: &Arc<Place>, recorder: &Recorder) {
    let watchers: [fn(usize, &Place, &Recorder, &mut Http); 3] = [poll, long_poll, write_on];
    for watcher in watchers {
        let (place, recorder) = (Arc::clone(place), recorder.clone());
        std::thread::spawn(move || {
            while !place.is_over() {
                if let Some(address) = place.address() {
                    let mut http = Http::new(address, PATIENCE);
                    while !place.is_over() && place.address() == Some(address) {
                        watcher(node, &place, &recorder, &mut http);
                    }
                }
                sleep(POLL_EVERY);
            }
        });
    }
}

fn poll(node: usize, place: &Place, recorder: &Recorder, http: &mut Http) {
    let sent = recorder.now();
    if let Ok(response) = http.get("/status") {
        let answer = answer(node, sent, recorder.now(), &response.json());
        place
            .token
            .store(answer.token.unwrap_or(0), Ordering::Relaxed);
        recorder.add(|history| history.answers.push(answer));
    }
    sleep(POLL_EVERY);
}

fn long_poll(node: usize, place: &Place, recorder: &Recorder, http: &mut Http) {
    let mut known = 0;
    let address = place.address();
    while !place.is_over() && place.address() == address {
        // What a waiting request is told is early news of a new leader: the sooner it
        // is received, the sooner an old leader's answer is a violation.
        let path = format!("/status?after_revision={known}&wait=1s");
        let sent = recorder.now();
        let Ok(response) = http.get(&path) else {
            return sleep(POLL_EVERY);
        };
        let json = response.json();
        known = json["revision"].as_u64().unwrap_or(0);
        let answer = answer(node, sent, recorder.now(), &json);
        recorder.add(|history| history.answers.push(answer));
    }
}

pub fn answer(node: usize, sent: At, received: At, json: &Value) -> Answer {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Answer {
        node,
        boot: json["boot_id"].as_str().unwrap_or_default().to_owned(),
        sent,
        received,
        is_leader: json["is_leader"] == true,
        token: json["fence_token"].as_u64(),
        term: json["term"].as_u64(),
        left: json["lease"]["remaining_ms"]
            .as_u64()
            .map(Duration::from_millis),
        leader: text(&json["leader"]["id"]),
        connected: json["backend"]["connected"] == true,
        trouble: text(&json["backend"]["trouble"]),
        hold: text(&json["backend"]["hold"]),
    }
}

/// One step of a worker: read, then write over what was read.
fn write_on(node: usize, place: &Place, recorder: &Recorder, http: &mut Http) {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let token = place.token.load(Ordering::Relaxed);
    if token != 0 {
        let value = format!("w{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        write(recorder, node, http, token, &value);
    }
    sleep(WRITE_EVERY);
}

/// Reads the checkpoint, and writes over it. The answer's status is 0 for none.
pub fn write(
    recorder: &Recorder,
    node: usize,
    http: &mut Http,
    token: u64,
    value: &str,
) -> (Fate, u16) {
    let Some(found) = read(recorder, http) else {
        return (Fate::Refused, 0);
    };
    let over = found.revision;
    let sent = recorder.now();
    let token_text = token.to_string();
    let tag = over.filter(|_| !found.newer_was_lost);
    let tag = tag.map(|(epoch, seq)| format!("\"{epoch}.{seq}\""));
    let condition = match &tag {
        Some(tag) => ("If-Match", tag.as_str()),
        None => ("If-None-Match", "*"),
    };
    let headers = [("Fence-Token", token_text.as_str()), condition];
    let response = http.ask("PUT", "/checkpoint", &headers, value.as_bytes());
    let fate = fate(&response);
    let write = Write {
        node,
        token,
        over,
        value: value.to_owned(),
        sent,
        received: recorder.now(),
        fate,
    };
    recorder.add(|history| history.writes.push(write));
    (fate, response.map_or(0, |response| response.status))
}

pub fn fate(response: &std::io::Result<Response>) -> Fate {
    match response {
        Ok(response) if response.status == 204 => {
            let tag = response.etag().and_then(|tag| revision(&tag));
            tag.map_or(Fate::Unknown, Fate::Accepted)
        }
        Ok(response) if response.status == 503 && response.json()["outcome"] != "not_applied" => {
            Fate::Unknown
        }
        Ok(_) => Fate::Refused,
        Err(_) => Fate::Unknown,
    }
}

/// What a read found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// What is stored; `None` for nothing.
    pub revision: Option<Revision>,
    /// The node has seen a newer value than the one that is stored.
    pub newer_was_lost: bool,
}

/// Reads the checkpoint, recorded; `None` where it is not known.
pub fn read(recorder: &Recorder, http: &mut Http) -> Option<Found> {
    let sent = recorder.now();
    let response = http.get("/checkpoint").ok()?;
    match response.status {
        200 => {
            let revision = response.etag().and_then(|tag| revision(&tag))?;
            let read = Read {
                revision,
                value: String::from_utf8_lossy(&response.body).into_owned(),
                sent,
                received: recorder.now(),
            };
            recorder.add(|history| history.reads.push(read));
            Some(Found {
                revision: Some(revision),
                newer_was_lost: false,
            })
        }
        404 => Some(Found::default()),
        503 => {
            let problem = response.json();
            let lost = problem["type"] == "urn:tenure:problem:checkpoint-lost";
            lost.then(|| Found {
                revision: problem["revision"].as_str().and_then(revision),
                newer_was_lost: true,
            })
        }
        _ => None,
    }
}
