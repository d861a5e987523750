//! The disk of a member: `peer.json` in its state directory.
//!
//! What a member has promised lies on one disk. A disk that was wiped, or another
//! node's, has promised nothing; so each disk has an id, drawn once, and peers notice
//! when it changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::MemberId;
use crate::durable;

/// A disk: 128 random bits, as 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskId(String);

impl DiskId {
    /// One that no other disk has.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(bytes))))
    }

    /// Enough of it to tell it from another in a message.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.chars().take(8).collect()
    }
}

/// What a member is bound to, and which start of it this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The member.
    pub member: MemberId,
    /// Its disk.
    pub disk: DiskId,
    /// Counts the starts on that disk, from 1; on disk before the node speaks.
    pub incarnation: u64,
}

/// What may happen where there is no `peer.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is made: the first start of this member, which an operator asked for.
    Create,
    /// It is an error: a disk that was lost must not pass for a new member.
    Refuse,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
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
    /// No random bytes.
    #[error("the system gives no random bytes for the id of a disk: {0}")]
    Random(#[from] getrandom::Error),
    /// There is none.
    #[error(
        "{} is missing: this member has never started on this disk, or the disk was wiped; ask \
         for the first start explicitly, or restore the directory", .0.display()
    )]
    Missing(PathBuf),
    /// It was damaged.
    #[error(
        "{} is damaged ({reason}): the member does not take part on a disk that it cannot trust; \
         restore the file, or wipe the whole directory and join anew", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another member's.
    #[error(
        "{} belongs to {theirs}, not to {ours}: give each member its own --state-dir",
        path.display()
    )]
    OfAnother {
        /// The file.
        path: PathBuf,
        /// Whose it is: the member and its cluster.
        theirs: String,
        /// Who asked: the same.
        ours: String,
    },
}

/// As it is on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    cluster: String,
    member: MemberId,
    disk: String,
    incarnation: u64,
    /// Over all the rest: JSON with a flipped bit is often still JSON.
    check: String,
}

impl Stored {
    fn of(identity: &Identity) -> Self {
        Self {
            cluster: identity.cluster.clone(),
            member: identity.member,
            disk: identity.disk.0.clone(),
            incarnation: identity.incarnation,
            check: check(identity),
        }
    }
}

fn check(identity: &Identity) -> String {
    let Identity {
        cluster,
        member,
        disk,
        incarnation,
    } = identity;
    let all = format!("{cluster:?} {member} {} {incarnation}", disk.0);
    let hash = Sha256::digest(all.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { verb, path, source }
}

impl From<durable::Refused> for IdentityError {
    fn from(refused: durable::Refused) -> Self {
        let durable::Refused { verb, path, source } = refused;
        Self::Io { verb, path, source }
    }
}

impl Identity {
    /// Opens the identity of `member` in `dir` for another start, which is on disk when
    /// this returns. The caller holds the directory for itself alone.
    ///
    /// # Errors
    /// Where it is missing and must not be made, damaged, another's, or the disk refuses.
    pub fn open(
        dir: &Path,
        cluster: &str,
        member: MemberId,
        missing: Missing,
    ) -> Result<Self, IdentityError> {
        let path = dir.join("peer.json");
        let mut identity = match fs::read(&path) {
            Ok(bytes) => understood(&bytes, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match missing {
                Missing::Refuse => return Err(IdentityError::Missing(path)),
                Missing::Create => Self {
                    cluster: cluster.to_owned(),
                    member,
                    disk: DiskId::random()?,
                    incarnation: 0,
                },
            },
            Err(error) => return Err(failed("read", &path)(error)),
        };
        if identity.cluster != cluster || identity.member != member {
            let named = |member: MemberId, cluster: &str| {
                format!("member {member} of the cluster {cluster:?}")
            };
            return Err(IdentityError::OfAnother {
                path,
                theirs: named(identity.member, &identity.cluster),
                ours: named(member, cluster),
            });
        }
        identity.incarnation = identity.incarnation.saturating_add(1);
        write_durably(dir, &path, &identity)?;
        Ok(identity)
    }
}

fn understood(bytes: &[u8], path: &Path) -> Result<Identity, IdentityError> {
    let corrupt = |reason: String| IdentityError::Corrupt {
        path: path.to_owned(),
        reason,
    };
    let stored: Stored =
        serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
    let identity = Identity {
        cluster: stored.cluster,
        member: stored.member,
        disk: DiskId(stored.disk),
        incarnation: stored.incarnation,
    };
    if check(&identity) != stored.check {
        return Err(corrupt("its checksum does not match".to_owned()));
    }
    Ok(identity)
}

fn write_durably(dir: &Path, path: &Path, identity: &Identity) -> Result<(), IdentityError> {
    fs::create_dir_all(dir).map_err(failed("make", dir))?;
    let text = serde_json::to_vec(&Stored::of(identity))
        .map_err(|error| failed("write", path)(io::Error::other(error)))?;
    Ok(durable::replace(path, &text)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn open(dir: &Path, member: &str, missing: Missing) -> Result<Identity, IdentityError> {
        Identity::open(dir, "orders", member.parse().unwrap(), missing)
    }

    #[test]
    fn a_disk_keeps_its_id_and_counts_its_starts() {
        let home = tempfile::tempdir().unwrap();
        let none = open(home.path(), "a", Missing::Refuse).unwrap_err();
        assert!(matches!(none, IdentityError::Missing(_)), "{none}");
        let first = open(home.path(), "a", Missing::Create).unwrap();
        let second = open(home.path(), "a", Missing::Refuse).unwrap();
        assert_eq!(first.disk, second.disk);
        assert_eq!((first.incarnation, second.incarnation), (1, 2));
        let other = open(home.path(), "b", Missing::Create)
            .unwrap_err()
            .to_string();
        assert!(other.contains("belongs to member a"), "{other}");
    }

    #[test]
    fn no_damage_passes_for_an_identity_or_makes_a_new_one() {
        let home = tempfile::tempdir().unwrap();
        open(home.path(), "a", Missing::Create).unwrap();
        let path = home.path().join("peer.json");
        let good = fs::read(&path).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
        for at in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            damaged.push(flipped);
        }
        for bytes in damaged {
            fs::write(&path, &bytes).unwrap();
            let error = open(home.path(), "a", Missing::Create).unwrap_err();
            assert!(matches!(error, IdentityError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("peer.json"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "left as it was");
        }
    }
}
