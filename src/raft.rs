//! A lease register that the members keep among themselves in a log, replicated by Raft
//! (D. Ongaro, J. Ousterhout, *In Search of an Understandable Consensus Algorithm*, 2014),
//! with `openraft` and `redb` below and the members' own way, [`crate::peers`], between.
//!
//! The lease is a record of the replicated state, not Raft's leadership: any number of
//! elections live in one log, and the app that leads need not be where the Raft leader
//! is. No replica's clock decides anything when an entry is applied. A lease ends by an
//! entry, too: each replica notes on its own clock when it applied a grant or a renewal,
//! which is after that was sent, and the Raft leader proposes the end once the TTL,
//! lengthened for drift, is over since. A renewal that came first wins, because the
//! proposal names the change that it is about.

mod disk;
mod duties;
mod ending;
mod farewell;
mod first_start;
mod leading;
mod log;
mod member;
mod network;
mod node;
mod options;
mod proposals;
mod receiving;
mod records;
mod replica;
mod seating;
mod seats;
mod serving;
mod stamps;
mod status;
mod types;
mod wire;

pub use disk::DiskError;
pub use node::{RaftError, RaftNode};
pub use options::{MOST_VOTERS, RaftOptions, RaftTimes};
pub use records::{Change, Outcome, Record, Records, Request};
pub use stamps::{Stamps, Until};

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod ending_tests;
#[cfg(test)]
mod receiving_tests;
#[cfg(test)]
mod seating_tests;
#[cfg(test)]
mod serving_tests;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod three;
