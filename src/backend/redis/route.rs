//! How the server of a connection is found, at each attempt anew.

use std::sync::Arc;

use super::access::Access;
use super::sentinel::Sentinels;
use super::server::Expected;
use crate::lease::StoreError;
use crate::wire::Endpoint;

pub(super) enum Route {
    /// The one server of the address.
    Alone,
    /// The master that the Sentinels name.
    Master(Arc<Sentinels>),
    /// One node of a cluster.
    Node(Endpoint),
}

impl Route {
    pub(super) fn expected(&self) -> Expected {
        match self {
            Self::Alone => Expected::Alone,
            Self::Master(_) => Expected::Master,
            Self::Node(_) => Expected::Node,
        }
    }

    /// What the user is told it leads to.
    pub(super) fn name(&self, access: &Access) -> String {
        match self {
            Self::Alone | Self::Master(_) => access.name.clone(),
            Self::Node(endpoint) => access.name_of(endpoint, Expected::Node),
        }
    }

    /// Where to connect now.
    ///
    /// # Errors
    /// Where nobody tells.
    pub(super) async fn find(&self, access: &Access) -> Result<Endpoint, StoreError> {
        match self {
            Self::Alone => access.target.servers().first().cloned().ok_or_else(|| {
                StoreError::Misconfigured(format!("{} names no server", access.name))
            }),
            Self::Master(sentinels) => sentinels.find().await,
            Self::Node(endpoint) => Ok(endpoint.clone()),
        }
    }

    /// Ends once the server at `endpoint` is known to be no longer the right one.
    pub(super) async fn moved_from(&self, endpoint: &Endpoint) -> String {
        match self {
            Self::Master(sentinels) => {
                let master = sentinels.another_than(endpoint).await;
                format!("the Sentinels name another master, {master}")
            }
            Self::Alone | Self::Node(_) => std::future::pending().await,
        }
    }
}
