//! Small files that must outlive a power cut.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What the disk refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What was tried.
    pub verb: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

fn refused(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Refused {
    let path = path.to_owned();
    move |source| Refused { verb, path, source }
}

/// Replaces a file. When this returns, the new one is on disk; after a power cut either the
/// old one or the new one is there, never half.
///
/// # Errors
/// Where the disk refused; either may be there then.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<(), Refused> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh).map_err(refused("write", &fresh))?;
    file.write_all(text).map_err(refused("write", &fresh))?;
    file.sync_all().map_err(refused("sync", &fresh))?;
    fs::rename(&fresh, path).map_err(refused("rename", &fresh))?;
    sync_dir_of(path)
}

/// Removes a file. What was made beside it before is on disk first, and when this returns,
/// the file is not.
///
/// # Errors
/// Where the disk refused; it may be there or not then.
#[cfg(feature = "raft")]
pub(crate) fn remove(path: &Path) -> Result<(), Refused> {
    sync_dir_of(path)?;
    fs::remove_file(path).map_err(refused("remove", path))?;
    sync_dir_of(path)
}

fn sync_dir_of(path: &Path) -> Result<(), Refused> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let opened = File::open(dir).map_err(refused("open", dir))?;
    opened.sync_all().map_err(refused("sync", dir))
}
