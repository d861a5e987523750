//! What waits for the log: while one entry is written, the next ones gather, and go
//! together. A disk that takes 5 ms for an entry so keeps hundreds of leases.

use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::types::Raft;
use super::{Change, Outcome, Request};
use crate::lease::StoreError;
use crate::time::within;

/// The most that wait; more wait before the door.
pub(super) const WAITING: usize = 1024;
/// The most in one entry.
const TOGETHER: usize = 128;
/// The most bytes of checkpoints in one entry: it goes in one frame.
const BYTES_TOGETHER: usize = 256 << 10;
/// An entry that no majority confirms for so long is not waited for.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// One request, and who awaits its outcome.
pub(super) struct Proposal {
    pub request: Request,
    pub answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

fn bytes(proposal: &Proposal) -> usize {
    match &proposal.request.change {
        Change::Write(write) => write.bytes.len(),
        _ => 0,
    }
}

/// Writes what comes, until nobody can send any more.
pub(super) async fn write(raft: Raft, mut proposals: mpsc::Receiver<Proposal>) {
    while let Some(first) = proposals.recv().await {
        let mut size = bytes(&first);
        let mut together = vec![first];
        while together.len() < TOGETHER && size < BYTES_TOGETHER {
            let Ok(next) = proposals.try_recv() else {
                break;
            };
            size += bytes(&next);
            together.push(next);
        }
        // Whoever went away was told that nothing is certain; nothing is the better half.
        together.retain(|proposal| !proposal.answer.is_closed());
        if !together.is_empty() {
            write_one(&raft, together).await;
        }
    }
}

async fn write_one(raft: &Raft, together: Vec<Proposal>) {
    let requests = together.iter().map(|it| it.request.clone()).collect();
    let uncertain = match within(WRITTEN_WITHIN, raft.client_write(requests)).await {
        Some(Ok(written)) => {
            for (proposal, outcome) in together.into_iter().zip(written.data) {
                let _ = proposal.answer.send(Ok(outcome));
            }
            return;
        }
        // This member led when it was asked: the entry may be in another's log.
        Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
            "the Raft leader lost its office while it wrote".to_owned()
        }
        Some(Err(error)) => error.to_string(),
        None => "no majority confirmed it".to_owned(),
    };
    for proposal in together {
        let error = StoreError::Indeterminate(uncertain.clone());
        let _ = proposal.answer.send(Err(error));
    }
}
