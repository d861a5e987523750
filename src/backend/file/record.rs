//! What the files hold: the record, as JSON that people can read, and the
//! checkpoint, as one line and the raw bytes.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::head::Version;
use crate::lease::register::{Present, Register};
use crate::lease::{Checkpoint, ElectionName, NodeId, Revision, StoreError};

/// The format that this code writes, and the only one that it reads.
const FORMAT: u32 = 1;
/// First word of a checkpoint file.
const CHECKPOINT_WORD: &str = "tenure-checkpoint";

/// Where this process runs. Lease times are compared only inside one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Inode of `/proc/self/ns/time`; 0 where the kernel has no such namespaces.
    pub time_namespace: u64,
}

/// One election's record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// What the rules work on.
    pub register: Register,
    /// Whom the holder named when it released.
    pub prefer: Option<NodeId>,
    /// Which file holds the checkpoint.
    pub checkpoint: Option<Version>,
}

/// The record as the program reads it.
#[derive(Deserialize)]
struct Stored {
    format: u32,
    election: ElectionName,
    boot: String,
    time_namespace: u64,
    prefer: Option<NodeId>,
    checkpoint: Option<Version>,
    register: Register,
}

/// The record as it is written: what the program reads, and before that the same
/// in words for people.
#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    election: &'a ElectionName,
    leader: Option<&'a NodeId>,
    url: Option<&'a str>,
    epoch: Option<u64>,
    session: Option<&'a str>,
    since: Option<String>,
    ttl_ms: Option<u64>,
    lease_ends: Option<String>,
    lease_ends_boottime_ms: Option<u64>,
    released: bool,
    no_grant_before: Option<String>,
    prefer: Option<&'a NodeId>,
    written: String,
    boot: &'a str,
    time_namespace: u64,
    checkpoint: Option<Version>,
    register: &'a Register,
}

impl Record {
    /// The record as pretty JSON, written at `present`.
    pub(super) fn to_json(
        &self,
        election: &ElectionName,
        place: &Place,
        present: Present<'_>,
    ) -> Result<Vec<u8>, StoreError> {
        // Wall-clock times are for people: they say what boottime meant when the
        // record was written, and are never read back.
        let on_the_wall = |boottime_ms: u64| {
            let ahead = boottime_ms.saturating_sub(present.lease_ms);
            present.wall.after(Duration::from_millis(ahead)).to_string()
        };
        let leader = self.register.leader.as_ref();
        let state = self.register.state.as_ref();
        let tenure = leader.and(state);
        let profile = tenure.and_then(|state| state.profile.as_ref());
        let hold = state.map_or(0, |state| state.hold_until_ms);
        let written = Written {
            format: FORMAT,
            election,
            leader: profile.map(|profile| &profile.node),
            url: profile.and_then(|profile| profile.url.as_deref()),
            epoch: self.register.epoch().map(|epoch| epoch.get()),
            session: leader.map(|leader| leader.session.as_str()),
            since: tenure.map(|state| state.acquired.to_string()),
            ttl_ms: tenure.map(|state| state.ttl_ms),
            lease_ends: leader.map(|leader| on_the_wall(leader.expires_ms)),
            lease_ends_boottime_ms: leader.map(|leader| leader.expires_ms),
            released: state.is_some_and(|state| state.ended),
            no_grant_before: (hold > present.lease_ms).then(|| on_the_wall(hold)),
            prefer: self.prefer.as_ref(),
            written: present.wall.to_string(),
            boot: &place.boot,
            time_namespace: place.time_namespace,
            checkpoint: self.checkpoint,
            register: &self.register,
        };
        let mut json = serde_json::to_vec_pretty(&written)
            .map_err(|error| StoreError::Rejected(format!("the record is no JSON: {error}")))?;
        json.push(b'\n');
        Ok(json)
    }
}

/// Why a record file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// What is wrong with its bytes.
    Damaged(String),
    /// It is whole, and its times mean nothing here.
    ForeignClock(u64),
}

/// A record that was read, and whether this boot wrote it.
#[derive(Debug)]
pub(super) struct Parsed {
    pub record: Record,
    pub this_boot: bool,
}

/// Reads a record's bytes as they mean at `place`.
pub(super) fn parse(
    json: &[u8],
    election: &ElectionName,
    place: &Place,
) -> Result<Parsed, Unusable> {
    let damaged = |text: String| Unusable::Damaged(text);
    if json.is_empty() {
        return Err(damaged("it is empty".to_owned()));
    }
    let stored: Stored =
        serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
    if stored.format != FORMAT {
        let format = stored.format;
        return Err(damaged(format!(
            "its format is {format}, and this version of Tenure reads format {FORMAT} only"
        )));
    }
    if stored.election != *election {
        let of = stored.election;
        return Err(damaged(format!("it is the record of election \"{of}\"")));
    }
    let this_boot = stored.boot == place.boot;
    if this_boot && stored.time_namespace != place.time_namespace {
        return Err(Unusable::ForeignClock(stored.time_namespace));
    }
    let mut record = Record {
        register: stored.register,
        prefer: stored.prefer,
        checkpoint: stored.checkpoint,
    };
    if !this_boot {
        forget_the_other_boot(&mut record.register, place);
    }
    Ok(Parsed { record, this_boot })
}

/// No process outlives its boot, so no lease and no hold does; its boottime is of
/// another origin. Epoch and checkpoint stay. To the register this is a tenure that
/// ended in order: nothing vanished, and the server is this one.
fn forget_the_other_boot(register: &mut Register, place: &Place) {
    register.leader = None;
    if let Some(state) = &mut register.state {
        state.ended = true;
        state.expires_ms = 0;
        state.hold_until_ms = 0;
        place.boot.clone_into(&mut state.server);
    }
}

/// A checkpoint as a file's bytes: `tenure-checkpoint 1 EPOCH.SEQ LENGTH`, a line
/// feed, and the value as it is.
pub(super) fn checkpoint_bytes(revision: Revision, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut bytes = format!("{CHECKPOINT_WORD} {FORMAT} {revision} {length}\n").into_bytes();
    bytes.extend_from_slice(value);
    bytes
}

/// Reads a checkpoint file's bytes.
pub(super) fn parse_checkpoint(path: &Path, bytes: &[u8]) -> Result<Checkpoint, StoreError> {
    let wrong = |what: &str| {
        let path = path.display();
        StoreError::Corrupt(format!(
            "the checkpoint file {path}: {what}. Move this file away: the election then says that \
             its checkpoint is lost, and the next write starts from nothing"
        ))
    };
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, value) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => return Err(wrong("its first line is not whole")),
    };
    let line = std::str::from_utf8(line).map_err(|_| wrong("its first line is no text"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let [word, format, revision, length] = words[..] else {
        return Err(wrong("its first line has not four words"));
    };
    if word != CHECKPOINT_WORD || format != FORMAT.to_string() {
        return Err(wrong("its first line names another format"));
    }
    let revision = revision
        .parse()
        .map_err(|_| wrong("its revision is no EPOCH.SEQ"))?;
    if length != value.len().to_string() {
        return Err(wrong("its value is not as long as its first line says"));
    }
    Ok(Checkpoint {
        revision,
        bytes: value.to_vec(),
    })
}
