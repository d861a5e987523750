//! One election on Redis: what the scripts are told, and what is made of their answers.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;

use super::acknowledged::{self, Change, Count};
use super::link::Live;
use super::reply::Reply;
use super::scripts::{self, Keys, Named};
use super::topic::{Listener, Topic};
use super::ways::{Answered, Arguments, Asked, Ways};
use crate::backend::{Backend, Hints, StoreClock};
use crate::lease::{
    Acquired, Bid, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim, ElectionName, NodeId,
    Observed, Released, Renewed, StoreError,
};
use crate::time::{millis, millis_up};

#[derive(Clone)]
pub(super) struct RedisElection {
    ways: Arc<Ways>,
    keys: Keys,
    topic: Arc<Topic>,
    /// Of the server that has this election.
    server_clock: Arc<StoreClock>,
}

impl RedisElection {
    pub(super) fn new(name: &ElectionName, ways: &Arc<Ways>) -> Self {
        let keys = Keys::of(name);
        ways.access().add_election(name);
        Self {
            topic: ways.topic(&keys.channel),
            keys,
            ways: Arc::clone(ways),
            server_clock: Arc::default(),
        }
    }

    /// Runs a script on this election's keys. `arguments` are told which server
    /// answers: a lease is vouched for by the server that granted it.
    async fn run(
        &self,
        script: &Named,
        keys: &[&str],
        arguments: &Arguments<'_>,
    ) -> Result<Reply, StoreError> {
        let change = Change::Other;
        let answered = self.ask(script, keys, arguments, change).await?;
        self.reply(script, &answered)
    }

    async fn ask(
        &self,
        script: &Named,
        keys: &[&str],
        arguments: &Arguments<'_>,
        change: Change,
    ) -> Result<Answered, StoreError> {
        let asked = Asked {
            script,
            keys,
            channel: &self.keys.channel,
            arguments,
            change,
        };
        self.ways.run(&asked).await
    }

    fn reply(&self, script: &Named, answered: &Answered) -> Result<Reply, StoreError> {
        let reply = Reply::new(script.name, &self.keys.state, answered.value.clone())?;
        if let Some(time) = reply.server_time() {
            let now = self.ways.access().clock.now();
            self.server_clock.saw(now, time);
        }
        Ok(reply)
    }

    fn lease_keys(&self) -> [&str; 2] {
        [&self.keys.leader, &self.keys.state]
    }

    fn all_keys(&self) -> [&str; 3] {
        [&self.keys.leader, &self.keys.state, &self.keys.checkpoint]
    }

    /// A hold lasts until no lease can be standing, on no server.
    fn hold_ms(&self, hold: std::time::Duration) -> u64 {
        millis_up(hold + self.ways.access().grace())
    }

    fn release_arguments(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
        live: &Live,
    ) -> Vec<Vec<u8>> {
        vec![
            text(claim.epoch),
            text(&claim.session),
            text(millis(claim.ttl)),
            text(self.hold_ms(claim.hold)),
            text(&live.run_id),
            text(live.spread()),
            text(&self.keys.channel),
            prefer.map_or_else(Vec::new, text),
        ]
    }

    /// Gives back a grant that too few replicas have, over the connection that it came
    /// by: on no other could it be overtaken.
    async fn give_back(&self, claim: &Claim, count: Count, to: &Answered) -> StoreError {
        let arguments = |live: &Live| self.release_arguments(claim, None, live);
        let asked = Asked {
            script: &scripts::RELEASE,
            keys: &self.lease_keys(),
            channel: &self.keys.channel,
            arguments: &arguments,
            change: Change::Other,
        };
        let told = count.tell(&to.live.name);
        match asked.run(&to.link, &to.live, false).await {
            Ok(_) => StoreError::Unavailable(format!("the grant was given back: {told}")),
            Err(trouble) => StoreError::Indeterminate(format!(
                "the grant could not be given back ({}): {told}",
                trouble.error
            )),
        }
    }
}

/// A script's argument: a number in digits, or text.
fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[async_trait]
impl Backend for RedisElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        bid.check()?;
        let begun = self.ways.access().clock.now();
        let record = serde_json::to_vec(&bid.profile)
            .map_err(|error| StoreError::Rejected(format!("the profile is no JSON: {error}")))?;
        let arguments = |live: &Live| {
            vec![
                text(&bid.session),
                record.clone(),
                text(millis(bid.ttl)),
                text(self.hold_ms(bid.hold)),
                text(bid.floor.map_or(0, |floor| floor.get())),
                text(u8::from(bid.incumbent)),
                text(&live.run_id),
                text(live.spread()),
                text(&self.keys.channel),
            ]
        };
        let keys = self.lease_keys();
        let script = &scripts::ACQUIRE;
        let change = Change::Grant;
        let answered = self.ask(script, &keys, &arguments, change).await?;
        let acquired = self.reply(script, &answered)?.acquired()?;
        let Acquired::Won { epoch, .. } = acquired else {
            return Ok(acquired);
        };
        let count = acknowledged::wait(change, &answered, begun).await?;
        let Some(count) = count.filter(|count| !count.is_enough()) else {
            return Ok(acquired);
        };
        let claim = Claim {
            epoch,
            session: bid.session.clone(),
            ttl: bid.ttl,
            hold: bid.hold,
        };
        Err(self.give_back(&claim, count, &answered).await)
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        claim.check()?;
        let arguments = |live: &Live| {
            vec![
                text(claim.epoch),
                text(&claim.session),
                text(millis(claim.ttl)),
                text(&live.run_id),
            ]
        };
        let keys = self.lease_keys();
        self.run(&scripts::RENEW, &keys, &arguments)
            .await?
            .renewed()
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        claim.check()?;
        let arguments = |live: &Live| self.release_arguments(claim, prefer, live);
        let keys = self.lease_keys();
        self.run(&scripts::RELEASE, &keys, &arguments)
            .await?
            .released()
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        let keys = self.lease_keys();
        self.run(&scripts::OBSERVE, &keys, &|_: &Live| Vec::new())
            .await?
            .observed()
    }

    fn clock_step_ms(&self) -> i64 {
        self.server_clock.step_ms()
    }

    fn changes(&self) -> Hints {
        let listening = Listening {
            listener: self.topic.listen(),
            _leave: Leave(Arc::clone(&self.ways)),
            election: self.clone(),
        };
        self.ways.listeners_changed();
        let next = |mut listening: Listening| async move {
            let election = &listening.election;
            let hint = listening.listener.next(|| election.observe()).await?;
            Some((hint, listening))
        };
        futures_util::stream::unfold(listening, next).boxed()
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        let keys = self.all_keys();
        self.run(&scripts::READ_CHECKPOINT, &keys, &|_: &Live| Vec::new())
            .await?
            .checkpoint()
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        let begun = self.ways.access().clock.now();
        let arguments = |live: &Live| {
            vec![
                text(write.epoch),
                text(&write.session),
                write.expected.map_or_else(Vec::new, text),
                write.bytes.clone(),
                text(&live.run_id),
            ]
        };
        let keys = self.all_keys();
        let script = &scripts::WRITE_CHECKPOINT;
        let change = Change::Checkpoint;
        let answered = self.ask(script, &keys, &arguments, change).await?;
        let written = self.reply(script, &answered)?.written()?;
        if !matches!(written, CheckpointWritten::Written(_)) {
            return Ok(written);
        }
        let count = acknowledged::wait(change, &answered, begun).await?;
        let Some(count) = count.filter(|count| !count.is_enough()) else {
            return Ok(written);
        };
        Err(StoreError::Indeterminate(format!(
            "the checkpoint is written and a failover may lose it: {}",
            count.tell(&answered.live.name)
        )))
    }
}

/// A stream of hints. Its parts drop in this order: the listener leaves, then the
/// supervisor is told so.
struct Listening {
    listener: Listener,
    _leave: Leave,
    election: RedisElection,
}

struct Leave(Arc<Ways>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.listeners_changed();
    }
}
