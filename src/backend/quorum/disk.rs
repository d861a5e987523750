//! What a member must not forget, on its disk.
//!
//! | in `STATE-DIR/quorum` | what it is |
//! |---|---|
//! | `peer.json` | which member this is, the disk's id, and how often it was started |
//! | `disk.json` | whether the disk was there when the cluster began, its elections, and the list of members |
//! | `elections/E.json` | the record of election `E` |
//! | `lock` | held by the process that uses the directory |
//!
//! Each is replaced as a whole and fsynced. The last two kinds begin with the SHA-256 of
//! what follows the first line: JSON with a flipped bit is often still JSON. A file that
//! does not match, or one that should be there and is not, is never taken for a blank one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::list::{List, ListRefused, MemberIds};
use crate::durable;
use crate::lease::ElectionName;
use crate::memory::{MemoryError, StateDir};
use crate::peers::{DiskId, Identity, IdentityError, MemberId, Missing};
use crate::quorum::{Record, Start};

/// Why a member cannot rest on its disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] MemoryError),
    /// Who this member is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file or directory.
    #[error("cannot {verb} {}: {source}; check the path, its owner and free space", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something is there that cannot be trusted.
    #[error(
        "{} {reason}: this member has promised the others what it says, and votes on no guess. Restore \
         exactly what this disk held last; or remove {} as a whole and start without --bootstrap: \
         the member then comes back as one with a blank disk", path.display(), whole.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to remove.
        whole: PathBuf,
    },
    /// It belongs to other members.
    #[error("{}: {refused}", path.display())]
    List {
        /// The file that holds the list.
        path: PathBuf,
        /// Why the new one is none for it.
        refused: ListRefused,
    },
}

impl From<durable::Refused> for DiskError {
    fn from(refused: durable::Refused) -> Self {
        let durable::Refused { verb, path, source } = refused;
        Self::Io { verb, path, source }
    }
}

/// What the disk knows of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    disk: DiskId,
    /// It was there when the cluster began, so what it has no record of, it never granted.
    founding: bool,
    elections: BTreeSet<ElectionName>,
    /// `None`: it was last used by a version that kept none.
    #[serde(default)]
    list: Option<List>,
}

/// A record with what it belongs to: a file in a wrong place is no record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<R> {
    disk: DiskId,
    election: ElectionName,
    record: R,
}

/// The disk of one member.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    identity: Identity,
    /// Elections without a record are new, on the operator's word or by the disk's age.
    whole: bool,
    catalogue: Mutex<Catalogue>,
    /// Elections whose first record is on disk, and which the catalogue does not list yet.
    unlisted: Mutex<BTreeSet<ElectionName>>,
    _lock: StateDir,
}

/// Whose disk it is.
#[derive(Clone, Debug)]
pub(super) struct Owner<'a> {
    pub cluster: &'a str,
    pub member: MemberId,
    /// All members, this one among them.
    pub members: MemberIds,
    /// `--bootstrap`.
    pub bootstrap: bool,
}

impl Disk {
    /// Opens the disk for another start, and reads all its records.
    pub fn open(
        state_dir: &Path,
        owner: &Owner<'_>,
    ) -> Result<(Self, BTreeMap<ElectionName, Record>), DiskError> {
        let dir = state_dir.join("quorum");
        let lock = StateDir::open(&dir)?;
        let folder = dir.join("elections");
        fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        let damaged = |path: &Path, reason: &str| DiskError::Damaged {
            path: path.to_owned(),
            reason: reason.to_owned(),
            whole: dir.clone(),
        };
        let (peer, catalogue) = (dir.join("peer.json"), dir.join("disk.json"));
        let before = Catalogue::read(&catalogue, &dir)?;
        let files = record_files(&folder)?;
        if !peer.exists() && (before.is_some() || !files.is_empty()) {
            return Err(damaged(&peer, "is missing beside what it belongs to"));
        }
        let identity = Identity::open(&dir, owner.cluster, owner.member, Missing::Create)?;
        let catalogue = match before {
            Some(before) if before.disk == identity.disk => before,
            Some(_) => return Err(damaged(&catalogue, "belongs to another disk")),
            None if !files.is_empty() => {
                return Err(damaged(&catalogue, "is missing beside its records"));
            }
            // Only the first start of a disk can be the cluster's: later it may have lost
            // what it promised.
            None => Catalogue {
                disk: identity.disk.clone(),
                founding: owner.bootstrap && identity.incarnation == 1,
                elections: BTreeSet::new(),
                list: None,
            },
        };
        let disk = Self {
            whole: catalogue.founding || (owner.bootstrap && identity.incarnation > 1),
            catalogue: Mutex::new(catalogue),
            unlisted: Mutex::default(),
            identity,
            dir,
            _lock: lock,
        };
        let records = disk.read_all(&files)?;
        disk.accept(&owner.members, &records)?;
        Ok((disk, records))
    }

    /// Takes the list of this start for that of the disk, before anything is said among its
    /// members.
    fn accept(
        &self,
        given: &MemberIds,
        records: &BTreeMap<ElectionName, Record>,
    ) -> Result<(), DiskError> {
        let mut catalogue = self.catalogue();
        let list = match catalogue.list.clone() {
            Some(list) => list.started_with(given, records),
            None => Ok(List::first(given.clone())),
        };
        let path = self.dir.join("disk.json");
        catalogue.list = Some(list.map_err(|refused| DiskError::List { path, refused })?);
        self.keep_catalogue(&catalogue)
    }

    /// Who this member is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// With what an election begins that has no record here.
    pub fn start(&self) -> Start {
        match self.whole {
            true => Start::Bootstrap,
            false => Start::Blank,
        }
    }

    /// Puts a record on disk. When this returns it is there.
    pub fn keep(&self, election: &ElectionName, record: &Record) -> Result<(), DiskError> {
        let kept = Kept {
            disk: self.identity.disk.clone(),
            election: election.clone(),
            record,
        };
        let path = self.path_of(election);
        durable::replace(&path, &sealed(&kept, &path)?)?;
        if self.catalogue().elections.contains(election) {
            return Ok(());
        }
        // After its record: what is listed and not there was lost.
        locked(&self.unlisted).insert(election.clone());
        self.list(election)
    }

    /// Whoever comes first lists those who wait behind it: of a hundred elections that begin
    /// at once, none waits for a hundred writes.
    fn list(&self, election: &ElectionName) -> Result<(), DiskError> {
        let mut catalogue = self.catalogue();
        if catalogue.elections.contains(election) {
            return Ok(());
        }
        let mut longer = catalogue.clone();
        longer
            .elections
            .extend(locked(&self.unlisted).iter().cloned());
        self.keep_catalogue(&longer)?;
        locked(&self.unlisted).retain(|name| !longer.elections.contains(name));
        *catalogue = longer;
        Ok(())
    }

    fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        locked(&self.catalogue)
    }

    fn keep_catalogue(&self, catalogue: &Catalogue) -> Result<(), DiskError> {
        let path = self.dir.join("disk.json");
        Ok(durable::replace(&path, &sealed(catalogue, &path)?)?)
    }

    fn path_of(&self, election: &ElectionName) -> PathBuf {
        self.dir.join("elections").join(format!("{election}.json"))
    }

    fn read_all(
        &self,
        files: &BTreeMap<PathBuf, Option<ElectionName>>,
    ) -> Result<BTreeMap<ElectionName, Record>, DiskError> {
        let damaged = |path: &Path, reason: &str| DiskError::Damaged {
            path: path.to_owned(),
            reason: reason.to_owned(),
            whole: self.dir.clone(),
        };
        let mut records = BTreeMap::new();
        for (path, election) in files {
            let kept: Option<Kept<Record>> = opened(path, &self.dir)?;
            let kept = kept.ok_or_else(|| damaged(path, "is gone"))?;
            if kept.disk != self.identity.disk || Some(&kept.election) != election.as_ref() {
                return Err(damaged(path, "is the record of another disk or election"));
            }
            records.insert(kept.election, kept.record);
        }
        for election in &self.catalogue().elections {
            if !records.contains_key(election) {
                return Err(damaged(&self.path_of(election), "is missing"));
            }
        }
        Ok(records)
    }
}

impl Catalogue {
    fn read(path: &Path, whole: &Path) -> Result<Option<Self>, DiskError> {
        opened(path, whole)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { verb, path, source }
}

/// The records that are there, and of which election each should be.
fn record_files(folder: &Path) -> Result<BTreeMap<PathBuf, Option<ElectionName>>, DiskError> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let path = entry.map_err(failed("read", folder))?.path();
        // What a power cut left of a replacement that was never named.
        if path.extension().is_some_and(|ending| ending == "json") {
            let name = path.file_stem().and_then(|name| name.to_str());
            let election = name.and_then(|name| name.parse().ok());
            files.insert(path, election);
        }
    }
    Ok(files)
}

fn digest(text: &[u8]) -> String {
    let hash = Sha256::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sealed(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, DiskError> {
    let text = serde_json::to_vec(value)
        .map_err(|error| failed("write", path)(io::Error::other(error)))?;
    let mut bytes = digest(&text).into_bytes();
    bytes.push(b'\n');
    bytes.extend(text);
    Ok(bytes)
}

/// `None` where there is no such file.
fn opened<T: DeserializeOwned>(path: &Path, whole: &Path) -> Result<Option<T>, DiskError> {
    let damaged = |reason: String| DiskError::Damaged {
        path: path.to_owned(),
        reason,
        whole: whole.to_owned(),
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (seal, text) = end
        .and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 1..)?)))
        .ok_or_else(|| damaged("is cut short".to_owned()))?;
    if digest(text).as_bytes() != seal {
        return Err(damaged("does not match its checksum".to_owned()));
    }
    let value = serde_json::from_slice(text);
    value
        .map(Some)
        .map_err(|error| damaged(format!("cannot be read ({error})")))
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
