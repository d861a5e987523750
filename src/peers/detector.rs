//! Who is suspected of being down: pure, every call is told the time.
//!
//! A suspicion is a guess. A peer that is only slow, or cut off, is suspected too, and
//! nothing here may decide who leads; it decides who is asked, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use super::MemberId;
use crate::time::Moment;

/// What changed about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was heard of it for too long, or its port refuses connections.
    Suspected(MemberId),
    /// It was suspected, and was heard.
    Recovered(MemberId),
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    heard: Moment,
    suspected: bool,
}

/// Watches the peers of one node.
#[derive(Clone, Debug)]
pub struct Detector {
    suspect_after: Duration,
    peers: BTreeMap<MemberId, Peer>,
}

impl Detector {
    /// Nobody is suspected at first: each peer has `suspect_after` to be heard.
    #[must_use]
    pub fn new(
        now: Moment,
        suspect_after: Duration,
        peers: impl IntoIterator<Item = MemberId>,
    ) -> Self {
        let fresh = Peer {
            heard: now,
            suspected: false,
        };
        let peers = peers.into_iter().map(|id| (id, fresh)).collect();
        Self {
            suspect_after,
            peers,
        }
    }

    /// Something of this peer arrived.
    pub fn heard(&mut self, now: Moment, id: MemberId) -> Option<Verdict> {
        let peer = self.peers.get_mut(&id)?;
        peer.heard = peer.heard.max(now);
        std::mem::take(&mut peer.suspected).then_some(Verdict::Recovered(id))
    }

    /// The peer's port refuses connections: its process is gone, and no wait is needed.
    pub fn refused(&mut self, id: MemberId) -> Option<Verdict> {
        let peer = self.peers.get_mut(&id)?;
        let fresh = !std::mem::replace(&mut peer.suspected, true);
        fresh.then_some(Verdict::Suspected(id))
    }

    /// Time went on.
    pub fn step(&mut self, now: Moment) -> Vec<Verdict> {
        let after = self.suspect_after;
        let silent = |peer: &Peer| !peer.suspected && now >= peer.heard + after;
        let fresh = self.peers.iter_mut().filter(|(_, peer)| silent(peer));
        fresh
            .map(|(id, peer)| {
                peer.suspected = true;
                Verdict::Suspected(*id)
            })
            .collect()
    }

    /// When [`Detector::step`] has something to say, if nothing is heard until then.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        let open = self.peers.values().filter(|peer| !peer.suspected);
        open.map(|peer| peer.heard + self.suspect_after).min()
    }

    /// Whether this peer is suspected now.
    #[must_use]
    pub fn suspects(&self, id: MemberId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.suspected)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::time::{Clock as _, ManualClock, UnixMs};

    #[test]
    fn silence_is_suspected_at_the_moment_and_a_word_clears_it() {
        let [a, b] = ["a", "b"].map(|id| id.parse::<MemberId>().unwrap());
        let clock = ManualClock::new(Moment::from_millis(500), UnixMs(0));
        let mut seen = Detector::new(clock.now(), Duration::from_secs(3), [a, b]);
        clock.advance(Duration::from_secs(1));
        assert_eq!(seen.heard(clock.now(), b), None);
        assert_eq!(seen.wake_at(), Some(Moment::from_millis(3500)));
        clock.advance(Duration::from_millis(1999));
        assert_eq!(seen.step(clock.now()), []);
        clock.advance(Duration::from_millis(1));
        assert_eq!(seen.step(clock.now()), [Verdict::Suspected(a)]);
        assert_eq!(seen.step(clock.now()), [], "told once");
        assert_eq!(seen.wake_at(), Some(Moment::from_millis(4500)));
        assert_eq!(seen.heard(clock.now(), a), Some(Verdict::Recovered(a)));
        assert!(!seen.suspects(a));
        assert_eq!(seen.refused(b), Some(Verdict::Suspected(b)));
        assert_eq!(seen.refused(b), None, "told once");
        clock.advance(Duration::from_secs(3));
        assert_eq!(seen.step(clock.now()), [Verdict::Suspected(a)]);
        assert_eq!(seen.wake_at(), None);
        assert_eq!(
            seen.heard(clock.now(), "z".parse().unwrap()),
            None,
            "no member"
        );
    }
}
