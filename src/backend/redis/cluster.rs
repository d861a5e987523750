//! Redis Cluster: which node an election's keys are at, and a link to each node that
//! is needed.
//!
//! All keys of an election have one hash tag, so that they are in one slot, at one
//! node. The map of slots is asked of any node, and asked again whenever a node turns
//! a request away or a connection is lost; in between the nodes' own words are
//! followed (MOVED, ASK), so that a slot may move under a leader.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::access::Access;
use super::acknowledged::Change;
use super::chart::{Chart, Charted, LOOK_EVERY};
use super::link::{Duty, Link, Live};
use super::route::Route;
use super::slots::{redirected, slot_of};
use super::supervisor::Kept;
use super::topic::Topic;
use super::trouble::{Trouble, Turn};
use super::ways::{Answered, Asked};
use crate::lease::StoreError;
use crate::time::{Moment, pause, within};
use crate::wire::Endpoint;

/// Between attempts while some keys of an election are here and some there.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// What a link to a node is for. Grants that replicas must acknowledge have a
/// connection of their own: WAIT holds up whatever comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Use {
    Commands,
    Waiting,
    Hints,
}

/// A topic, and the node that it is heard from.
struct Placed {
    topic: Arc<Topic>,
    at: Option<Endpoint>,
}

pub(super) struct Cluster {
    access: Arc<Access>,
    links: Mutex<HashMap<(Endpoint, Use), Kept>>,
    topics: Mutex<HashMap<String, Placed>>,
    chart: watch::Sender<Charted>,
    /// Asks for a look at the slots.
    look: Notify,
}

impl Cluster {
    pub(super) fn new(access: Arc<Access>) -> Self {
        Self {
            access,
            links: Mutex::default(),
            topics: Mutex::default(),
            chart: watch::channel(Charted::Looking).0,
            look: Notify::new(),
        }
    }

    fn links(&self) -> MutexGuard<'_, HashMap<(Endpoint, Use), Kept>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Placed>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link to a node, made where there is none.
    fn link(self: &Arc<Self>, node: &Endpoint, purpose: Use) -> Arc<Link> {
        let mut links = self.links();
        let kept = links
            .entry((node.clone(), purpose))
            .or_insert_with(|| Kept::new(self.new_link(node, purpose)));
        Arc::clone(&kept.link)
    }

    /// The link to a node for such a change, connected.
    async fn link_for(
        self: &Arc<Self>,
        node: &Endpoint,
        change: Change,
    ) -> Result<(Arc<Link>, Live), StoreError> {
        if change.replicas(&self.access, 0) == 0 {
            let link = self.link(node, Use::Commands);
            let live = link.live().await?;
            if change.replicas(&self.access, live.ensured) == 0 {
                return Ok((link, live));
            }
        }
        let link = self.link(node, Use::Waiting);
        let live = link.live().await?;
        Ok((link, live))
    }

    fn new_link(self: &Arc<Self>, node: &Endpoint, purpose: Use) -> Link {
        let duty = match purpose {
            Use::Commands | Use::Waiting => Duty::Commands,
            Use::Hints => Duty::Hints,
        };
        let (cluster, at) = (Arc::downgrade(self), node.clone());
        let on_trouble = move || {
            if let Some(cluster) = Weak::upgrade(&cluster) {
                cluster.troubled(&at, purpose);
            }
        };
        let route = Route::Node(node.clone());
        Link::new(Arc::clone(&self.access), route, duty, on_trouble)
    }

    /// The slots may have moved. Who does not answer commands is not heard, either.
    fn troubled(&self, node: &Endpoint, purpose: Use) {
        self.look.notify_one();
        if purpose == Use::Commands {
            let links = self.links();
            let hints = links.get(&(node.clone(), Use::Hints));
            let hints = hints.map(|kept| Arc::clone(&kept.link));
            drop(links);
            if let Some(hints) = hints {
                hints.cut_any("its node does not answer commands");
            }
        }
    }

    /// Runs a script at the node that has its keys, wherever that is by now. Every
    /// turn that a node gives it has applied nothing, so that it may be sent again.
    pub(super) async fn run(self: &Arc<Self>, asked: &Asked<'_>) -> Result<Answered, StoreError> {
        let slot = slot_of(asked.channel);
        let begun = self.access.clock.now();
        let mut to = None;
        loop {
            let (node, asking) = match to.take() {
                Some(told) => told,
                None => (self.owner(slot).await?, false),
            };
            let (link, live) = self.link_for(&node, asked.change).await?;
            let trouble = match asked.run(&link, &live, asking).await {
                Ok(value) => return Ok(Answered { value, link, live }),
                Err(trouble) => trouble,
            };
            match &trouble.turn {
                Some(Turn::Moved(told)) => {
                    if let Some((slot, owner)) = redirected(told, &node) {
                        self.note_moved(slot, &owner);
                        to = Some((owner, false));
                    }
                    self.look.notify_one();
                }
                Some(Turn::Ask(told)) => to = redirected(told, &node).map(|(_, at)| (at, true)),
                Some(Turn::TryAgain) => pause(TRY_AGAIN).await,
                Some(Turn::Down) => {
                    self.look.notify_one();
                    return Err(trouble.error);
                }
                None => return Err(trouble.error),
            }
            self.while_there_is_time(begun, &trouble)?;
        }
    }

    /// A turn is followed while the caller still waits for an answer: after that, a
    /// request would be sent that nobody hears of.
    fn while_there_is_time(&self, begun: Moment, trouble: &Trouble) -> Result<(), StoreError> {
        let spent = self.access.clock.now().since(begun);
        if spent < self.access.call_timeout * 3 / 4 {
            return Ok(());
        }
        if trouble.turn == Some(Turn::TryAgain) {
            return Err(trouble.error.clone());
        }
        Err(StoreError::Unavailable(format!(
            "a node of {} sent the request on to another one, and too late: its slots are being \
             moved, or its nodes disagree (redis-cli --cluster check)",
            self.access.name
        )))
    }

    fn note_moved(&self, slot: u16, owner: &Endpoint) {
        self.chart.send_modify(|charted| {
            if let Charted::Known(chart) = charted {
                chart.slots.moved(slot, owner.clone());
            }
        });
    }

    /// The node that has a slot. A first look under way is waited for, as
    /// [`Link::live`] waits.
    async fn owner(&self, slot: u16) -> Result<Endpoint, StoreError> {
        let mut chart = self.chart.subscribe();
        let looked = chart.wait_for(|charted| !matches!(charted, Charted::Looking));
        let charted = match within(self.access.call_timeout / 2, looked).await {
            Some(Ok(charted)) => charted.clone(),
            _ => Charted::Looking,
        };
        let address = &self.access.name;
        match charted {
            Charted::Known(chart) => chart.slots.owner(slot).cloned().ok_or_else(|| {
                self.look.notify_one();
                StoreError::Unavailable(format!(
                    "no node of {address} has slot {slot}: give it to one (redis-cli --cluster fix)"
                ))
            }),
            Charted::Failed(error) => Err(error),
            Charted::Looking => Err(StoreError::Unavailable(format!(
                "still looking for the nodes of {address}"
            ))),
        }
    }

    /// The topic of that channel.
    pub(super) fn topic(&self, channel: &str) -> Arc<Topic> {
        let mut topics = self.topics();
        let placed = topics.entry(channel.to_owned()).or_insert_with(|| Placed {
            topic: Arc::new(Topic::new(channel)),
            at: None,
        });
        Arc::clone(&placed.topic)
    }

    /// Hears each topic that somebody listens to from the node that has its slot.
    pub(super) fn place(self: &Arc<Self>) {
        let Charted::Known(chart) = self.chart.borrow().clone() else {
            return;
        };
        let heard: HashSet<Endpoint> = {
            let links = self.links();
            let hints = links.keys().filter(|(_, purpose)| *purpose == Use::Hints);
            hints.map(|(node, _)| node.clone()).collect()
        };
        let mut moves = Vec::new();
        self.topics().retain(|channel, placed| {
            // Its node was gone for a while, and the link to it was given up.
            placed.at = placed.at.take().filter(|at| heard.contains(at));
            let own = 1 + usize::from(placed.at.is_some());
            let held = Arc::strong_count(&placed.topic) > own || placed.topic.has_listeners();
            let wanted = held && placed.topic.has_listeners();
            let owner = chart.slots.owner(slot_of(channel)).cloned();
            let to = if wanted { owner } else { None };
            // One that rests stays where it is, until it is wanted elsewhere.
            if placed.at != to && (to.is_some() || !held) {
                moves.push((Arc::clone(&placed.topic), placed.at.clone(), to.clone()));
                placed.at = to;
            }
            held
        });
        for (topic, from, to) in moves {
            if let Some(from) = from {
                self.link(&from, Use::Hints).leave(topic.channel());
                topic.cut();
            }
            if let Some(to) = to {
                self.link(&to, Use::Hints).adopt(&topic);
            }
        }
        let links = self.links();
        for ((_, purpose), kept) in links.iter() {
            if *purpose == Use::Hints {
                kept.link.listeners_changed();
            }
        }
    }

    /// Links to nodes that have no slot and cannot be reached are given up.
    fn forget_the_gone(&self, chart: &Chart) {
        let masters = chart.slots.masters();
        let mut links = self.links();
        links.retain(|(node, _), kept| masters.contains(node) || kept.link.is_up());
    }

    /// Draws the map, again and again as it is asked for, until this is dropped.
    pub(super) fn keep_charted(self: &Arc<Self>) -> Charting {
        let cluster = Arc::clone(self);
        Charting(tokio::spawn(async move { cluster.chart_on().await }).abort_handle())
    }

    async fn chart_on(self: Arc<Self>) {
        let mut told = None;
        let mut failures = 0;
        loop {
            let known = match &*self.chart.borrow() {
                Charted::Known(chart) => Some(chart.clone()),
                _ => None,
            };
            let drawn = Chart::draw(&self.access, known.as_ref()).await;
            failures = if drawn.is_err() { failures + 1 } else { 0 };
            if told.as_ref() != drawn.as_ref().err() {
                told = drawn.as_ref().err().cloned();
                if let Some(error) = &told {
                    tracing::warn!(store = %self.access.name, %error, "the slots are not known");
                }
            }
            match drawn {
                Ok(chart) => {
                    self.forget_the_gone(&chart);
                    self.chart.send_replace(Charted::Known(chart));
                    self.place();
                }
                Err(error) if known.is_none() => {
                    self.chart.send_replace(Charted::Failed(error));
                    self.look.notify_one();
                }
                // What is known may still do; whoever meets trouble asks again.
                Err(_) => {}
            }
            if failures > 0 {
                // What was refused may have been rotated meanwhile.
                self.access.credentials.look_again().await;
            }
            pause(LOOK_EVERY * (1 << failures.min(3))).await;
            self.look.notified().await;
        }
    }
}

/// Draws maps until it is dropped.
pub(super) struct Charting(AbortHandle);

impl Drop for Charting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
