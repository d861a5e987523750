//! One suite for every backend: what a store must do so that leases can rest on it.
//!
//! Each item is written once, against [`tenure::backend::Store`] and a small
//! [`fixture::Fixture`], and runs against every backend, one test each. A store that
//! is not installed is a failure, not a skip. What a backend cannot do, it must say
//! in its guarantees.
//!
//! To add a backend: a fixture in `conformance/backends/`, and one `suite!` below.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[cfg(feature = "redis")]
#[path = "support/cluster_server.rs"]
mod cluster_server;
#[cfg(feature = "etcd")]
#[path = "support/etcd.rs"]
mod etcd_server;
#[path = "support/fault.rs"]
mod fault;
#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/node.rs"]
mod node;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/recorder.rs"]
mod recorder;
#[cfg(feature = "redis")]
#[path = "support/redis.rs"]
mod redis_server;
#[cfg(feature = "redis")]
#[path = "support/sentinel_set.rs"]
mod sentinel_set;

#[path = "conformance/bench.rs"]
mod bench;
#[path = "conformance/candidate.rs"]
mod candidate;
#[path = "conformance/fixture.rs"]
mod fixture;

#[path = "conformance/backends/mod.rs"]
mod backends;
#[path = "conformance/items/mod.rs"]
mod items;

/// A test that takes longer hangs.
const TEST_BOUND: std::time::Duration = std::time::Duration::from_secs(120);

macro_rules! tests {
    ($fixture:ty; $($module:ident::$item:ident,)*) => {$(
        #[tokio::test]
        async fn $item() {
            let bench = crate::bench::Bench::start::<$fixture>(stringify!($item)).await;
            let item = crate::items::$module::$item(&bench);
            tenure::time::within(crate::TEST_BOUND, item).await.expect("it hangs");
            bench.judge();
        }
    )*};
}

macro_rules! suite {
    ($backend:ident: $fixture:ty) => {
        mod $backend {
            tests! {
                $fixture;
                grants::t01_an_empty_store_grants_above_the_floor,
                grants::t02_a_second_candidate_is_told_the_holder,
                grants::t03_of_many_racing_one_wins,
                grants::t04_the_same_session_finds_its_grant_again,
                grants::t05_a_new_session_of_the_same_node_is_held_off,
                epochs::t06_epochs_rise_through_everything,
                epochs::t07_the_epoch_survives_the_lease,
                epochs::t08_the_floor_is_honoured,
                epochs::t09_what_is_out_of_range_is_refused,
                renewals::t10_a_renewal_extends,
                renewals::t11_a_renewal_by_another_is_lost,
                renewals::t12_a_renewal_after_expiry_is_lost,
                deadlines::t13_deadline_counts_from_the_send,
                releases::t14_release_by_another_changes_nothing,
                releases::t15_releasing_twice_is_safe,
                releases::t16_release_wakes_a_follower,
                deadlines::t17_expiry_is_in_time_and_never_early,
                hints::t18_the_stream_begins_with_the_present,
                hints::t19_after_a_cut_a_gap_and_the_state,
                hints::t20_no_wake_up_is_lost_to_a_race,
                troubles::t21_a_black_hole_ends_calls_and_heals,
                troubles::t22_a_lost_reply_to_acquire_is_resolved,
                troubles::t23_a_lost_reply_to_release_is_resolved,
                checkpoints::t24_validate_judges_every_token,
                checkpoints::t25_checkpoint_is_fenced_and_kept,
                data_loss::t26_lost_data_repeats_no_epoch,
                releases::t27_a_dead_successor_costs_two_calls,
                grants::t28_metadata_comes_back_unchanged,
                crowds::t29_elections_are_isolated,
                deadlines::t30_a_waiter_that_was_stopped_does_not_lead,
                crowds::t31_a_hundred_elections_over_one_connection,
                counter::t32_a_counter_under_chaos_is_exact,
            }
        }
    };
}

#[cfg(feature = "memory")]
suite!(memory: crate::backends::memory::Memory);
#[cfg(feature = "file")]
suite!(file: crate::backends::file::File);
#[cfg(feature = "etcd")]
suite!(etcd_3_4: crate::backends::etcd::Etcd34);
#[cfg(feature = "etcd")]
suite!(etcd_3_5: crate::backends::etcd::Etcd35);
#[cfg(feature = "etcd")]
suite!(etcd_3_4_cluster: crate::backends::etcd::Etcd34Cluster);
#[cfg(feature = "etcd")]
suite!(etcd_3_5_cluster: crate::backends::etcd::Etcd35Cluster);
#[cfg(feature = "raft")]
suite!(raft: crate::backends::raft::Raft);
#[cfg(feature = "redis")]
suite!(redis: crate::backends::redis::Redis);
#[cfg(feature = "redis")]
suite!(redis_sentinel: crate::backends::redis_sentinel::Sentinel);
#[cfg(feature = "redis")]
suite!(redis_cluster: crate::backends::redis_cluster::Cluster);
#[cfg(feature = "quorum")]
suite!(bully: crate::backends::quorum::Bully);
#[cfg(feature = "quorum")]
suite!(ring: crate::backends::quorum::Ring);
