//! A Unix socket's file: made where nobody listens, removed at the end.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::umask;

/// Everybody but the owner and the group is kept out.
const KEPT_OUT: Mode = Mode::from_raw_mode(0o117);

/// The file of a socket that this process listens on. Dropping it removes the file.
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Listens at `path`. What an earlier process left there is removed; a socket on
    /// which somebody answers, or a file that is no socket, never is.
    ///
    /// # Errors
    /// `AddrInUse` where somebody listens there.
    pub fn listen(path: &Path) -> io::Result<(UnixListener, Self)> {
        make_way(path)?;
        // The umask is the process's. No other thread makes a file yet: the election
        // and the API start later. Set afterwards, the mode would come a moment late.
        let before = umask(KEPT_OUT);
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound?;
        let made = fs::symlink_metadata(path)?;
        let file = Self {
            path: path.to_owned(),
            device: made.dev(),
            inode: made.ino(),
        };
        Ok((listener, file))
    }

    fn is_own(&self, found: &Metadata) -> bool {
        found.dev() == self.device && found.ino() == self.inode
    }
}

impl Drop for SocketFile {
    /// A file that another process has put there meanwhile stays.
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| self.is_own(&found)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who is behind a path.
enum Behind {
    Nothing,
    /// A socket that its process has left.
    Nobody,
    Somebody,
}

fn behind(path: &Path) -> io::Result<Behind> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Behind::Nothing),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let text = "there is something that is no socket; remove it or take another path";
            return Err(io::Error::other(text));
        }
        Ok(_) => {}
    }
    // Not std's connect: it would wait for a listener that is stopped.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Ok(Behind::Somebody),
        Err(Errno::CONNREFUSED) => Ok(Behind::Nobody),
        Err(Errno::NOENT) => Ok(Behind::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// Removes a socket that nobody listens on. It is put aside first and asked once more:
/// between the first question and the removal another process may have begun to
/// listen under that name, and its socket is put back.
fn make_way(path: &Path) -> io::Result<()> {
    match behind(path)? {
        Behind::Nothing => return Ok(()),
        Behind::Somebody => return Err(ErrorKind::AddrInUse.into()),
        Behind::Nobody => {}
    }
    let aside = path.with_file_name(format!(".{}", std::process::id()));
    match fs::rename(path, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    if let Ok(Behind::Nobody) = behind(&aside) {
        return fs::remove_file(&aside);
    }
    renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)?;
    Err(ErrorKind::AddrInUse.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_a_socket_that_nobody_answers_on_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s");
        let (listener, file) = SocketFile::listen(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let taken = SocketFile::listen(&path).err().unwrap();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        // Its process dies: the file stays behind.
        drop(listener);
        std::mem::forget(file);
        let (_listener, second) = SocketFile::listen(&path).unwrap();
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(SocketFile::listen(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_ones_file_is_not_removed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s");
        let (_listener, file) = SocketFile::listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(other);
    }
}
