//! The ways to the server that has an election's keys: one link, or one to each node
//! of a cluster.

use std::sync::{Arc, OnceLock};

use redis::Value;

use super::access::Access;
use super::acknowledged::Change;
use super::cluster::{Charting, Cluster};
use super::link::{Duty, Link, Live, Request};
use super::route::Route;
use super::scripts::Named;
use super::sentinel::{Listeners, Sentinels};
use super::supervisor::Kept;
use super::target::Topology;
use super::topic::Topic;
use crate::lease::StoreError;

/// A script's arguments, made for the server that will answer.
pub(super) type Arguments<'a> = dyn Fn(&Live) -> Vec<Vec<u8>> + Send + Sync + 'a;

/// A script on the keys of one election.
pub(super) struct Asked<'a> {
    pub script: &'a Named,
    pub keys: &'a [&'a str],
    /// The election's channel; its slot is that of the keys.
    pub channel: &'a str,
    pub arguments: &'a Arguments<'a>,
    /// What may have to be acknowledged by replicas.
    pub change: Change,
}

/// An answer, and where it came from.
pub(super) struct Answered {
    pub value: Value,
    pub link: Arc<Link>,
    pub live: Live,
}

impl Asked<'_> {
    /// Runs the script at the server of that link.
    pub(super) async fn run(
        &self,
        link: &Link,
        live: &Live,
        asking: bool,
    ) -> Result<Value, super::trouble::Trouble> {
        let arguments = (self.arguments)(live);
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let request = Request {
            script: self.script,
            keys: self.keys,
            arguments: &arguments,
            asking,
        };
        link.run(live, &request).await
    }
}

/// Dropped with the last store, election and stream: the connections end then.
pub(super) enum Ways {
    /// One server at a time.
    One(One),
    /// The nodes of a cluster.
    Many {
        access: Arc<Access>,
        cluster: Arc<Cluster>,
        _charting: Charting,
    },
}

pub(super) struct One {
    access: Arc<Access>,
    main: Kept,
    /// Where replicas are waited for: WAIT holds up whatever comes after it. Made when it is
    /// first needed.
    waiting: OnceLock<Kept>,
    sentinels: Option<Arc<Sentinels>>,
    _listeners: Option<Listeners>,
}

impl One {
    fn kept(access: &Arc<Access>, sentinels: Option<&Arc<Sentinels>>, duty: Duty) -> Kept {
        let route = match sentinels {
            Some(sentinels) => Route::Master(Arc::clone(sentinels)),
            None => Route::Alone,
        };
        Kept::new(Link::new(Arc::clone(access), route, duty, || {}))
    }

    fn waiting(&self) -> Arc<Link> {
        let make = || Self::kept(&self.access, self.sentinels.as_ref(), Duty::Commands);
        Arc::clone(&self.waiting.get_or_init(make).link)
    }

    /// The link for such a change, connected.
    async fn link_for(&self, change: Change) -> Result<(Arc<Link>, Live), StoreError> {
        if change.replicas(&self.access, 0) == 0 {
            let main = Arc::clone(&self.main.link);
            let live = main.live().await?;
            if change.replicas(&self.access, live.ensured) == 0 {
                return Ok((main, live));
            }
        }
        let waiting = self.waiting();
        let live = waiting.live().await?;
        Ok((waiting, live))
    }
}

impl Ways {
    pub(super) fn open(access: Arc<Access>) -> Self {
        let sentinels = match access.target.topology() {
            Topology::Cluster => {
                let cluster = Arc::new(Cluster::new(Arc::clone(&access)));
                return Self::Many {
                    access,
                    _charting: cluster.keep_charted(),
                    cluster,
                };
            }
            Topology::Alone => None,
            Topology::Sentinel { master } => {
                Some(Arc::new(Sentinels::new(Arc::clone(&access), master)))
            }
        };
        let one = One {
            main: One::kept(&access, sentinels.as_ref(), Duty::All),
            waiting: OnceLock::new(),
            _listeners: sentinels.as_ref().map(Sentinels::listen),
            sentinels,
            access,
        };
        if one.access.wait > 0 {
            one.waiting();
        }
        Self::One(one)
    }

    pub(super) fn access(&self) -> &Arc<Access> {
        match self {
            Self::One(one) => &one.access,
            Self::Many { access, .. } => access,
        }
    }

    /// Runs a script where the election's keys are.
    pub(super) async fn run(&self, asked: &Asked<'_>) -> Result<Answered, StoreError> {
        let one = match self {
            Self::One(one) => one,
            Self::Many { cluster, .. } => return cluster.run(asked).await,
        };
        let (link, live) = one.link_for(asked.change).await?;
        let value = asked.run(&link, &live, false).await;
        let value = value.map_err(|trouble| trouble.error)?;
        Ok(Answered { value, link, live })
    }

    pub(super) fn topic(&self, channel: &str) -> Arc<Topic> {
        match self {
            Self::One(one) => one.main.link.topic(channel),
            Self::Many { cluster, .. } => cluster.topic(channel),
        }
    }

    /// Makes subscriptions follow the listeners.
    pub(super) fn listeners_changed(&self) {
        match self {
            Self::One(one) => one.main.link.listeners_changed(),
            Self::Many { cluster, .. } => cluster.place(),
        }
    }
}
