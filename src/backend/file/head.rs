//! The head: one empty file per election whose *name* says which record is in
//! force. Renaming it is the one step by which a record changes.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease::StoreError;

/// Scans of a folder before it is believed that it has no head, or two. A scan
/// that meets a rename may see neither name of the head, or both.
const SCANS: u32 = 40;
const BETWEEN_SCANS: Duration = Duration::from_millis(1);
const HEAD: &str = "head.";

/// One written record, `NUMBER-SALT`. The number rises by one with each commit;
/// 64 random bits make the name one that never comes again, not even in a folder
/// that was wiped or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Version {
    pub number: u64,
    salt: u64,
}

impl Version {
    fn numbered(number: u64) -> Result<Self, StoreError> {
        let mut salt = [0u8; 8];
        getrandom::fill(&mut salt).map_err(|error| {
            StoreError::Unavailable(format!("the system gives no random bytes: {error}"))
        })?;
        Ok(Self {
            number,
            salt: u64::from_be_bytes(salt),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.number, self.salt)
    }
}

impl FromStr for Version {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no version: NUMBER-SALT was expected");
        let (number, salt) = text.split_once('-').ok_or_else(wrong)?;
        let version = Self {
            number: number.parse().map_err(|_| wrong())?,
            salt: u64::from_str_radix(salt, 16).map_err(|_| wrong())?,
        };
        // One name, one version: "+1-A" would be another name of "1-…a".
        if version.to_string() == text {
            Ok(version)
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<String> for Version {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// What the head's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The record in force; number 0 where none was written yet.
    pub current: Version,
    /// The newest record known to be on the disk, not only in the page cache.
    pub safe: Version,
}

impl Head {
    /// The head of a folder without a record.
    pub(super) fn first() -> Result<Self, StoreError> {
        let none = Version::numbered(0)?;
        Ok(Self {
            current: none,
            safe: none,
        })
    }

    fn parse(name: &str) -> Option<Self> {
        let (current, safe) = name.strip_prefix(HEAD)?.split_once('.')?;
        Some(Self {
            current: current.parse().ok()?,
            safe: safe.parse().ok()?,
        })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}{}.{}", self.current, self.safe)
    }
}

/// Whether a record must be on the disk before its answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// It must: it carries a new epoch or a checkpoint.
    Disk,
    /// It may be lost with the machine's power, which ends every lease anyway.
    PageCache,
}

/// The folder of one election.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// A record, and maybe a checkpoint, written but not in force.
#[derive(Debug)]
pub(super) struct Prepared {
    base: Head,
    pub version: Version,
    has_checkpoint: bool,
    durability: Durability,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// The record is in force, under this head.
    Yes(Head),
    /// Another record was in force by then; nothing changed.
    Overtaken,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn record_path(&self, version: Version) -> PathBuf {
        self.path.join(format!("{version}.json"))
    }

    pub(super) fn checkpoint_path(&self, version: Version) -> PathBuf {
        self.path.join(format!("{version}.checkpoint"))
    }

    fn head_path(&self, head: &Head) -> PathBuf {
        self.path.join(head.to_string())
    }

    /// Whether this head is still the one. A head that is gone never comes back.
    pub(super) fn is_head(&self, head: &Head) -> io::Result<bool> {
        self.head_path(head).try_exists()
    }

    /// The head; `None` where the folder is missing or empty.
    pub(super) fn head(&self) -> Result<Option<Head>, StoreError> {
        let mut found = Vec::new();
        for scan in 0..SCANS {
            if scan > 0 {
                std::thread::sleep(BETWEEN_SCANS);
            }
            let names = match names_in(&self.path) {
                Ok(names) => names,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(refused("cannot list", &self.path, &error)),
            };
            found = names.iter().filter_map(|name| Head::parse(name)).collect();
            match found[..] {
                [head] => return Ok(Some(head)),
                [] if names.is_empty() => return Ok(None),
                _ => {}
            }
        }
        let folder = self.path.display();
        let what = match found[..] {
            [] => "has records but no file head.*".to_owned(),
            [first, second, ..] => format!(
                "has more than one head ({first} and {second}), as when an older copy is put over \
                 it without emptying it first"
            ),
            [_] => "changes faster than it can be read".to_owned(),
        };
        Err(StoreError::Corrupt(format!(
            "{folder} {what}. Stop the election's nodes and either restore the folder as a whole \
             or move it away: the election then starts anew, without its checkpoint"
        )))
    }

    /// Makes the folder with its first head, in one step, unless it is there.
    /// `scratch` is a path beside it that nobody else uses.
    pub(super) fn create(&self, first: &Head, scratch: &Path) -> Result<(), StoreError> {
        let made = self.try_create(first, scratch);
        if made.is_err() {
            // Somebody else may have been first, which leaves a scratch folder.
            let _ = fs::remove_dir_all(scratch);
        }
        match made {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(refused("cannot make", &self.path, &error)),
            Ok(()) => Ok(()),
        }
    }

    fn try_create(&self, first: &Head, scratch: &Path) -> io::Result<()> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)?;
        fs::create_dir(scratch)?;
        File::create_new(scratch.join(first.to_string()))?;
        sync_folder(scratch)?;
        // Onto a folder that is not empty this fails, and onto an empty one, as
        // `rm E.d/*` leaves it, it does not.
        fs::rename(scratch, &self.path)?;
        sync_folder(parent)
    }

    /// The version that a record prepared on `base` would be.
    pub(super) fn next_version(base: &Head) -> Result<Version, StoreError> {
        Version::numbered(base.current.number.saturating_add(1))
    }

    /// Writes the files of the next record; none of them is in force.
    pub(super) fn prepare(
        &self,
        base: Head,
        version: Version,
        record: &[u8],
        checkpoint: Option<&[u8]>,
        durability: Durability,
    ) -> Result<Prepared, StoreError> {
        let prepared = Prepared {
            base,
            version,
            has_checkpoint: checkpoint.is_some(),
            durability,
        };
        let value = checkpoint.map(|bytes| (self.checkpoint_path(version), bytes));
        let files = value
            .into_iter()
            .chain([(self.record_path(version), record)]);
        for (path, bytes) in files {
            if let Err(error) = write_new(&path, bytes, durability) {
                self.discard(&prepared);
                // The whole folder may have been moved away a moment ago.
                return Err(refused("cannot write", &path, &error));
            }
        }
        Ok(prepared)
    }

    /// Takes back what was prepared.
    pub(super) fn discard(&self, prepared: &Prepared) {
        // A file that stays is removed by the next commit.
        let _ = fs::remove_file(self.record_path(prepared.version));
        if prepared.has_checkpoint {
            let _ = fs::remove_file(self.checkpoint_path(prepared.version));
        }
    }

    /// Puts the prepared record in force, if the one it was decided on still is.
    pub(super) fn commit(&self, prepared: &Prepared) -> Result<Committed, StoreError> {
        let current = prepared.version;
        let safe = match prepared.durability {
            Durability::Disk => current,
            Durability::PageCache => prepared.base.safe,
        };
        let next = Head { current, safe };
        let from = self.head_path(&prepared.base);
        let Err(error) = fs::rename(from, self.head_path(&next)) else {
            return Ok(Committed::Yes(next));
        };
        if error.kind() == ErrorKind::NotFound {
            self.discard(prepared);
            return Ok(Committed::Overtaken);
        }
        let error = refused("cannot rename the head in", &self.path, &error);
        if matches!(error, StoreError::Rejected(_)) {
            self.discard(prepared);
            return Err(error);
        }
        // After an input/output error nobody knows; the files must stay.
        Err(StoreError::Indeterminate(error.to_string()))
    }

    /// Waits until the head's present name is on the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_folder(&self.path).map_err(|error| {
            let path = self.path.display();
            StoreError::Indeterminate(format!("cannot bring {path} to the disk: {error}"))
        })
    }

    /// Removes what is out of force, after `head` was committed with `checkpoint`.
    ///
    /// Whatever is numbered above `head` may be about to be committed and stays. A
    /// file that is not, and that `head` does not name, can never come in force:
    /// its head is gone. The names are read before `head` is seen to stand, so that
    /// a process that slept here finds nothing of a folder made anew.
    pub(super) fn tidy(&self, head: &Head, checkpoint: Option<Version>) {
        let Ok(names) = names_in(&self.path) else {
            return;
        };
        if !self.is_head(head).unwrap_or(false) {
            return;
        }
        for name in names {
            let dead = match name.rsplit_once('.') {
                Some((version, "json")) => version
                    .parse()
                    .is_ok_and(|version| head.outlives(version, None)),
                Some((version, "checkpoint")) => version
                    .parse()
                    .is_ok_and(|version| head.outlives(version, checkpoint)),
                _ => false,
            };
            if dead {
                let _ = fs::remove_file(self.path.join(name));
            }
        }
    }
}

impl Head {
    fn outlives(&self, file: Version, checkpoint: Option<Version>) -> bool {
        let named = [Some(self.current), Some(self.safe), checkpoint].contains(&Some(file));
        file.number <= self.current.number && !named
    }
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        // A name that is no UTF-8 is not one of ours, but the folder is not empty.
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Writes a file that is not there yet.
pub(super) fn write_new(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    match durability {
        Durability::Disk => file.sync_all(),
        Durability::PageCache => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// An error of a step that changed nothing.
pub(super) fn refused(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let path = path.display();
    let (stays, mend): (bool, &str) = match error.kind() {
        ErrorKind::StorageFull => (true, "; free some space"),
        ErrorKind::QuotaExceeded => (true, "; raise the quota or free some space"),
        ErrorKind::ReadOnlyFilesystem => (true, "; mount it writable or choose another directory"),
        ErrorKind::PermissionDenied => (true, "; give this user the right to write there"),
        ErrorKind::NotADirectory => (true, "; choose a path that is a directory"),
        _ => (false, ""),
    };
    let text = format!("{what} {path}: {error}{mend}");
    if stays {
        StoreError::Rejected(text)
    } else {
        StoreError::Unavailable(text)
    }
}
