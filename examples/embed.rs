//! An app that elects inside itself: no sidecar, no HTTP.
//!
//! Run it twice, in two terminals, and stop the first with Ctrl-C:
//!
//! ```sh
//! cargo run --example embed -- one
//! cargo run --example embed -- two
//! ```

use std::sync::Arc;
use std::time::Duration;

use tenure::backend::file::{FileStore, default_directory};
use tenure::lease::{Profile, Timing};
use tenure::sidecar::{Options, Sidecar};
use tenure::time::BootClock;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = std::env::args().nth(1).unwrap_or_else(|| "one".to_owned());
    let profile = Profile {
        node: node.parse()?,
        url: None,
        metadata: Vec::new(),
    };
    let store = FileStore::open(default_directory(), Arc::new(BootClock))?;
    let timing = Timing::of_ttl(Duration::from_secs(3))?;
    let options = Options::new("embed".parse()?, profile, timing);
    let sidecar = Sidecar::start(Arc::new(store), &options)?;
    let election = sidecar.elections()[0].clone();

    // Callbacks: in turn, on time, and never in the way of a renewal.
    let _calls = election.on_change(
        |token| println!("acquired: write with fencing token {token}"),
        |token| println!("lost: stop writing with token {token}"),
    )?;

    // A watch: the same, for code that would rather await.
    let mut watch = election.watch()?;
    loop {
        tokio::select! {
            Some(snapshot) = watch.changed() => println!("{node} is now {}", snapshot.state()),
            _ = tokio::signal::ctrl_c() => break,
        }
        // Before each act, ask: the answer is a deadline compared with the clock.
        if let Some(token) = election.fence_token() {
            println!(
                "leading under {token} for {:?}",
                election.snapshot().leads_for(election.clock().now())
            );
        }
    }
    // Not leader, then the lease: the other one leads within milliseconds.
    sidecar.stop().await;
    Ok(())
}
