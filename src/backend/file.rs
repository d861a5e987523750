//! A directory on one machine: the store that is always there.
//!
//! # Files
//! For an election `E`, in the store's directory:
//!
//! | name | what it is |
//! |---|---|
//! | `E.json` | the record, for `cat`: a second name (a hard link) of the file in force |
//! | `E.d/head.CURRENT.SAFE` | empty; its name says which record is in force |
//! | `E.d/VERSION.json` | a record; a version is `NUMBER-SALT` and never comes twice |
//! | `E.d/VERSION.checkpoint` | one line `tenure-checkpoint 1 EPOCH.SEQ LENGTH`, then the value as it is |
//! | `*.tmp` | in the making for microseconds; removed at the next start if left behind |
//!
//! To begin an election anew, stop its nodes and remove `E.d`; a copy of `E.d` as a
//! whole is a backup.
//!
//! # Fields of the record
//! For people, and never read back: `leader` (node id; `null` where nobody held the
//! lease when the record was written), `url`, `epoch` (also called term or fencing
//! token), `session`, `since`, `ttl_ms`, `lease_ends` (RFC 3339, by the wall clock
//! of the writing), `lease_ends_boottime_ms`, `released`, `no_grant_before` (a hold
//! after lost data), `written`. Read by the program: `format`, `election`, `boot`
//! (`/proc/sys/kernel/random/boot_id`), `time_namespace` (inode of
//! `/proc/self/ns/time`), `prefer` (whom the last holder named), `checkpoint` (the
//! version whose file holds the value), `register` (the
//! [`Register`](crate::lease::register::Register); its `_ms` times of leases are
//! `CLOCK_BOOTTIME`).
//!
//! # Why two processes never both win
//! There is no lock, so a process that is stopped (SIGSTOP, a debugger, a frozen
//! container) blocks nobody, wherever it is stopped. Each change is a
//! compare-and-swap:
//!
//! 1. find the head, read the record that it names, read the clock, let the rules
//!    decide;
//! 2. write the new record under a new version; nobody looks at it yet;
//! 3. `rename(head.OLD…, head.NEW…)`.
//!
//! *One successor.* The head is one file, made together with its folder. rename(2)
//! looks its source up and moves it under the folder's inode lock, so of all who
//! decided on OLD one succeeds and the others get ENOENT, discard, and begin again.
//!
//! *No return.* A version carries 64 random bits: a head's name never recurs, even
//! after the folder was wiped or restored. So however long a process sleeps between
//! 1 and 3, its rename applies exactly if the record that it decided on is the one
//! in force; not one change came in between.
//!
//! *A late decision is still a right one.* Time alone may have passed between 1 and
//! 3. A grant and a renewal then end at *the time read in 1* + TTL, which is not
//! before what the caller counts from its own send, and not later than a decision
//! made at 3. A free lease cannot become less free by waiting, and a hold only
//! ends. A renewal whose old lease ran out meanwhile is decided again: the clock is
//! read once more right before the rename. Stopped between that reading and the
//! rename, a renewal may still land on a lease that ran out and that nobody took;
//! nobody else was granted anything, the epoch is the same, and its caller, who
//! counts from before it asked, throws the answer away.
//!
//! *Readers* take the record that the head names. A record never changes once it is
//! named; where it is gone by the time it is opened, the head has moved on, and the
//! reader looks again.
//!
//! *Nothing needed is removed.* After a commit its process removes records numbered
//! up to its own that its head does not name. Their head is gone, so none can come
//! in force; whatever is being prepared now is numbered higher.
//!
//! # What is on the disk when
//! A grant, a hold and a checkpoint are answered after their files (before the
//! rename) and the folder (after it) were fsynced: the epoch must not come again,
//! and the value must be there. A renewal and a release are not fsynced. Losing one
//! takes a power cut or a kernel crash, since a killed process leaves the page cache
//! whole; and that ends every process on the machine and so every lease. What is
//! lost is then meaningless: another boot treats every lease as over. But the file
//! may come back empty; so the head also names the newest record that *is* on the
//! disk (SAFE), and in another boot that one is read instead.
//!
//! # Time
//! Leases end by `CLOCK_BOOTTIME`. A record of another boot has no lease and no
//! hold any more. A record written in another time namespace of this boot is refused
//! as a misconfiguration: its times have another origin, and a guess could grant a
//! lease that stands.

mod directory;
mod election;
mod head;
mod record;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use directory::{FileStoreError, default_directory, directory_for};

use self::directory::Directory;
use self::election::FileElection;
use self::record::Place;
use self::watch::Watchers;
use super::{Answer, Backend, Guarantees, Scope, Store};
use crate::lease::ElectionName;
use crate::time::Clock;

/// Elections in a directory.
#[derive(Clone, Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: Directory,
    place: Place,
    clock: Arc<dyn Clock>,
    watchers: Watchers,
}

impl FileStore {
    /// Opens a directory, and makes it where it is missing. `clock` must be the
    /// machine's `CLOCK_BOOTTIME` ([`crate::time::BootClock`]) wherever another
    /// process uses the directory.
    ///
    /// # Errors
    /// [`FileStoreError`] where leases cannot rest on it.
    pub fn open(
        directory: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FileStoreError> {
        let place = directory::place()?;
        let directory = Directory::open(directory.as_ref(), clock.wall())?;
        let watchers = Watchers::new(directory.path());
        Ok(Self {
            shared: Arc::new(Shared {
                directory,
                place,
                clock,
                watchers,
            }),
        })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.shared.directory.path()
    }
}

impl Store for FileStore {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            kind: "file",
            scope: Scope::Machine,
            epochs_never_repeat: Answer::Yes,
            one_leader: Answer::Yes,
            one_leader_after_data_loss: Answer::If(
                "every candidate remembers its epochs (--state-dir)".into(),
            ),
            survives_store_crash: Answer::Yes,
            wakes_followers: true,
            expiry_step: Duration::from_millis(1),
        }
    }

    fn address(&self) -> String {
        format!("file://{}", self.directory().display())
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(FileElection::new(name, &self.shared))
    }
}
