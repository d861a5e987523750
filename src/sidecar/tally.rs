//! How long this node has led, and how long nobody was known to: added up from the
//! deadlines, so that a reader gets the truth between two turns of the loop as well.

use std::time::Duration;

use crate::machine::{Role, Snapshot};
use crate::time::Moment;

/// Time up to the loop's last turn, and the deadlines that stand since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    turned_at: Moment,
    leads_until: Option<Moment>,
    /// Until when anybody is known to lead, this node or another.
    known_until: Option<Moment>,
    led: Duration,
    leaderless: Duration,
}

impl Tally {
    pub fn new(now: Moment) -> Self {
        Self {
            turned_at: now,
            leads_until: None,
            known_until: None,
            led: Duration::ZERO,
            leaderless: Duration::ZERO,
        }
    }

    /// What was known so far counts up to `now`, the snapshot from then on.
    pub fn turn(&mut self, now: Moment, snapshot: &Snapshot) {
        self.led = self.led_by(now);
        self.leaderless = self.leaderless_by(now);
        self.turned_at = self.turned_at.max(now);
        let own = snapshot.tenure.filter(|_| snapshot.role == Role::Leading);
        self.leads_until = own.map(|tenure| tenure.leads_until);
        let other = snapshot.leader.as_ref().map(|leader| leader.named_until);
        self.known_until = self.leads_until.or(other);
    }

    pub fn led_by(&self, now: Moment) -> Duration {
        self.led + self.since_turn(now, self.leads_until)
    }

    pub fn leaderless_by(&self, now: Moment) -> Duration {
        let known = self.since_turn(now, self.known_until);
        self.leaderless + now.since(self.turned_at).saturating_sub(known)
    }

    fn since_turn(&self, now: Moment, until: Option<Moment>) -> Duration {
        until.map_or(Duration::ZERO, |until| until.min(now).since(self.turned_at))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lease::Epoch;
    use crate::machine::Tenure;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn leading_until(until: Moment) -> Snapshot {
        let mut snapshot = Snapshot::new(None);
        snapshot.role = Role::Leading;
        snapshot.tenure = Some(Tenure {
            epoch: Epoch::new(1).unwrap(),
            acquired_at: at(0),
            renewed_at: at(0),
            leads_until: until,
            ends_at: until,
        });
        snapshot
    }

    #[test]
    fn time_is_counted_by_the_deadline_not_by_the_turn() {
        let mut tally = Tally::new(at(100));
        assert_eq!(tally.leaderless_by(at(150)).as_millis(), 50);
        tally.turn(at(200), &leading_until(at(500)));
        assert_eq!(tally.led_by(at(450)).as_millis(), 250);
        assert_eq!(tally.leaderless_by(at(450)).as_millis(), 100);
        // The loop is late: the lease is over at 500 all the same.
        assert_eq!(tally.led_by(at(900)).as_millis(), 300);
        assert_eq!(tally.leaderless_by(at(900)).as_millis(), 500);
        tally.turn(at(1000), &Snapshot::new(None));
        assert_eq!(tally.led_by(at(1100)).as_millis(), 300);
        assert_eq!(tally.leaderless_by(at(1100)).as_millis(), 700);
        // A renewal in time leaves no gap.
        tally.turn(at(1100), &leading_until(at(1500)));
        tally.turn(at(1400), &leading_until(at(1800)));
        assert_eq!(tally.led_by(at(1800)).as_millis(), 1000);
        assert_eq!(tally.leaderless_by(at(1800)).as_millis(), 700);
    }

    #[test]
    fn a_reader_with_an_older_now_sees_nothing_go_back() {
        let mut tally = Tally::new(at(0));
        tally.turn(at(100), &leading_until(at(500)));
        assert_eq!(tally.led_by(at(50)).as_millis(), 0);
        tally.turn(at(90), &leading_until(at(500)));
        assert_eq!(tally.led_by(at(200)).as_millis(), 100);
    }
}
