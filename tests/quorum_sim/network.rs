//! The network: what is lost, doubled, delayed, cut.

use tenure::peers::MemberId;
use tenure::quorum::Envelope;

use crate::world::{Event, World};

impl World {
    /// Loses, doubles and delays. What was sent before the calm arrives before its end.
    pub fn post(&mut self, from: usize, to: MemberId, envelope: Envelope) {
        let to = self
            .members
            .iter()
            .position(|member| member.id == to)
            .unwrap();
        let parted =
            self.now < self.parted_until && self.members[from].side != self.members[to].side;
        let cut =
            self.now < self.members[from].cut_out_until || self.now < self.members[to].cut_in_until;
        let link = self.cut_links.get(&(from, to));
        if parted || cut || link.is_some_and(|until| self.now < *until) {
            return;
        }
        let envelope = self.over_the_wire(envelope);
        let network = self.plan.network;
        let calm = self.now >= self.plan.calm_from;
        let twice = !calm && self.rng.u64(..1_000) < network.twice;
        for _ in 0..1 + u64::from(twice) {
            let mut delay = self.rng.u64(network.base / 10..=network.base);
            if !calm {
                if self.rng.u64(..1_000) < network.lost {
                    continue;
                }
                if self.rng.u64(..1_000) < network.slow {
                    delay += self.rng.u64(..=network.slow_up_to);
                }
                delay = delay.min((self.plan.calm_from - self.now).max(network.base));
            }
            let envelope = Box::new(envelope.clone());
            self.queue
                .push(self.now + delay, Event::Deliver { from, to, envelope });
        }
    }

    /// Now and then a message goes through its JSON.
    fn over_the_wire(&mut self, envelope: Envelope) -> Envelope {
        if self.rng.u64(..64) > 0 {
            return envelope;
        }
        let text = serde_json::to_string(&envelope).unwrap();
        let read = serde_json::from_str(&text).unwrap();
        assert_eq!(envelope, read, "{text}");
        read
    }
}
