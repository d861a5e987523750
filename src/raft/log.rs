//! The log and the vote, as `openraft` wants to be served.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use super::disk::{Disk, aside};
use super::types::{Entry, LogId, RaftId, StorageError, StorageIoError, TypeConfig, Vote};

/// One member's.
#[derive(Clone)]
pub struct Log {
    /// The file.
    pub disk: Disk,
    /// The member.
    pub own: RaftId,
}

fn reading(error: io::Error) -> StorageError {
    StorageIoError::read_logs(openraft::AnyError::new(&error)).into()
}

fn writing(error: io::Error) -> StorageError {
    StorageIoError::write_logs(openraft::AnyError::new(&error)).into()
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        self.disk.entries(range).map_err(reading)
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let last_purged_log_id = self.disk.purged().map_err(reading)?;
        let last = self.disk.last().map_err(reading)?;
        Ok(LogState {
            last_purged_log_id,
            last_log_id: last.or(last_purged_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (disk, vote) = (self.disk.clone(), *vote);
        let saved = aside(move || disk.set_vote(&vote)).await;
        saved.map_err(|error| StorageIoError::write_vote(openraft::AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let read = self.disk.vote();
        let vote =
            read.map_err(|error| StorageIoError::read_vote(openraft::AnyError::new(&error)))?;
        // A member that led before it was restarted would go on leading in the same term,
        // and answer reads before it knows again what was committed then: a release, or a
        // grant, could be missing. So it stands for election first; the entry that begins
        // its new term tells.
        Ok(vote.map(|vote| Vote {
            committed: vote.committed && vote.leader_id.voted_for() != Some(self.own),
            ..vote
        }))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.disk.set_committed(committed).map_err(writing)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.disk.committed().map_err(reading)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let disk = self.disk.clone();
        match aside(move || disk.append(&entries)).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                callback.log_io_completed(Err(io::Error::other(error.to_string())));
                Err(writing(error))
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let disk = self.disk.clone();
        let done = aside(move || disk.truncate(log_id.index)).await;
        done.map_err(writing)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let disk = self.disk.clone();
        let replaced = || self.disk.replaced(log_id);
        disk.receiving.until(replaced).await.map_err(writing)?;
        aside(move || disk.purge(log_id)).await.map_err(writing)
    }
}
