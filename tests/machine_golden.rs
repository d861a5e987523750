//! Golden transcripts of the election machine: what it does, moment by moment, in a
//! form that a person can read. `UPDATE_GOLDEN=1 cargo test --test machine_golden`
//! writes them anew; read the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "machine_golden/following.rs"]
mod following;
#[path = "machine_golden/giving_up.rs"]
mod giving_up;
#[path = "machine_golden/shown.rs"]
mod shown;
#[path = "machine_golden/transcript.rs"]
mod transcript;
#[path = "machine_golden/trouble.rs"]
mod trouble;
#[path = "machine_golden/winning.rs"]
mod winning;
