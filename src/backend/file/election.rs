//! One election's record: read, decided upon and committed, again and again until the
//! decision was made on the record in force.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::Shared;
use super::head::{Committed, Durability, Folder, Head, Version, refused, write_new};
use super::record::{self, Record, Unusable};
use crate::lease::register::Present;
use crate::lease::{Checkpoint, ElectionName, Observed, StoreError};

/// Each failed attempt means that somebody else's succeeded; this many in a row
/// mean that the directory is not used for elections alone.
pub(super) const ATTEMPTS: u32 = 64;

/// One election in the directory.
#[derive(Clone, Debug)]
pub(super) struct FileElection {
    pub(super) name: ElectionName,
    pub(super) folder: Folder,
    pub(super) shared: Arc<Shared>,
    /// Set when the caller of the operation that this value serves went away.
    abandoned: Arc<AtomicBool>,
    /// What the operation committed, to be tidied up behind once it has answered.
    committed: Arc<OnceLock<(Head, Option<Version>)>>,
}

/// Tells an operation that its caller went away.
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What an operation decided on a record.
pub(super) enum Decision<T> {
    /// The record stays as it is.
    Leave(T),
    /// The changed record is to come in force.
    Commit(Commit<T>),
}

pub(super) struct Commit<T> {
    pub(super) answer: T,
    pub(super) durability: Durability,
    /// The new checkpoint file's bytes.
    pub(super) checkpoint: Option<Vec<u8>>,
    /// The decision is void once the lease clock is past this.
    pub(super) not_after_ms: Option<u64>,
    /// Whether to remove the records out of force.
    pub(super) tidies: bool,
}

impl<T> Commit<T> {
    pub(super) fn new(answer: T, durability: Durability) -> Self {
        Self {
            answer,
            durability,
            checkpoint: None,
            not_after_ms: None,
            tidies: true,
        }
    }
}

impl FileElection {
    pub(super) fn new(name: &ElectionName, shared: &Arc<Shared>) -> Self {
        Self {
            name: name.clone(),
            folder: shared.directory.folder(name),
            shared: Arc::clone(shared),
            abandoned: Arc::default(),
            committed: Arc::default(),
        }
    }

    fn present(&self) -> Present<'_> {
        Present {
            lease_ms: self.shared.clock.now().as_millis(),
            wall: self.shared.clock.wall(),
            server: &self.shared.place.boot,
        }
    }

    /// The record in force; an empty one where there is none.
    pub(super) fn read(&self) -> Result<(Option<Head>, Record), StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(head) = self.folder.head()? else {
                return Ok((None, Record::default()));
            };
            if head.current.number == 0 {
                return Ok((Some(head), Record::default()));
            }
            match self.record_of(&head) {
                Ok(record) => return Ok((Some(head), record)),
                Err(error) if self.stands(&head)? => return Err(error),
                Err(_overtaken) => {}
            }
        }
        Err(self.contended())
    }

    pub(super) fn stands(&self, head: &Head) -> Result<bool, StoreError> {
        let folder = self.folder.path();
        let stands = self.folder.is_head(head);
        stands.map_err(|error| refused("cannot look into", folder, &error))
    }

    /// Checked after each reading: with that, what an abandoned call decided applies
    /// only to the record that stood when it was abandoned, and never on top of
    /// something newer, such as its caller's next call.
    fn still_wanted(&self) -> Result<(), StoreError> {
        if self.abandoned.load(Ordering::Acquire) {
            let gone = "the caller went away before the record changed".to_owned();
            return Err(StoreError::Unavailable(gone));
        }
        Ok(())
    }

    pub(super) fn contended(&self) -> StoreError {
        let folder = self.folder.path().display();
        StoreError::Unavailable(format!(
            "{folder} changed under each of {ATTEMPTS} attempts; nothing was written"
        ))
    }

    fn record_of(&self, head: &Head) -> Result<Record, StoreError> {
        let path = self.folder.record_path(head.current);
        let damage = match self.load(&path)? {
            Ok(parsed) => return Ok(parsed.record),
            Err(Unusable::ForeignClock(other)) => return Err(self.foreign_clock(&path, other)),
            Err(Unusable::Damaged(damage)) => damage,
        };
        // A renewal or release that a power cut took from the page cache.
        if head.safe != head.current
            && let Ok(safe) = self.load(&self.folder.record_path(head.safe))?
            && !safe.this_boot
        {
            return Ok(safe.record);
        }
        let (file, folder) = (path.display(), self.folder.path().display());
        Err(StoreError::Corrupt(format!(
            "the record {file}: {damage}. It is left as it is. Stop the election's nodes and \
             either restore {folder} as a whole or move it away: the election then starts anew, \
             without its checkpoint, and nodes that remember its epochs first wait for a lease's \
             length"
        )))
    }

    fn load(&self, path: &Path) -> Result<Result<record::Parsed, Unusable>, StoreError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(record::parse(&bytes, &self.name, &self.shared.place)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Err(Unusable::Damaged("it is missing".to_owned())))
            }
            Err(error) => Err(refused("cannot read", path, &error)),
        }
    }

    fn foreign_clock(&self, path: &Path, other: u64) -> StoreError {
        let (path, own) = (path.display(), self.shared.place.time_namespace);
        StoreError::Misconfigured(format!(
            "{path} was written in time namespace {other}, and this process runs in {own}: their \
             boot clocks cannot be compared. Run all nodes of the election in one time namespace; \
             once the others are stopped, move the election's folder away"
        ))
    }

    /// Decides on the record in force, and puts the changed record in force.
    pub(super) fn update<T>(
        &self,
        decide: impl Fn(&mut Record, Present<'_>) -> Result<Decision<T>, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..ATTEMPTS {
            let (head, mut record) = self.read()?;
            self.still_wanted()?;
            let present = self.present();
            let commit = match decide(&mut record, present)? {
                Decision::Leave(answer) => return Ok(answer),
                Decision::Commit(commit) => commit,
            };
            let Some(head) = head else {
                self.create()?;
                continue;
            };
            if self.put(head, record, &commit, present)? {
                return Ok(commit.answer);
            }
        }
        Err(self.contended())
    }

    fn create(&self) -> Result<(), StoreError> {
        let first = Head::first()?;
        let unique = format!("{}.{}", self.name, first.current);
        let scratch = self.shared.directory.scratch(&unique);
        self.folder.create(&first, &scratch)
    }

    /// Whether the record came in force, and is on the disk where it must be.
    fn put<T>(
        &self,
        head: Head,
        mut record: Record,
        commit: &Commit<T>,
        present: Present<'_>,
    ) -> Result<bool, StoreError> {
        let version = Folder::next_version(&head)?;
        if commit.checkpoint.is_some() {
            record.checkpoint = Some(version);
        }
        let json = record.to_json(&self.name, &self.shared.place, present)?;
        let value = commit.checkpoint.as_deref();
        let prepared = self
            .folder
            .prepare(head, version, &json, value, commit.durability)?;
        let now_ms = self.present().lease_ms;
        let late = commit.not_after_ms.is_some_and(|limit| now_ms > limit);
        if late || self.still_wanted().is_err() {
            self.folder.discard(&prepared);
            return Ok(false);
        }
        let Committed::Yes(head) = self.folder.commit(&prepared)? else {
            return Ok(false);
        };
        // Waking the others need not wait for the disk: a power cut would stop them
        // as well.
        self.show(head);
        if commit.durability == Durability::Disk {
            self.folder.sync()?;
        }
        if commit.tidies {
            let _ = self.committed.set((head, record.checkpoint));
        }
        Ok(true)
    }

    /// Names the record in force `E.json`, which people read and the others watch.
    /// Nothing rests on it; a process stopped in here may leave an older one until
    /// the next change.
    pub(super) fn show(&self, mut head: Head) {
        for _ in 0..ATTEMPTS {
            if let Err(error) = self.link_shown(&head) {
                tracing::debug!(election = %self.name, %error, "cannot update the shown record");
            }
            if self.folder.is_head(&head).unwrap_or(true) {
                return;
            }
            // A newer record came in force, and its E.json may be the one that was
            // just replaced.
            match self.folder.head() {
                Ok(Some(newer)) if newer.current.number > 0 => head = newer,
                _ => return,
            }
        }
    }

    fn link_shown(&self, head: &Head) -> std::io::Result<()> {
        let record = self.folder.record_path(head.current);
        // Several calls may show one record, and each needs a name of its own: what is copied
        // onto another call's link is copied onto the record itself, and empties it.
        let number = Folder::next_version(head).map_err(std::io::Error::other)?;
        let unique = format!("{}.{}.{number}", self.name, head.current);
        let scratch = self.shared.directory.scratch(&unique);
        // Some file systems have no hard links.
        std::fs::hard_link(&record, &scratch)
            .or_else(|_| write_new(&scratch, &std::fs::read(&record)?, Durability::PageCache))?;
        let renamed = std::fs::rename(&scratch, self.shared.directory.shown(&self.name));
        // Where both are one file already, rename(2) leaves both names.
        let _ = std::fs::remove_file(&scratch);
        renamed
    }

    /// The record in force, and what an observer sees of it.
    pub(super) fn look(&self) -> Result<(Record, Observed), StoreError> {
        let (_, mut record) = self.read()?;
        let seen = record.register.observe(self.present());
        Ok((record, seen))
    }

    /// The checkpoint that a record names; `None` where its file is gone.
    pub(super) fn value_of(&self, record: &Record) -> Result<Option<Checkpoint>, StoreError> {
        let Some(version) = record.checkpoint else {
            return Ok(None);
        };
        let path = self.folder.checkpoint_path(version);
        match std::fs::read(&path) {
            Ok(bytes) => record::parse_checkpoint(&path, &bytes).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused("cannot read", &path, &error)),
        }
    }

    /// Does an operation where it may block. When its caller goes away it ends in
    /// order: before the rename with nothing changed, after it with all that belongs
    /// to a commit. Tidying up takes longer than a commit and nothing rests on it, so
    /// the answer does not wait for it.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut here = self.clone();
        here.abandoned = Arc::default();
        here.committed = Arc::default();
        let guard = AbandonOnDrop(Arc::clone(&here.abandoned));
        let (reply, answer) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            // A caller that went away needs no answer.
            let _ = reply.send(work(&here));
            if let Some((head, checkpoint)) = here.committed.get() {
                here.folder.tidy(head, *checkpoint);
            }
        });
        let done = answer.await;
        drop(guard);
        done.unwrap_or_else(|_| {
            let broken = "the operation did not end in order".to_owned();
            Err(StoreError::Indeterminate(broken))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::FileStore;
    use super::*;
    use crate::lease::{Bid, Profile, SessionId};
    use crate::time::BootClock;

    /// An operation that its caller has left shows the record beside the next one's.
    #[tokio::test]
    async fn a_record_that_is_shown_by_many_stays_whole() {
        let home = tempfile::tempdir().unwrap();
        let store = FileStore::open(home.path(), Arc::new(BootClock)).unwrap();
        let election = FileElection::new(&"e".parse().unwrap(), &store.shared);
        let bid = Bid {
            session: SessionId::from_bits(1),
            profile: Profile {
                node: "n".parse().unwrap(),
                url: None,
                metadata: Vec::new(),
            },
            ttl: std::time::Duration::from_secs(30),
            floor: None,
            incumbent: false,
            hold: std::time::Duration::ZERO,
        };
        crate::backend::Backend::acquire(&election, &bid)
            .await
            .unwrap();
        let (head, _) = election.read().unwrap();
        let record = election.folder.record_path(head.unwrap().current);
        let whole = std::fs::read(&record).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| election.show(head.unwrap())));
            }
        });
        assert_eq!(std::fs::read(&record).unwrap(), whole);
        let shown = std::fs::read(home.path().join("e.json")).unwrap();
        assert_eq!(shown, whole);
    }
}
