//! The file store's own matters: its files, its fitness checks, damage, other boots,
//! stopped writers, wake-ups. What every store must do is in the conformance suite.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "file_store/boots.rs"]
mod boots;
#[path = "file_store/common.rs"]
mod common;
#[path = "file_store/damage.rs"]
mod damage;
#[path = "file_store/processes.rs"]
mod processes;
#[path = "file_store/records.rs"]
mod records;
#[path = "file_store/watches.rs"]
mod watches;
