//! Leader election beside any app.
pub mod backend;
pub mod lease;
pub mod machine;
pub mod memory;
pub mod sidecar;
pub mod time;
