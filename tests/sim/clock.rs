//! What a drifting clock reads at a true time, and when it will read a moment.

use tenure::time::Moment;

/// True time in nanoseconds since the history began; no node can read it.
pub type TrueNs = u64;

pub const MS: TrueNs = 1_000_000;

/// A clock whose rate is off by a constant, within the bound or beyond it.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    pub rate_ppm: i64,
    /// Readings of different nodes are not comparable: each has its own origin.
    pub origin_ns: u64,
}

impl SimClock {
    fn rate(self) -> u128 {
        u128::try_from(1_000_000 + self.rate_ppm).unwrap()
    }

    pub fn at(self, now: TrueNs) -> Moment {
        let run = u128::from(now) * self.rate() / 1_000_000;
        Moment::from_nanos(self.origin_ns + u64::try_from(run).unwrap())
    }

    /// The first true time at which the clock has reached `moment`.
    pub fn when(self, moment: Moment) -> TrueNs {
        let run = u128::from(moment.as_nanos().saturating_sub(self.origin_ns));
        u64::try_from((run * 1_000_000).div_ceil(self.rate())).unwrap()
    }
}
