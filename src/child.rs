//! The app: started when this node leads, gone before another can.
//!
//! ```text
//! sidecar ---- supervisor      when to start and to stop; what follows an end
//!    |  packets: until, stop, signal; started, exited, gone
//! guard                        the same binary, one for each tenure
//!    |  its own session's child, in a process group of its own
//! the app                      and whatever that starts
//! ```
//! The guard is there for when the sidecar is not: killed, stopped, or late. It knows
//! until when the lease stands and ends the app by then, and at once when the sidecar's
//! end of the socket closes. It is a subreaper, so whatever the app starts becomes its
//! own child when the parent dies, however it detached itself; only when no child is left
//! it says `gone`, and only then the lease is released.
//!
//! The guard itself may be killed or stopped, too. Then the app's main process dies with
//! it (`PR_SET_PDEATHSIG`), and the sidecar, a subreaper as well, ends what is left. What
//! escapes is a process that the kernel cannot end (an uninterruptible sleep), and one
//! that outlives both when both are killed at once: that is what the fence is for.

mod forwarded;
mod guard;
mod guarded;
mod message;
mod policy;
mod report;
mod running;
mod supervisor;
mod tree;

pub use guard::{EXEC_COMMAND, GUARD_COMMAND, exec, guard};
pub use report::{Report, Status};
pub use running::{Running, Setup};
pub use tree::reap_orphans;

use std::time::Duration;

/// How much before the end of the lease the app is killed: what a kill takes, on top.
fn margin(stop_budget: Duration) -> Duration {
    (stop_budget / 5).min(Duration::from_millis(250))
}
