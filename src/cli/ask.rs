//! The commands that ask a running sidecar and print what it says.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{checkpoint, cluster, watch};
use crate::bearer::{TokenFile, Tokens};
use crate::client::{Answer, Client, ClientError};
use crate::exit::{Exit, print_bytes, tell};
use crate::lease::{Epoch, NodeId};

/// Where a sidecar listens unless it is told otherwise.
pub const DEFAULT_API: &str = "http://127.0.0.1:4040";
/// A sidecar that is stopped accepts connections and answers none; Docker gives a
/// check 30 seconds by default, Kubernetes one.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// Runs one asking command.
pub fn ask(verb: &str, matches: &ArgMatches) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return complain(
            Exit::Failure,
            "no event loop can be made: out of file descriptors?",
        );
    };
    let answered = runtime.block_on(dispatch(verb, matches));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    match answered {
        Ok(exit) | Err(Refusal::Told(exit)) => exit,
        Err(Refusal::Client(error)) => complain(Exit::Unavailable, &error.to_string()),
    }
}

pub(super) enum Refusal {
    Told(Exit),
    Client(ClientError),
}

/// A bad address is told when it is met, like every bad value: others may follow.
impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Url(_) => Self::Told(complain(Exit::Configuration, &error.to_string())),
            ClientError::Unreachable { .. } => Self::Client(error),
        }
    }
}

pub(super) fn complain(exit: Exit, text: &str) -> Exit {
    tell(format_args!("tenure: {text}"));
    exit
}

async fn dispatch(verb: &str, matches: &ArgMatches) -> Result<Exit, Refusal> {
    match (verb, matches.subcommand()) {
        ("checkpoint", Some(("get", matches))) => checkpoint::get(matches).await,
        ("checkpoint", Some(("put", matches))) => checkpoint::put(matches).await,
        ("cluster", Some((verb, matches))) => cluster::run(verb, matches).await,
        ("status", _) => status(matches).await,
        ("stepdown", _) => step_down(matches).await,
        ("token", _) => token(matches).await,
        ("validate", _) => validate(matches).await,
        ("history", _) => history(matches).await,
        ("watch", _) => watch::watch(client(matches)?, matches.get_flag("json")).await,
        ("healthcheck", _) => healthcheck(matches).await,
        _ => Ok(Exit::Usage),
    }
}

/// All that is wrong with where to ask is told before this returns. So do commands with
/// values of their own: they look at each, and give up only then.
pub(super) fn client(matches: &ArgMatches) -> Result<Client, Refusal> {
    // The commands about the members are about no election.
    let election = match matches.try_contains_id("of") {
        Ok(_) => parsed(matches, "of", "election"),
        Err(_) => Ok(None),
    };
    let of = election.as_ref().ok().and_then(Option::as_ref);
    let client = Client::new(api(matches), of).map_err(Refusal::from);
    let tokens = tokens(matches);
    election?;
    Ok(client?.showing(tokens?))
}

/// What `--api-token-file` holds; `TENURE_API_TOKEN_FILE=` counts as not set.
fn tokens(matches: &ArgMatches) -> Result<Option<Arc<Tokens>>, Refusal> {
    let set = matches.value_source("api-token-file") == Some(ValueSource::CommandLine);
    let given = text(matches, "api-token-file").filter(|path| set || !path.is_empty());
    let read = |path: &str| {
        let file = TokenFile::open(path.into()).map_err(|error| {
            let text = format!("--api-token-file {path}: {error}");
            Refusal::Told(complain(Exit::Configuration, &text))
        });
        file.map(|file| file.tokens())
    };
    given.map(read).transpose()
}

/// `TENURE_API=` counts as not set.
fn api(matches: &ArgMatches) -> &str {
    let given = text(matches, "api").unwrap_or_default();
    let set = matches.value_source("api") == Some(ValueSource::CommandLine);
    if given.is_empty() && !set {
        DEFAULT_API
    } else {
        given
    }
}

/// A value that must be right before the sidecar is asked; what is wrong with it is told.
pub(super) fn parsed<T>(
    matches: &ArgMatches,
    argument: &str,
    flag: &str,
) -> Result<Option<T>, Refusal>
where
    T: FromStr<Err: Display>,
{
    let parse = |text: &str| {
        text.parse().map_err(|error| {
            let text = format!("--{flag}: {error}");
            Refusal::Told(complain(Exit::Configuration, &text))
        })
    };
    text(matches, argument).map(parse).transpose()
}

pub(super) fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

/// The body of a good answer; anything else is told on stderr.
pub(super) fn good(answer: &Answer) -> Result<Value, Refusal> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status.is_success() {
        return Ok(body);
    }
    Err(Refusal::Told(refused(answer, &body)))
}

pub(super) fn refused(answer: &Answer, body: &Value) -> Exit {
    let exit = match answer.status {
        StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::NOT_FOUND => {
            Exit::Configuration
        }
        StatusCode::UNAUTHORIZED => {
            let text = "the API asks for another token: name a file that holds it with \
                        --api-token-file";
            return complain(Exit::Configuration, text);
        }
        _ => Exit::Failure,
    };
    match body["detail"].as_str() {
        Some(detail) => complain(exit, detail),
        None => complain(exit, &format!("the sidecar answered {}", answer.status)),
    }
}

pub(super) fn print_json(value: &Value) -> Exit {
    print_bytes(format!("{value:#}\n").as_bytes())
}

pub(super) async fn get(matches: &ArgMatches, path: &str) -> Result<Value, Refusal> {
    good(&client(matches)?.send("GET", path, &[], Vec::new()).await?)
}

pub(super) async fn post(client: &Client, path: &str, body: &Value) -> Result<Answer, Refusal> {
    let kind = [("content-type", "application/json")];
    let body = body.to_string().into_bytes();
    Ok(client.send("POST", path, &kind, body).await?)
}

async fn status(matches: &ArgMatches) -> Result<Exit, Refusal> {
    let status = get(matches, "/status").await?;
    if matches.get_flag("json") {
        return Ok(print_json(&status));
    }
    Ok(print_bytes(status_text(&status).as_bytes()))
}

fn status_text(status: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let seconds = |value: &Value| match value.as_f64() {
        Some(ms) => format!("{:.1}s", ms / 1000.0),
        None => "-".to_owned(),
    };
    let leader = &status["leader"];
    let backend = &status["backend"];
    let connected = if backend["connected"] == true {
        "connected"
    } else {
        "NOT CONNECTED"
    };
    let mut lines = vec![
        ("election", shown(&status["election"])),
        (
            "node",
            format!("{} ({})", shown(&status["id"]), shown(&status["state"])),
        ),
        (
            "leader",
            format!(
                "{} {}",
                shown(&leader["id"]),
                leader["url"].as_str().unwrap_or("")
            ),
        ),
        ("epoch", shown(&status["term"])),
        (
            "lease",
            format!(
                "{} left of {}",
                seconds(&status["lease"]["remaining_ms"]),
                seconds(&status["lease"]["ttl_ms"])
            ),
        ),
        (
            "store",
            format!("{} {connected}", shown(&backend["address"])),
        ),
    ];
    for (name, value) in [
        ("trouble", &backend["trouble"]),
        ("holding", &backend["hold"]),
    ] {
        if !value.is_null() {
            lines.push((name, shown(value)));
        }
    }
    let line = |(name, value): &(&str, String)| format!("{name:9} {}\n", value.trim_end());
    lines.iter().map(line).collect()
}

/// A duration of the command line, as the API takes it; what is wrong with it is told.
pub(super) fn millis(matches: &ArgMatches, argument: &str) -> Result<Option<u64>, Refusal> {
    let read = |text: &str| {
        let span = humantime::parse_duration(text).map_err(|error| {
            let text = format!("--{argument} {text}: it is no duration ({error}); write 10s");
            Refusal::Told(complain(Exit::Configuration, &text))
        });
        span.map(crate::time::millis)
    };
    text(matches, argument).map(read).transpose()
}

async fn step_down(matches: &ArgMatches) -> Result<Exit, Refusal> {
    let client = client(matches);
    let cooldown = millis(matches, "cooldown");
    let wait = millis(matches, "wait");
    let to = parsed::<NodeId>(matches, "to", "to");
    let members = [
        ("cooldown_ms", cooldown?.map(Value::from)),
        ("wait_ms", wait?.map(Value::from)),
        ("to", to?.map(|to| to.as_str().into())),
        ("reason", text(matches, "reason").map(Value::from)),
    ];
    let given = members.into_iter();
    let body: Value = given
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    let answer = post(&client?, "/leadership/stepdown", &body).await?;
    let body = good(&answer)?;
    if matches.get_flag("json") {
        return Ok(print_json(&body));
    }
    let text = if body["released"] == true {
        format!("released epoch {}\n", body["fence_token"])
    } else {
        "stepping down; the app is still draining\n".to_owned()
    };
    Ok(print_bytes(text.as_bytes()))
}

async fn token(matches: &ArgMatches) -> Result<Exit, Refusal> {
    let token = get(matches, "/fence-token").await?;
    if matches.get_flag("json") {
        return Ok(print_json(&json!({"fence_token": token})));
    }
    Ok(print_bytes(format!("{token}\n").as_bytes()))
}

async fn validate(matches: &ArgMatches) -> Result<Exit, Refusal> {
    let client = client(matches);
    let token = text(matches, "token").unwrap_or_default();
    if let Err(error) = token.parse::<Epoch>() {
        return Ok(complain(Exit::Configuration, &error.to_string()));
    }
    let answer = post(&client?, "/fence-token/validate", &json!({"token": token})).await?;
    let body = good(&answer)?;
    let printed = if matches.get_flag("json") {
        print_json(&body)
    } else {
        let reason = body["reason"].as_str().unwrap_or_default();
        let current = &body["current_token"];
        print_bytes(format!("{reason} (current token: {current})\n").as_bytes())
    };
    Ok(if body["valid"] == true {
        printed
    } else {
        Exit::Failure
    })
}

async fn history(matches: &ArgMatches) -> Result<Exit, Refusal> {
    let history = get(matches, "/history").await?;
    if matches.get_flag("json") {
        return Ok(print_json(&history));
    }
    let mut lines = String::new();
    for entry in history.as_array().into_iter().flatten() {
        let of = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
        lines += &format!(
            "{}  {:13} -> {:13}  {:15} epoch {}  leader {}\n",
            of("at"),
            of("from"),
            of("to"),
            of("reason"),
            entry["epoch"],
            of("leader"),
        );
    }
    Ok(print_bytes(lines.as_bytes()))
}

/// Asks a route that needs no token, and that the probes' listener has too: a check
/// stays green while a token is rotated.
async fn healthcheck(matches: &ArgMatches) -> Result<Exit, Refusal> {
    let answer = Client::new(api(matches), None)?
        .patient_for(HEALTH_PATIENCE)
        .send("GET", "/livez", &[], Vec::new())
        .await?;
    good(&answer)?;
    Ok(Exit::Ok)
}
