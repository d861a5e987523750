//! Faults, injected into real processes and real servers, under the eyes of an
//! oracle that records every answer and every write and judges them afterwards.

#![cfg(all(feature = "file", feature = "redis"))]
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/cluster_server.rs"]
mod cluster_server;
#[cfg(feature = "etcd")]
#[path = "support/etcd.rs"]
mod etcd_server;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "support/redis_tls.rs"]
mod redis_tls;
#[path = "support/sentinel_set.rs"]
mod sentinel_set;

mod faults {
    #[cfg(feature = "etcd")]
    use super::etcd_server;
    use super::{certificates, redis_server, redis_tls};

    mod clocks;
    mod cluster;
    #[cfg(feature = "etcd")]
    mod etcd;
    mod failover;
    mod forgetting;
    mod history;
    mod http;
    mod network;
    mod node;
    mod oracle;
    mod planted;
    mod processes;
    mod proxy;
    mod redis_cluster;
    mod refusals;
    mod rotation;
    mod sentinel;
    mod soak;
    mod stores;
    mod watchers;
}
