//! What answers and records are made of, for comparing them.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure::lease::register::State;
use tenure::lease::{Holder, NodeId, Profile, Revision};

use super::redis_server::Reply;

/// PTTL reads the clock a moment before or after TIME does.
const LEFT_SLACK_MS: u64 = 1_000;

/// What an answer is made of. `Left` is compared with slack.
#[derive(Clone, Debug)]
pub enum Part {
    Word(String),
    Bytes(Vec<u8>),
    Number(u64),
    Left(u64),
}

pub fn word(text: impl ToString) -> Part {
    Part::Word(text.to_string())
}

pub fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}

pub fn agrees(part: &Part, reply: &Reply) -> bool {
    match part {
        Part::Word(text) => reply.text() == text,
        Part::Bytes(bytes) => reply.bytes() == bytes,
        Part::Number(number) => reply.number() == *number,
        Part::Left(left) => reply.number().abs_diff(*left) <= LEFT_SLACK_MS,
    }
}

pub fn record_of(profile: Option<&Profile>) -> String {
    profile.map_or_else(String::new, |profile| {
        serde_json::to_string(profile).unwrap()
    })
}

pub fn revision_text(revision: Option<Revision>) -> String {
    revision.map_or_else(String::new, |revision| revision.to_string())
}

pub fn holder_parts(holder: &Holder, left: Option<u64>) -> Vec<Part> {
    let unknown = holder.profile.node == NodeId::unknown();
    let ttl = match left {
        // Where the TTL is unknown, what is left stands in for it.
        Some(left) if unknown && holder.ttl == Duration::from_millis(left) => Part::Left(left),
        _ => Part::Number(ms(holder.ttl)),
    };
    let profile = (!unknown).then_some(&holder.profile);
    let mut parts = vec![
        Part::Number(holder.epoch.get()),
        word(&holder.session),
        word(record_of(profile)),
        Part::Number(holder.since.0),
        ttl,
    ];
    parts.extend(left.map(Part::Left));
    parts
}

pub fn known_field(text: &str) -> &'static str {
    FIELDS
        .iter()
        .find(|name| **name == text)
        .copied()
        .unwrap_or("unknown")
}

pub const FIELDS: [&str; 12] = [
    "epoch",
    "session",
    "record",
    "ttl_ms",
    "hold_ms",
    "acquired_ms",
    "expires_ms",
    "server",
    "hold_until_ms",
    "ended",
    "checkpoint",
    "revision_base",
];

pub fn fields_of(state: &State) -> BTreeMap<&'static str, String> {
    let session = state.session.as_ref();
    let values = [
        state.epoch.to_string(),
        session.map_or_else(String::new, ToString::to_string),
        record_of(state.profile.as_ref()),
        state.ttl_ms.to_string(),
        state.hold_ms.to_string(),
        state.acquired.0.to_string(),
        state.expires_ms.to_string(),
        state.server.clone(),
        state.hold_until_ms.to_string(),
        u8::from(state.ended).to_string(),
        revision_text(state.checkpoint),
        state.revision_base.to_string(),
    ];
    FIELDS.into_iter().zip(values).collect()
}
