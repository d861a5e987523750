//! What a member answers one of its peers.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::three::{BOUND, IDS, Three, until};
use super::wire::Wire;
use crate::peers::DiskId;

#[tokio::test]
async fn a_ping_is_answered_by_the_disk_that_has_the_seat_alone() {
    let three = Three::new();
    // Without the third one nothing begins: nobody leads, and nobody is heard.
    let (one, two) = (three.start(0).await, three.start(1).await);
    let id = IDS[1].parse().unwrap();
    let connected = || {
        let peers = one.mesh().peers();
        peers.iter().any(|peer| peer.id == id && peer.connected)
    };
    until("the two are connected", connected).await;
    let own = two.member.options.mesh.identity.disk.clone();
    let other = DiskId::random().unwrap();
    for (disk, promises) in [(Some(own), true), (Some(other), false), (None, false)] {
        let told = format!("{disk:?}");
        let ping = serde_json::to_value(Wire::Ping { disk, last: None }).unwrap();
        let answer = one.member.mesh.call(id, ping, BOUND).await.unwrap();
        assert_eq!(answer, promises, "{told}");
    }
    one.stop().await;
    two.stop().await;
}
