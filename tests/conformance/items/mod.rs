//! The items, by what they are about.

pub mod checkpoints;
pub mod counter;
pub mod crowds;
pub mod data_loss;
pub mod deadlines;
pub mod epochs;
pub mod grants;
pub mod hints;
pub mod releases;
pub mod renewals;
pub mod troubles;
