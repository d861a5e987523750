//! What histories came to.

use std::time::Duration;

use crate::clock::TrueNs;

/// What one history came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub violation: Option<String>,
    pub trace: Vec<String>,
    pub steps: u64,
    pub messages: u64,
    pub tenures: u64,
    pub writes: u64,
    pub joined: u64,
    pub simulated: Duration,
    /// From the last fault to a leader, of each history.
    pub recovery_ms: Vec<u64>,
    /// When each tenure began.
    pub began: Vec<TrueNs>,
    /// And whose.
    pub leaders: Vec<usize>,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.tenures += other.tenures;
        self.writes += other.writes;
        self.joined += other.joined;
        self.simulated += other.simulated;
        self.recovery_ms.extend(&other.recovery_ms);
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut recovery = self.recovery_ms.clone();
        recovery.sort_unstable();
        write!(
            f,
            "{:.1} h simulated, {} steps, {} messages, {} tenures, {} writes, {} disks replaced, \
             recovery after the last fault {} ms median, {} ms longest",
            self.simulated.as_secs_f64() / 3600.0,
            self.steps,
            self.messages,
            self.tenures,
            self.writes,
            self.joined,
            recovery.get(recovery.len() / 2).unwrap_or(&0),
            recovery.last().unwrap_or(&0),
        )
    }
}
