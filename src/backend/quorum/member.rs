//! One election on this member: the core, driven by its clock, its disk and the others.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

use super::Shared;
use super::message::Said;
use crate::lease::{Acquired, Claim, ElectionName, Epoch, Hint, NodeId, Released, StoreError};
use crate::quorum::{
    Answer, Input, Output, QuorumLease, Record, Request, Roster, Start, Ticket, Warning,
};
use crate::time::{Alarm, Moment};

/// What may wait for an election's task. Beyond it peers' words are lost, as on a network.
const INBOX: usize = 4096;
/// Letters that share one write to the disk.
const MOST_AT_ONCE: usize = 64;
/// Hints that a reader may lag behind before it is told of a gap.
const HINT_BACKLOG: usize = 64;

type Reply = oneshot::Sender<Result<Answer, StoreError>>;

enum Letter {
    Input(Input),
    Ask(Request, Reply),
    /// Who leads, for a wake-up.
    Glimpse(Reply),
}

/// The way to an election's task.
#[derive(Clone)]
pub(super) struct Door {
    letters: mpsc::Sender<Letter>,
    hints: broadcast::Sender<Hint>,
}

impl Door {
    /// May get lost.
    pub fn put(&self, input: Input) {
        let _ = self.letters.try_send(Letter::Input(input));
    }

    pub async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        self.post(|reply| Letter::Ask(request, reply)).await
    }

    /// The present state for a wake-up: at once where this member knows of a leader, so that
    /// no end of the lease overtakes it; else as a majority tells it.
    pub async fn glimpse(&self) -> Result<Answer, StoreError> {
        self.post(Letter::Glimpse).await
    }

    async fn post(&self, letter: impl FnOnce(Reply) -> Letter) -> Result<Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let over = || StoreError::Unavailable("this member has stopped".to_owned());
        let busy = || StoreError::Unavailable("this member's disk does not keep up".to_owned());
        match self.letters.try_send(letter(reply)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(busy()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(over()),
        }
        let lost = || StoreError::Indeterminate("this member stopped meanwhile".to_owned());
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    pub fn listen(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}

/// An election's task; dropping it ends it.
pub(super) struct Member {
    pub door: Door,
    _task: JoinSet<()>,
}

impl Member {
    pub fn begin(shared: &Arc<Shared>, name: &ElectionName, start: Start) -> Self {
        let (letters, inbox) = mpsc::channel(INBOX);
        let hints = broadcast::channel(HINT_BACKLOG).0;
        let door = Door { letters, hints };
        for peer in shared.mesh.peers() {
            if peer.suspected {
                door.put(Input::Suspected(peer.id));
            }
        }
        let start = with_known_disks(shared, start);
        let work = Work::new(shared, name, start, door.hints.clone());
        let mut task = JoinSet::new();
        task.spawn_on(work.run(inbox), &shared.runtime);
        Self { door, _task: task }
    }
}

/// A new election counts the disks that the other elections do: a disk that came in for a
/// lost one, on nobody's word but its own, has no more of a vote here than there. Of a member
/// that none of them knows it counts the one that the mesh has met; else each would be one
/// more write when it first speaks.
fn with_known_disks(shared: &Shared, start: Start) -> Start {
    if !matches!(start, Start::Bootstrap) {
        return start;
    }
    let own = (shared.settings.own, shared.settings.disk.clone());
    let peers = shared.mesh.peers().into_iter();
    let known = peers.filter_map(|peer| Some((peer.id, peer.disk?)));
    Start::Record(Box::new(Record {
        disks: Roster::gathered(shared.rosters().values(), known.chain([own])),
        ..Record::default()
    }))
}

/// Why an election's task ends.
struct Stopped(String);

struct Work {
    shared: Arc<Shared>,
    name: ElectionName,
    core: QuorumLease,
    hints: broadcast::Sender<Hint>,
    asked: HashMap<Ticket, Asked>,
    last_ticket: Ticket,
    own: OwnTenure,
    vacancy: Vacancy,
}

struct Asked {
    reply: Reply,
    release: Option<(Epoch, Option<NodeId>)>,
    acquire: bool,
}

/// What was told of the own sidecar's tenures: the core tells only of the others'.
#[derive(Default)]
struct OwnTenure {
    began: Option<Epoch>,
    ended: Option<Epoch>,
}

/// Since when the lease is asked for in vain, and whether that was told.
#[derive(Default)]
struct Vacancy(Option<(Moment, bool)>);

impl Work {
    fn new(
        shared: &Arc<Shared>,
        name: &ElectionName,
        start: Start,
        hints: broadcast::Sender<Hint>,
    ) -> Self {
        let mut settings = shared.settings.clone();
        settings.seed = fastrand::u64(..);
        Self {
            core: QuorumLease::new(shared.clock.now(), settings, start),
            shared: Arc::clone(shared),
            name: name.clone(),
            hints,
            asked: HashMap::new(),
            last_ticket: 0,
            own: OwnTenure::default(),
            vacancy: Vacancy::default(),
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Letter>) {
        let Err(Stopped(why)) = self.drive(&mut inbox).await else {
            return;
        };
        tracing::error!(election = %self.name, reason = %why,
            "this member takes no part in the election any more; it does again after a restart");
        let broken = || Err(StoreError::Rejected(why.clone()));
        for (_, asked) in self.asked.drain() {
            // What came before may have left already.
            let _ = asked
                .reply
                .send(Err(StoreError::Indeterminate(why.clone())));
        }
        while let Some(letter) = inbox.recv().await {
            if let Letter::Ask(_, reply) | Letter::Glimpse(reply) = letter {
                let _ = reply.send(broken());
            }
        }
    }

    async fn drive(&mut self, inbox: &mut mpsc::Receiver<Letter>) -> Result<(), Stopped> {
        let no_timer = |error| Stopped(format!("no timer is to be had: {error}"));
        let mut alarm = Alarm::new().map_err(no_timer)?;
        let clock = Arc::clone(&self.shared.clock);
        let mut outputs = Vec::new();
        self.step(Input::Wake, &mut outputs);
        self.carry_out(std::mem::take(&mut outputs)).await?;
        loop {
            let wake_at = self.core.wake_at();
            let due = async {
                match wake_at {
                    Some(moment) => alarm.until(&*clock, moment).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                letter = inbox.recv() => match letter {
                    Some(letter) => self.open(letter, &mut outputs),
                    None => return Ok(()),
                },
                woken = due => {
                    woken.map_err(no_timer)?;
                    self.step(Input::Wake, &mut outputs);
                }
            }
            // What came while the disk was busy shares the next write.
            for _ in 1..MOST_AT_ONCE {
                match inbox.try_recv() {
                    Ok(letter) => self.open(letter, &mut outputs),
                    Err(_) => break,
                }
            }
            self.carry_out(std::mem::take(&mut outputs)).await?;
        }
    }

    fn open(&mut self, letter: Letter, outputs: &mut Vec<Output>) {
        let input = match letter {
            Letter::Input(input) => input,
            Letter::Ask(request, reply) => self.ticket(request, reply),
            Letter::Glimpse(reply) => match self.core.glimpse(self.shared.clock.now()) {
                Some(observed) => {
                    let _ = reply.send(Ok(Answer::Observed(observed)));
                    return;
                }
                None => self.ticket(Request::Observe, reply),
            },
        };
        if matches!(input, Input::Recovered(_)) {
            // What it said meanwhile may be lost.
            self.tell(Hint::Gap);
        }
        self.step(input, outputs);
    }

    fn ticket(&mut self, request: Request, reply: Reply) -> Input {
        // Whoever dropped its call has not said so.
        self.asked.retain(|_, asked| !asked.reply.is_closed());
        self.last_ticket += 1;
        let release = match &request {
            Request::Release {
                claim: Claim { epoch, .. },
                prefer,
            } => Some((*epoch, prefer.clone())),
            _ => None,
        };
        let asked = Asked {
            reply,
            release,
            acquire: matches!(request, Request::Acquire { .. }),
        };
        let ticket = self.last_ticket;
        self.asked.insert(ticket, asked);
        Input::Ask { ticket, request }
    }

    fn step(&mut self, input: Input, outputs: &mut Vec<Output>) {
        self.core.step(self.shared.clock.now(), input, outputs);
    }

    /// In order, but for the disk: each record holds all that those before it did, so the
    /// last one is written for all, before anything is said. Where the disk refuses, nothing
    /// is said.
    async fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), Stopped> {
        let mut records = outputs.iter().filter_map(|output| match output {
            Output::Persist(record) => Some(record),
            _ => None,
        });
        if let Some(record) = records.next_back() {
            self.keep(record.clone()).await?;
        }
        for output in outputs {
            match output {
                Output::Persist(_) => {}
                Output::Send { to, envelope } => self.send(to, envelope),
                Output::Answer { ticket, answer } => self.answer(ticket, answer),
                Output::Hint(hint) => self.tell(hint),
                Output::Warn(warning) => self.warn(&warning),
            }
        }
        Ok(())
    }

    async fn keep(&self, record: Box<Record>) -> Result<(), Stopped> {
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        let written = tokio::task::spawn_blocking(move || {
            shared.disk.keep(&name, &record)?;
            shared.rosters().insert(name, record.disks);
            Ok::<(), super::DiskError>(())
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Stopped(error.to_string())),
            Err(error) => Err(Stopped(format!("the disk was not written: {error}"))),
        }
    }

    fn send(&self, to: crate::peers::MemberId, envelope: Box<crate::quorum::Envelope>) {
        let said = Said::new(&self.name, self.shared.settings.drift, envelope);
        let sent = serde_json::to_value(&said)
            .map_err(|error| error.to_string())
            .and_then(|body| self.shared.mesh.send(to, body).map_err(|it| it.to_string()));
        if let Err(error) = sent {
            tracing::warn!(election = %self.name, peer = %to, %error, "not said to a peer");
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Answer, StoreError>) {
        let Some(asked) = self.asked.remove(&ticket) else {
            return;
        };
        if asked.acquire {
            self.count_vacancy(&answer);
        }
        let hint = self.own.hint(&asked, &answer);
        // Nobody waiting is no error.
        let _ = asked.reply.send(answer);
        if let Some(hint) = hint {
            self.tell(hint);
        }
    }

    fn tell(&self, hint: Hint) {
        // Nobody listening is no error.
        let _ = self.hints.send(hint);
    }

    fn warn(&self, warning: &Warning) {
        let election = &self.name;
        match warning {
            Warning::Joined { .. } => tracing::info!(%election, "{warning}"),
            Warning::Retired => tracing::error!(%election, "{warning}"),
            _ => tracing::warn!(%election, "{warning}"),
        }
    }

    /// An election that takes longer than it may.
    fn count_vacancy(&mut self, answer: &Result<Answer, StoreError>) {
        let why = match answer {
            Ok(Answer::Acquired(Acquired::Hold { why, .. })) => why.to_string(),
            Err(error) => error.to_string(),
            _ => {
                self.vacancy.0 = None;
                return;
            }
        };
        let now = self.shared.clock.now();
        let (since, told) = self.vacancy.0.get_or_insert((now, false));
        if !*told && now >= *since + self.shared.election_timeout {
            *told = true;
            let limit = humantime::format_duration(self.shared.election_timeout);
            tracing::warn!(election = %self.name, reason = %why,
                "nobody could be elected for {limit}, the election timeout");
        }
    }
}

impl OwnTenure {
    fn hint(&mut self, asked: &Asked, answer: &Result<Answer, StoreError>) -> Option<Hint> {
        match (answer, &asked.release) {
            (Ok(Answer::Acquired(Acquired::Won { epoch, .. })), _) => {
                let new = self.began.replace(*epoch) != Some(*epoch);
                new.then_some(Hint::Began(*epoch))
            }
            (Ok(Answer::Released(Released::Released)), Some((epoch, prefer))) => {
                let (epoch, prefer) = (*epoch, prefer.clone());
                let new = self.ended.replace(epoch) != Some(epoch);
                new.then_some(Hint::Ended { epoch, prefer })
            }
            _ => None,
        }
    }
}
