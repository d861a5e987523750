//! After the last fault a leader emerges within the bound, and stays.

use super::Verdict;
use crate::clock::{MS, TrueNs};

pub struct Liveness {
    pub calm_from: TrueNs,
    pub bound: TrueNs,
    /// When the first after the last fault led.
    pub led_at: Option<TrueNs>,
    settled: Option<usize>,
}

impl Liveness {
    pub fn new(calm_from: TrueNs, bound: TrueNs) -> Self {
        Self {
            calm_from,
            bound,
            led_at: None,
            settled: None,
        }
    }

    pub fn leads(&mut self, now: TrueNs) {
        if now >= self.calm_from {
            self.led_at.get_or_insert(now);
        }
    }

    pub fn deadline(&mut self, leader: Option<usize>) -> Verdict {
        self.settled = leader;
        let bound = self.bound / MS;
        leader.map(|_| ()).ok_or(format!(
            "liveness: no leader {bound} ms after the last fault"
        ))
    }

    pub fn end(&self, leader: Option<usize>) -> Verdict {
        if leader == self.settled {
            return Ok(());
        }
        Err(format!(
            "liveness: in a calm, {:?} led and then {leader:?}",
            self.settled
        ))
    }
}
