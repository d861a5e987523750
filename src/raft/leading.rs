//! What the Raft leader answers, to its own sidecar and to the other members.

use std::time::Duration;

use openraft::error::{CheckIsLeaderError, RaftError as RaftsError};
use tokio::sync::oneshot;

use super::member::{LOOK_AGAIN, Member};
use super::proposals::Proposal;
use super::replica::Applied;
use super::wire::{Answer, Ask, Reply};
use super::{Change, Outcome, Request, seating};
use crate::lease::{Acquired, Bid, ElectionName, StoreError};
use crate::time::{pause, within};

impl Member {
    /// Answers as the Raft leader.
    pub async fn lead(&self, ask: Ask, limit: Duration) -> Reply {
        if !self.is_raft_leader() {
            return Reply::NotLeader;
        }
        let read = ask.is_read();
        let seats = matches!(ask, Ask::Seats(_));
        match within(limit, self.answer(ask)).await {
            Some(reply) => reply,
            None if seats => Reply::Failed(StoreError::Indeterminate(format!(
                "the change was not complete within {} ms and may go on: look at `tenure cluster \
                 status`, and ask again",
                limit.as_millis()
            ))),
            None => {
                let why = format!(
                    "no majority of the members confirmed it within {} ms",
                    limit.as_millis()
                );
                Reply::Failed(match read {
                    true => StoreError::Unavailable(why),
                    false => StoreError::Indeterminate(why),
                })
            }
        }
    }

    async fn answer(&self, ask: Ask) -> Reply {
        match ask {
            Ask::Confirm => match self.confirmed().await {
                Ok(index) => Reply::Answer(Answer::Index(index)),
                Err(reply) => reply,
            },
            Ask::Observe(election) => match self.settled(&election).await {
                Ok(()) => Reply::Answer(Answer::Observed(self.observed(&election))),
                Err(reply) => reply,
            },
            Ask::Checkpoint(election) => match self.confirmed().await {
                Ok(_) => {
                    let record = self.replica.with(|applied| applied.records.get(&election));
                    Reply::Answer(Answer::Checkpoint(record.checkpoint()))
                }
                Err(reply) => reply,
            },
            Ask::Change(Request { election, change }) => match change {
                Change::Acquire { bid, .. } => self.acquire(election, bid).await,
                change => self.propose(Request { election, change }).await,
            },
            Ask::Seats(ask) => seating::change(self, ask).await,
        }
    }

    /// A majority still follows this Raft leader, and all that it committed is applied: up to
    /// which entry. Tries until whoever asked goes away.
    pub async fn confirmed(&self) -> Result<u64, Reply> {
        loop {
            match self.raft.ensure_linearizable().await {
                Ok(read) => return Ok(read.map_or(0, |read| read.index)),
                Err(RaftsError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => {
                    return Err(Reply::NotLeader);
                }
                Err(RaftsError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                    pause(LOOK_AGAIN).await;
                }
                Err(error) => {
                    return Err(Reply::Failed(StoreError::Unavailable(error.to_string())));
                }
            }
        }
    }

    /// The same; and a lease that is over by this replica's clock has ended in the log, so
    /// that nobody sees it free and its holder renews it all the same.
    async fn settled(&self, election: &ElectionName) -> Result<(), Reply> {
        self.confirmed().await?;
        let now = self.clock.now();
        let over = self.replica.with(|applied| applied.stamps.over(now));
        for request in over.into_iter().filter(|over| over.election == *election) {
            if let reply @ (Reply::Failed(_) | Reply::NotLeader) = self.propose(request).await {
                return Err(reply);
            }
        }
        Ok(())
    }

    /// Whoever is held off costs no entry. A lease that is over ends before the bid.
    async fn acquire(&self, election: ElectionName, bid: Bid) -> Reply {
        let idle = || {
            let read = |applied: &Applied| applied.records.get(&election);
            self.replica.with(read).idle_answer(&bid)
        };
        if idle().is_some() {
            if let Err(reply) = self.settled(&election).await {
                return reply;
            }
            if let Some(answer) = idle() {
                return self.told(&election, Outcome::Acquired(answer));
            }
        }
        let wall = self.clock.wall();
        let change = Change::Acquire { bid, wall };
        self.propose(Request { election, change }).await
    }

    /// An answer to a bid, with what this replica's clock says about it.
    fn told(&self, election: &ElectionName, mut outcome: Outcome) -> Reply {
        let now = self.clock.now();
        let remaining = self
            .replica
            .with(|applied| applied.stamps.left(now, election));
        match &mut outcome {
            Outcome::Acquired(Acquired::Held { left, .. }) => *left = remaining,
            Outcome::Acquired(Acquired::Hold { retry_in, .. }) => *retry_in = remaining,
            _ => {}
        }
        Reply::Answer(Answer::Outcome(outcome))
    }

    /// Puts a request into the log, with those of others.
    pub async fn propose(&self, request: Request) -> Reply {
        let election = request.election.clone();
        let (answer, awaited) = oneshot::channel();
        if self
            .proposals
            .send(Proposal { request, answer })
            .await
            .is_err()
        {
            let why = "this member is stopping".to_owned();
            return Reply::Failed(StoreError::Unavailable(why));
        }
        match awaited.await {
            Ok(Ok(outcome)) => self.told(&election, outcome),
            Ok(Err(error)) => Reply::Failed(error),
            Err(_) => {
                let why = "this member stopped, or no majority confirmed it".to_owned();
                Reply::Failed(StoreError::Indeterminate(why))
            }
        }
    }
}
