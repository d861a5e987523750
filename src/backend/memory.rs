//! The reference model: registers in this process, for tests, simulations and
//! embedding without a store. It keeps [`Register`] itself, and can be made to
//! forget, to go back, and to become another server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::{Answer, Backend, Guarantees, Hints, Scope, Store};
use crate::lease::register::{Present, Register};
use crate::lease::{
    Acquired, Bid, Checkpoint, CheckpointRead, CheckpointWrite, CheckpointWritten, Claim,
    ElectionName, EpochError, Hint, NodeId, Observed, Released, Renewed, StoreError,
};
use crate::time::Clock;

/// Hints that a reader may lag behind before it is told of a gap.
const HINT_BACKLOG: usize = 64;

/// Registers in this process.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    elections: Arc<Mutex<HashMap<ElectionName, Arc<Election>>>>,
}

#[derive(Debug)]
struct Election {
    data: Mutex<Data>,
    hints: broadcast::Sender<Hint>,
}

/// Everything that the store holds of one election: what a backup would copy.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// The lease register.
    pub register: Register,
    /// The checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Which server holds it.
    pub server: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// An empty store that lets leases expire by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            elections: Arc::default(),
        }
    }

    /// A copy of one election's data, as a backup would take it.
    #[must_use]
    pub fn data(&self, name: &ElectionName) -> Data {
        lock(&self.of(name).data).clone()
    }

    /// Replaces one election's data, as restoring a backup or losing a disk would;
    /// nobody is told.
    pub fn set_data(&self, name: &ElectionName, data: Data) {
        *lock(&self.of(name).data) = data;
    }

    fn of(&self, name: &ElectionName) -> Arc<Election> {
        let fresh = || {
            Arc::new(Election {
                data: Mutex::default(),
                hints: broadcast::channel(HINT_BACKLOG).0,
            })
        };
        let mut elections = lock(&self.elections);
        Arc::clone(elections.entry(name.clone()).or_insert_with(fresh))
    }
}

impl Store for MemoryStore {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            kind: "memory",
            scope: Scope::Process,
            epochs_never_repeat: Answer::Yes,
            one_leader: Answer::Yes,
            one_leader_after_data_loss: Answer::If("every candidate remembers its epochs".into()),
            survives_store_crash: Answer::No,
            wakes_followers: true,
            expiry_step: Duration::from_millis(1),
        }
    }

    fn address(&self) -> String {
        "memory".to_owned()
    }

    fn election(&self, name: &ElectionName) -> Arc<dyn Backend> {
        Arc::new(MemoryElection {
            election: self.of(name),
            clock: Arc::clone(&self.clock),
        })
    }
}

#[derive(Clone)]
struct MemoryElection {
    election: Arc<Election>,
    clock: Arc<dyn Clock>,
}

impl MemoryElection {
    fn with<T>(&self, change: impl FnOnce(&mut Register, Present<'_>) -> T) -> T {
        let data = &mut *lock(&self.election.data);
        let present = Present {
            lease_ms: self.clock.now().as_millis(),
            wall: self.clock.wall(),
            server: &data.server,
        };
        change(&mut data.register, present)
    }

    fn tell(&self, hint: Hint) {
        // Nobody listening is no error.
        let _ = self.election.hints.send(hint);
    }
}

fn exhausted(error: EpochError) -> StoreError {
    StoreError::Rejected(error.to_string())
}

#[async_trait]
impl Backend for MemoryElection {
    async fn acquire(&self, bid: &Bid) -> Result<Acquired, StoreError> {
        bid.check()?;
        let answer = self.with(|register, present| {
            let before = register.epoch();
            let answer = register.acquire(bid, present);
            (before, answer)
        });
        let (before, answer) = (answer.0, answer.1.map_err(exhausted)?);
        if let Acquired::Won { epoch, .. } = answer
            && before != Some(epoch)
        {
            self.tell(Hint::Began(epoch));
        }
        Ok(answer)
    }

    async fn renew(&self, claim: &Claim) -> Result<Renewed, StoreError> {
        claim.check()?;
        Ok(self.with(|register, present| register.renew(claim, present)))
    }

    async fn release(
        &self,
        claim: &Claim,
        prefer: Option<&NodeId>,
    ) -> Result<Released, StoreError> {
        let answer = self.with(|register, present| register.release(claim, present));
        if answer == Released::Released {
            let (epoch, prefer) = (claim.epoch, prefer.cloned());
            self.tell(Hint::Ended { epoch, prefer });
        }
        Ok(answer)
    }

    async fn observe(&self) -> Result<Observed, StoreError> {
        Ok(self.with(Register::observe))
    }

    fn changes(&self) -> Hints {
        // Subscribed before the state is read, so that no change falls in between.
        let hints = BroadcastStream::new(self.election.hints.subscribe());
        let here = self.clone();
        let present = move || Hint::Present(here.with(Register::observe));
        let first = futures_util::stream::iter([present()]);
        let later = hints.flat_map(move |hint| {
            futures_util::stream::iter(match hint {
                Ok(hint) => vec![hint],
                Err(_lagged) => vec![Hint::Gap, present()],
            })
        });
        first.chain(later).boxed()
    }

    async fn read_checkpoint(&self) -> Result<CheckpointRead, StoreError> {
        let data = lock(&self.election.data);
        let written = data
            .register
            .state
            .as_ref()
            .and_then(|state| state.checkpoint);
        Ok(match (&data.checkpoint, written) {
            (Some(checkpoint), _) => CheckpointRead::Present(checkpoint.clone()),
            (None, Some(revision)) => CheckpointRead::Lost(revision),
            (None, None) => CheckpointRead::Absent,
        })
    }

    async fn write_checkpoint(
        &self,
        write: &CheckpointWrite,
    ) -> Result<CheckpointWritten, StoreError> {
        let data = &mut *lock(&self.election.data);
        let stored = data
            .checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.revision);
        let answer = data.register.write_checkpoint(write, stored);
        if let CheckpointWritten::Written(revision) = answer {
            data.checkpoint = Some(Checkpoint {
                revision,
                bytes: write.bytes.clone(),
            });
        }
        Ok(answer)
    }
}
