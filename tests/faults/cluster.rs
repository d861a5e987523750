//! Some sidecars of one election, watched and written through all the time.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::history::{Answer, At, Fate, Recorder, Write};
use super::http::Http;
use super::node::{Node, Setup};
use super::oracle;
use super::watchers::{self, Place};

/// The lease of most tests; renewed every 333 ms, a call may take 166 ms.
pub const TTL: Duration = Duration::from_secs(1);
/// A bound for what takes as long as a busy machine needs.
pub const SOON: Duration = Duration::from_secs(20);

/// What `/status` calls the longest leaderless time after a crash, at that lease:
/// checked against a node at each start.
pub const WORST: Duration = Duration::from_millis(1345);
/// What a hold adds, where a store lost data: the TTL, lengthened for drift.
pub const HOLD: Duration = Duration::from_millis(1012);

/// A leadership, as first heard of.
#[derive(Clone, Copy, Debug)]
pub struct Lead {
    pub node: usize,
    pub epoch: u64,
    /// When the answer that told of it was received.
    pub at: At,
}

pub struct Cluster {
    pub recorder: Recorder,
    members: Vec<Member>,
}

struct Member {
    setup: Setup,
    place: Arc<Place>,
    node: Option<Node>,
}

impl Cluster {
    /// Starts a node on each store URL; they are called `n0`, `n1`, …
    pub fn start(stores: &[String]) -> Self {
        let ttl = format!("{}ms", TTL.as_millis());
        Self::start_with(stores, |setup| setup.flag("--ttl", &ttl))
    }

    pub fn start_with(stores: &[String], shape: impl Fn(Setup) -> Setup) -> Self {
        let setups = stores.iter().enumerate();
        let setups = setups.map(|(index, store)| shape(Setup::new(&format!("n{index}"), store)));
        Self::of(setups.collect())
    }

    pub fn of(setups: Vec<Setup>) -> Self {
        let mut cluster = Self::idle(setups);
        for index in 0..cluster.members.len() {
            cluster.launch(index);
        }
        cluster
    }

    /// Watches nodes that are yet to be launched.
    pub fn idle(setups: Vec<Setup>) -> Self {
        let recorder = Recorder::new();
        let members = setups.into_iter().enumerate().map(|(index, setup)| {
            let place = Arc::new(Place::default());
            watchers::watch(index, &place, &recorder);
            Member {
                setup,
                place,
                node: None,
            }
        });
        Self {
            members: members.collect(),
            recorder,
        }
    }

    pub fn launch(&mut self, index: usize) {
        let member = &mut self.members[index];
        assert!(member.node.is_none(), "{} runs", member.setup.id);
        let node = Node::start(&member.setup);
        member.place.move_to(Some(node.address));
        member.node = Some(node);
        let timing = &self.http(index).get("/status").unwrap().json()["timing"];
        if timing["ttl_ms"] == 1000 {
            assert!(
                timing["worst_case_failover_ms"].as_u64() <= Some(1345),
                "{timing}"
            );
        }
    }

    pub fn node(&self, index: usize) -> &Node {
        self.members[index].node.as_ref().unwrap()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whoever does not lead: the first of them.
    pub fn other(&self, than: usize) -> usize {
        (0..self.len()).find(|index| *index != than).unwrap()
    }

    pub fn runs(&self, index: usize) -> bool {
        self.members[index].node.is_some()
    }

    fn take(&mut self, index: usize) -> Node {
        let member = &mut self.members[index];
        member.place.move_to(None);
        member.node.take().unwrap()
    }

    /// SIGKILL.
    pub fn kill(&mut self, index: usize) {
        self.take(index).kill();
    }

    /// SIGTERM; exits with 0.
    pub fn stop(&mut self, index: usize) {
        // It is watched while it stops: that is when it may say too much.
        let node = self.members[index].node.take().unwrap();
        let status = node.stop();
        assert!(status.success(), "{status}");
        self.members[index].place.move_to(None);
    }

    pub fn pause(&self, index: usize) {
        self.node(index).signal(Signal::STOP);
    }

    pub fn resume(&self, index: usize) {
        self.node(index).signal(Signal::CONT);
    }

    /// A client of that node's API.
    pub fn http(&self, index: usize) -> Http {
        Http::new(self.node(index).address, SOON)
    }

    /// `/status` now; recorded like any other answer.
    pub fn ask(&self, index: usize) -> Answer {
        let sent = self.recorder.now();
        let response = self.http(index).get("/status").unwrap();
        let answer = watchers::answer(index, sent, self.recorder.now(), &response.json());
        self.recorder
            .add(|history| history.answers.push(answer.clone()));
        answer
    }

    /// A checkpoint write by hand, recorded.
    pub fn write(&self, index: usize, token: u64, value: &str) -> (Fate, u16) {
        let mut http = self.http(index);
        watchers::write(&self.recorder, index, &mut http, token, value)
    }

    /// Gives leadership up, with everybody free to try.
    pub fn step_down(&self, index: usize) {
        let json = [("Content-Type", "application/json")];
        let body = br#"{"cooldown_ms":0,"wait_ms":5000}"#;
        let mut http = self.http(index);
        let response = http.ask("POST", "/leadership/stepdown", &json, body);
        assert!(matches!(response.unwrap().status, 200 | 503));
    }

    /// Who leads now.
    pub fn leader(&self) -> Lead {
        let now = self.recorder.now();
        self.first_lead("a leader", SOON, |answer| answer.sent >= now)
    }

    /// Waits until every node is connected and has heard of that leadership: only from then
    /// on is an answer that says otherwise news.
    pub fn all_know(&self, lead: Lead) {
        for index in 0..self.len() {
            self.wait_for(index, "knows who leads", |answer| {
                answer.connected && answer.term == Some(lead.epoch)
            });
        }
    }

    /// The first leadership above `epoch`, at most `bound` after `since`.
    pub fn leader_after(&self, epoch: u64, since: At, bound: Duration) -> Lead {
        let lead = self.first_lead("a next leader", SOON, |answer| {
            answer.token > Some(epoch) && answer.received >= since
        });
        let took = lead.at.saturating_sub(since);
        let allowance = self.recorder.allowance();
        assert!(
            took <= bound + allowance,
            "leaderless for {took:?}; {bound:?} is the bound and {allowance:?} the allowance"
        );
        lead
    }

    pub fn first_lead(
        &self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Lead {
        self.recorder.wait(what, bound, |history| {
            let wanted = |a: &&Answer| a.is_leader && wanted(a);
            let first = history.answers.iter().find(wanted)?;
            Some(Lead {
                node: first.node,
                epoch: first.token?,
                at: first.received,
            })
        })
    }

    /// Until when a leader that was killed may have told its app that it leads: nobody
    /// else may lead before.
    pub fn promised(&self, lead: Lead) -> At {
        let history = self.recorder.history();
        let own = |a: &&Answer| a.is_leader && a.token == Some(lead.epoch);
        let until = |a: &Answer| Some(a.sent + a.left?);
        history
            .answers
            .iter()
            .filter(own)
            .filter_map(until)
            .max()
            .unwrap()
    }

    /// Waits for an answer of that node, asked from now on.
    pub fn wait_for(&self, index: usize, what: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let now = self.recorder.now();
        self.recorder.wait(what, SOON, |history| {
            let wanted = |a: &&Answer| a.node == index && a.sent >= now && wanted(a);
            history.answers.iter().find(wanted).cloned()
        })
    }

    /// Waits for a leader that works: a write sent from now on and accepted.
    pub fn working_leader(&self) -> Lead {
        self.wait_for_write(0)
    }

    /// Waits for such a write under that epoch, or a later one.
    pub fn wait_for_write(&self, epoch: u64) -> Lead {
        let now = self.recorder.now();
        let wanted = |write: &&Write| {
            let accepted = matches!(write.fate, Fate::Accepted(_));
            accepted && write.sent >= now && write.token >= epoch
        };
        self.recorder.wait("an accepted write", SOON, |history| {
            let last = history.writes.iter().rev().find(wanted)?;
            Some(Lead {
                node: last.node,
                epoch: last.token,
                at: last.received,
            })
        })
    }

    /// The store lost what it does not claim to keep.
    pub fn note_loss(&self) {
        let now = self.recorder.now();
        self.recorder.add(|history| history.losses.push(now));
    }

    /// The verdict of the oracle. Whatever was not stopped must still run.
    pub fn judge(mut self) {
        for member in &mut self.members {
            member.place.end();
            if let Some(node) = &mut member.node {
                assert!(node.runs(), "{} crashed: {}", member.setup.id, node.log());
                let mut http = Http::new(node.address, SOON);
                watchers::read(&self.recorder, &mut http);
            }
        }
        let history = self.recorder.history().clone();
        let leaders = history.answers.iter().filter(|a| a.is_leader).count();
        let accepted = |write: &&Write| matches!(write.fate, Fate::Accepted(_));
        let writes = history.writes.iter().filter(accepted).count();
        assert!(
            leaders > 0 && writes > 0,
            "nobody led or wrote: nothing was tested"
        );
        let found = oracle::judge(&history);
        assert!(found.is_empty(), "violations: {found:#?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &self.members {
            member.place.end();
            // A stopped process ends at SIGKILL all the same.
        }
    }
}
