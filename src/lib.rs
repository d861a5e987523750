//! Leader election beside any app.
pub mod api;
pub mod backend;
pub mod cli;
mod client;
pub mod config;
mod exit;
mod lab;
pub mod lease;
pub mod machine;
pub mod memory;
mod process;
pub mod sidecar;
pub mod time;
