//! The ways to the server that has an election's keys: one link, or one to each node
//! of a cluster.

use std::sync::Arc;

use redis::Value;

use super::access::Access;
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
    /// Over the connection on which replicas are waited for.
    pub waits: bool,
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
    /// Where replicas are waited for: WAIT holds up whatever comes after it.
    waiting: Option<Kept>,
    _listeners: Option<Listeners>,
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
        let kept = |duty| {
            let route = match &sentinels {
                Some(sentinels) => Route::Master(Arc::clone(sentinels)),
                None => Route::Alone,
            };
            Kept::new(Link::new(Arc::clone(&access), route, duty, || {}))
        };
        Self::One(One {
            main: kept(Duty::All),
            waiting: (access.wait > 0).then(|| kept(Duty::Commands)),
            _listeners: sentinels.as_ref().map(Sentinels::listen),
            access,
        })
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
        let kept = match &one.waiting {
            Some(waiting) if asked.waits => waiting,
            _ => &one.main,
        };
        let link = Arc::clone(&kept.link);
        let live = link.live().await?;
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
