//! The directory: where it is, whether leases can rest on it, and which names its
//! files have.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::head::Folder;
use super::record::Place;
use crate::lease::ElectionName;
use crate::time::UnixMs;

/// A scratch file this old was left by a process that was killed: they live for
/// microseconds. Removing one that is in use after all costs its owner a retry.
const ABANDONED_AFTER_MS: u64 = 10 * 60 * 1000;
const SCRATCH: &str = "tmp";

/// Why a directory cannot hold leases.
#[derive(Debug, thiserror::Error)]
pub enum FileStoreError {
    /// It cannot be made.
    #[error("cannot make the directory {path}: {source}; make it, or choose another one")]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{path} is not a directory; choose another path, or move it away")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Nothing can be written there.
    #[error(
        "cannot write to the directory {path}: {source}; give this user the right to write there, \
         or choose another directory"
    )]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other machines may write there, by clocks that this one cannot read.
    #[error(
        "{path} is on a network or shared file system ({kind}): a file store serves one machine; \
         choose a directory on a local disk, or a store that is made for several machines"
    )]
    Network {
        /// The directory.
        path: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// The kernel does not say which boot this is.
    #[error(
        "cannot read {path}: {source}; leases in files need /proc to tell one boot from another"
    )]
    Proc {
        /// The file of /proc.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where the file store is unless somebody says otherwise: `$XDG_STATE_HOME/tenure`,
/// else `~/.local/state/tenure`, else `/var/lib/tenure`.
#[must_use]
pub fn default_directory() -> PathBuf {
    directory_for(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))
}

/// The same for these values of `XDG_STATE_HOME` and `HOME`. A path that is not
/// absolute counts as none (XDG Base Directory Specification 0.8).
#[must_use]
pub fn directory_for(state_home: Option<OsString>, home: Option<OsString>) -> PathBuf {
    let absolute =
        |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(state_home)
        .or_else(|| absolute(home).map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("tenure")
}

/// A directory that was found fit.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory where it is missing, and checks it.
    pub(super) fn open(path: &Path, wall: UnixMs) -> Result<Self, FileStoreError> {
        let path = path.to_owned();
        match fs::create_dir_all(&path) {
            Ok(()) => {}
            Err(_) if path.exists() && !path.is_dir() => {
                return Err(FileStoreError::NotADirectory { path });
            }
            Err(source) => return Err(FileStoreError::Create { path, source }),
        }
        if let Some(kind) = network_kind(&path) {
            return Err(FileStoreError::Network { path, kind });
        }
        let directory = Self { path };
        if let Err(source) = directory.probe() {
            let path = directory.path;
            return Err(FileStoreError::NotWritable { path, source });
        }
        directory.tidy(wall);
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of an election. Every name in the directory is an election's name
    /// and one suffix without a dot inside, so that two elections never share one:
    /// what follows the last dot tells the kind, what precedes it the election.
    pub(super) fn folder(&self, election: &ElectionName) -> Folder {
        Folder::new(self.path.join(format!("{election}.d")))
    }

    /// The record that people read.
    pub(super) fn shown(&self, election: &ElectionName) -> PathBuf {
        self.path.join(shown_name(election))
    }

    /// A path that nobody else uses: `unique` never comes twice.
    pub(super) fn scratch(&self, unique: &str) -> PathBuf {
        self.path.join(format!("{unique}.{SCRATCH}"))
    }

    fn probe(&self) -> io::Result<()> {
        let path = self.scratch(&format!("probe-{}", std::process::id()));
        File::create(&path)?;
        fs::remove_file(&path).or_else(|error| match error.kind() {
            // Another store of this process probed the same name.
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
    }

    /// Removes what killed processes left. Failing at it harms nobody.
    fn tidy(&self, wall: UnixMs) {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let scratch = path.extension().is_some_and(|suffix| suffix == SCRATCH);
            let Ok(about) = entry.metadata() else {
                continue;
            };
            let changed_ms = u64::try_from(about.ctime())
                .unwrap_or(0)
                .saturating_mul(1000);
            if scratch && changed_ms.saturating_add(ABANDONED_AFTER_MS) < wall.0 {
                let _ = if about.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
            }
        }
    }
}

/// The file name of the record that people read.
pub(super) fn shown_name(election: &ElectionName) -> String {
    format!("{election}.json")
}

/// Which boot and which time namespace this process runs in.
pub(super) fn place() -> Result<Place, FileStoreError> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    let boot = match fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(source) => return Err(FileStoreError::Proc { path, source }),
    };
    let path = PathBuf::from("/proc/self/ns/time");
    let time_namespace = match fs::metadata(&path) {
        Ok(about) => about.ino(),
        // Linux before 5.6 has one time for all.
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(source) => return Err(FileStoreError::Proc { path, source }),
    };
    Ok(Place {
        boot,
        time_namespace,
    })
}

/// The network or shared file system that a path is on, by statfs(2)'s `f_type`.
fn network_kind(path: &Path) -> Option<&'static str> {
    let about = rustix::fs::statfs(path).ok()?;
    // The type is signed or not by architecture; the numbers have 32 bits.
    #[allow(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        clippy::unnecessary_cast
    )]
    let magic = about.f_type as u64 as u32;
    network_magic(magic)
}

/// The numbers are those of Linux's `include/uapi/linux/magic.h`, statfs(2), and,
/// for file systems outside the kernel, of coreutils' `src/stat.c`. Overlay, tmpfs,
/// ext, xfs, btrfs, zfs and whatever is not named here pass.
fn network_magic(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "NFS",
        0x0000_517B => "SMB",
        0xFE53_4D42 => "SMB2",
        0xFF53_4D42 => "CIFS",
        0x0102_1997 => "9p",
        // sshfs, GlusterFS, virtiofs, s3fs: FUSE does not tell which.
        0x6573_5546 => "FUSE",
        0x00C3_6400 => "Ceph",
        0x5346_414F => "AFS",
        0x6B41_4653 => "kAFS",
        0x7375_7245 => "Coda",
        0x0000_564C => "NCP",
        0x7461_636F => "OCFS2",
        0x0116_1970 => "GFS2",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0xAAD7_AAEA => "PanFS",
        0x1983_0326 => "BeeGFS",
        0x2003_0528 => "OrangeFS",
        0xBACB_ACBC => "VMware shared folders",
        0x786F_4256 => "VirtualBox shared folders",
        0x7C7C_6013 => "Parallels shared folders",
        0x6163_6673 => "ACFS",
        0xBEEF_DEAD => "SNFS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_file_systems_pass_and_network_ones_do_not() {
        // tmpfs, overlayfs, ext2-4, xfs, btrfs, zfs, f2fs
        for local in [
            0x0102_1994,
            0x794C_7630,
            0xEF53,
            0x5846_5342,
            0x9123_683E,
            0x2FC1_2FC1,
            0xF2F5_2010,
        ] {
            assert_eq!(network_magic(local), None, "{local:#x} was refused");
        }
        assert_eq!(network_magic(0x6969), Some("NFS"));
        assert_eq!(network_magic(0xFF53_4D42), Some("CIFS"));
    }

    #[test]
    fn the_default_directory_follows_the_xdg_specification() {
        let of = |state: Option<&str>, home: Option<&str>| {
            directory_for(state.map(OsString::from), home.map(OsString::from))
        };
        assert_eq!(of(Some("/s"), Some("/h")), Path::new("/s/tenure"));
        assert_eq!(
            of(Some("s"), Some("/h")),
            Path::new("/h/.local/state/tenure")
        );
        assert_eq!(of(Some(""), None), Path::new("/var/lib/tenure"));
    }
}
