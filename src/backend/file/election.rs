//! One election: the operations, each a reading, a decision by the register, and
//! where it decided so a commit.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::Shared;
use super::head::{Committed, Durability, Folder, Head, Version, refused};
use super::record::{self, Record, Unusable};
use super::watch;
use crate::backend::{Backend, Hints};
use crate::lease::register::Present;
use crate::lease::{
    Acquired, Bid, Checkpoint, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim,
    ElectionName, HoldReason, NodeId, Observed, Released, Renewed, StoreError,
};

/// Each failed attempt means that somebody else's succeeded; this many in a row
/// mean that the directory is not used for elections alone.
const ATTEMPTS: u32 = 64;

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
enum Decision<T> {
    /// The record stays as it is.
    Leave(T),
    /// The changed record is to come in force.
    Commit(Commit<T>),
}

struct Commit<T> {
    answer: T,
    durability: Durability,
    /// The new checkpoint file's bytes.
    checkpoint: Option<Vec<u8>>,
    /// The decision is void once the lease clock is past this.
    not_after_ms: Option<u64>,
    /// Whether to remove the records out of force.
    tidies: bool,
}

impl<T> Commit<T> {
    fn new(answer: T, durability: Durability) -> Self {
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
    fn read(&self) -> Result<(Option<Head>, Record), StoreError> {
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

    fn stands(&self, head: &Head) -> Result<bool, StoreError> {
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

    fn contended(&self) -> StoreError {
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
    fn update<T>(
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
    fn show(&self, mut head: Head) {
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
        let (name, version) = (&self.name, head.current);
        let process = std::process::id();
        let unique = format!("{name}.{version}.{process}");
        let scratch = self.shared.directory.scratch(&unique);
        // Some file systems have no hard links.
        std::fs::hard_link(&record, &scratch)
            .or_else(|_| std::fs::copy(&record, &scratch).map(drop))?;
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
    fn value_of(&self, record: &Record) -> Result<Option<Checkpoint>, StoreError> {
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

    fn acquire_now(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        self.update(|record, present| {
            let before = record.register.leader.clone();
            let answer = record.register.acquire(bid, present);
            let answer = answer.map_err(|error| StoreError::Rejected(error.to_string()))?;
            let mut commit = Commit::new(answer.clone(), Durability::Disk);
            match &answer {
                Acquired::Won { epoch, .. } => {
                    let prolonged = before.filter(|leader| leader.epoch == *epoch);
                    if prolonged.is_none() {
                        record.prefer = None;
                    }
                    commit.not_after_ms = prolonged.map(|leader| leader.expires_ms);
                    Ok(Decision::Commit(commit))
                }
                Acquired::Hold { why, .. } if *why != HoldReason::Standing => {
                    Ok(Decision::Commit(commit))
                }
                Acquired::Hold { .. } | Acquired::Held { .. } => Ok(Decision::Leave(answer)),
            }
        })
    }

    fn renew_now(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        self.update(|record, present| {
            let before = record.register.leader.clone();
            let answer = record.register.renew(claim, present);
            if answer != (Renewed::Kept { left: claim.ttl }) {
                return Ok(Decision::Leave(answer));
            }
            let mut commit = Commit::new(answer, Durability::PageCache);
            commit.not_after_ms = before.map(|leader| leader.expires_ms);
            Ok(Decision::Commit(commit))
        })
    }

    fn release_now(&self, claim: &Claim, prefer: Option<&NodeId>) -> Result<Released, StoreError> {
        self.update(|record, present| {
            let held = record.register.leader.is_some();
            let answer = record.register.release(claim, present);
            // Released before, by a call whose answer was lost: all is said.
            if answer == Released::NotHeld || !held {
                return Ok(Decision::Leave(answer));
            }
            record.prefer = prefer.cloned();
            let mut commit = Commit::new(answer, Durability::PageCache);
            // Removing files locks the folder for milliseconds, just when the next
            // leader wants it; its own commit removes them.
            commit.tidies = false;
            Ok(Decision::Commit(commit))
        })
    }

    fn read_checkpoint_now(&self) -> Result<CheckpointRead, StoreError> {
        for _ in 0..ATTEMPTS {
            let (head, record) = self.read()?;
            let written = record.register.state.as_ref();
            let written = written.and_then(|state| state.checkpoint);
            match (self.value_of(&record)?, written) {
                (Some(checkpoint), _) => return Ok(CheckpointRead::Present(checkpoint)),
                (None, None) => return Ok(CheckpointRead::Absent),
                (None, Some(revision)) => {
                    // A newer value may have replaced it meanwhile.
                    if let Some(head) = head
                        && self.stands(&head)?
                    {
                        return Ok(CheckpointRead::Lost(revision));
                    }
                }
            }
        }
        Err(self.contended())
    }

    fn write_checkpoint_now(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        self.update(|record, _present| {
            let stored = self.value_of(record)?;
            let stored = stored.map(|checkpoint| checkpoint.revision);
            let answer = record.register.write_checkpoint(write, stored);
            let CheckpointWritten::Written(revision) = answer else {
                return Ok(Decision::Leave(answer));
            };
            let mut commit = Commit::new(answer, Durability::Disk);
            commit.checkpoint = Some(record::checkpoint_bytes(revision, &write.bytes));
            Ok(Decision::Commit(commit))
        })
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

#[async_trait]
impl Backend for FileElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        bid.check()?;
        let bid = bid.clone();
        self.blocking(move |here| here.acquire_now(&bid)).await
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        claim.check()?;
        let claim = claim.clone();
        self.blocking(move |here| here.renew_now(&claim)).await
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        let (claim, prefer) = (claim.clone(), prefer.cloned());
        self.blocking(move |here| here.release_now(&claim, prefer.as_ref()))
            .await
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        self.blocking(|here| Ok(here.look()?.1)).await
    }

    fn changes(&self) -> Hints {
        watch::hints(self.clone())
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        self.blocking(Self::read_checkpoint_now).await
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        let write = write.clone();
        self.blocking(move |here| here.write_checkpoint_now(&write))
            .await
    }
}
