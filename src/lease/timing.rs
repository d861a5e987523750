//! The durations of a lease, checked as one sum, and the two moments that every
//! deadline is.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::time::Moment;

/// What rounding to milliseconds on both sides may take from a lease.
const ROUNDING: Duration = Duration::from_millis(2);

/// How far a clock's *rate* may be off, in parts per million: a bound on each
/// clock alone. A quartz is within 100 ppm; a throttled virtual machine is not
/// always, so the default is 1 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift(u32);

impl Drift {
    /// The default, 1 %.
    pub const ONE_PERCENT: Self = Self(10_000);

    /// A bound in parts per million, at most 10 %.
    #[must_use]
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm > 100_000 {
            return None;
        }
        Some(Self(ppm))
    }

    /// The bound in parts per million.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// `span · (1−ρ)/(1+ρ)`: what surely has not passed elsewhere while `span` of
    /// a store's time passes, when both clocks may be off by ρ.
    #[must_use]
    pub fn shorten(self, span: Duration) -> Duration {
        scale(
            span,
            1_000_000 - u128::from(self.0),
            1_000_000 + u128::from(self.0),
        )
    }

    /// `span · (1+ρ)`: a wait that stands in for another clock's `span`.
    #[must_use]
    pub fn lengthen(self, span: Duration) -> Duration {
        scale(span, 1_000_000 + u128::from(self.0), 1_000_000)
    }
}

fn scale(span: Duration, by: u128, of: u128) -> Duration {
    let nanos = span.as_nanos().saturating_mul(by) / of;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A percentage, as the command line takes it: `1%`, `0.5%`, `0%`.
impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

impl FromStr for Drift {
    type Err = TimingError;
    fn from_str(text: &str) -> Result<Self, TimingError> {
        let wrong = || TimingError::Drift(text.to_owned());
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?;
        let percent: f64 = number.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=10.0).contains(&percent) {
            return Err(wrong());
        }
        // In 0..=100_000 by the check above, so the cast keeps the value.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ppm = (percent * 10_000.0).round() as u32;
        Self::from_ppm(ppm).ok_or_else(wrong)
    }
}

/// Why durations cannot keep a lease safely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Not a percentage in range.
    #[error("\"{0}\" is no clock drift: write a percentage from 0% to 10%, such as 1%")]
    Drift(String),
    /// The lease itself.
    #[error("ttl {} is out of range: 100ms to 1day", humantime::format_duration(*.0))]
    Ttl(Duration),
    /// A span of zero where something must happen in it.
    #[error("{0} 0s: it must be longer than zero")]
    Zero(&'static str),
    /// The parts do not fit into the lease.
    #[error(
        "renew-every {} + call-timeout {} + stop-budget {} + {} for drift and rounding = {}, \
         which is not less than the ttl {}: raise the ttl or lower the others",
        show(*.renew_every), show(*.call_timeout), show(*.stop_budget), show(*.margin),
        show(*.sum), show(*.ttl)
    )]
    Sum {
        /// The lease.
        ttl: Duration,
        /// Time between renewals.
        renew_every: Duration,
        /// The longest a call may take.
        call_timeout: Duration,
        /// Time kept for stopping the app.
        stop_budget: Duration,
        /// What drift and rounding take from the lease.
        margin: Duration,
        /// All but the lease together.
        sum: Duration,
    },
}

fn show(span: Duration) -> humantime::FormattedDuration {
    // Whole microseconds: nobody sets nanoseconds, and they drown the message.
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_micros(micros))
}

/// The durations of one lease. Whoever has one, has one whose sum is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    ttl: Duration,
    renew_every: Duration,
    call_timeout: Duration,
    stop_budget: Duration,
    drift: Drift,
}

impl Timing {
    /// How long a lease may be. A shorter one leaves no room for a renewal over a network;
    /// with a longer one a crashed leader blocks its successor for over a day.
    pub const TTL: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(24 * 60 * 60);

    /// Checks the whole sum, not pairs: between two renewals, one late answer and
    /// the stopping of the app, the lease must not run out.
    ///
    /// # Errors
    /// [`TimingError`] names the values and what to change.
    pub fn new(
        ttl: Duration,
        renew_every: Duration,
        call_timeout: Duration,
        stop_budget: Duration,
        drift: Drift,
    ) -> Result<Self, TimingError> {
        if !Self::TTL.contains(&ttl) {
            return Err(TimingError::Ttl(ttl));
        }
        if renew_every.is_zero() {
            return Err(TimingError::Zero("renew-every"));
        }
        if call_timeout.is_zero() {
            return Err(TimingError::Zero("call-timeout"));
        }
        let margin = ttl.saturating_sub(drift.shorten(ttl)) + ROUNDING;
        let sum = [call_timeout, stop_budget, margin]
            .into_iter()
            .fold(renew_every, Duration::saturating_add);
        if sum >= ttl {
            return Err(TimingError::Sum {
                ttl,
                renew_every,
                call_timeout,
                stop_budget,
                margin,
                sum,
            });
        }
        Ok(Self {
            ttl,
            renew_every,
            call_timeout,
            stop_budget,
            drift,
        })
    }

    /// The usual parts of a TTL: renewed every third, a sixth for a call, 1 % of
    /// drift, nothing kept for stopping.
    ///
    /// # Errors
    /// Where the TTL is out of range.
    pub fn of_ttl(ttl: Duration) -> Result<Self, TimingError> {
        Self::new(ttl, ttl / 3, ttl / 6, Duration::ZERO, Drift::ONE_PERCENT)
    }

    /// The lease asked for.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
    /// From the send of one renewal to the send of the next.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.renew_every
    }
    /// The longest that one call to the store may take.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }
    /// The time inside the lease that is kept for stopping the app.
    #[must_use]
    pub fn stop_budget(&self) -> Duration {
        self.stop_budget
    }
    /// The bound on each clock's rate.
    #[must_use]
    pub fn drift(&self) -> Drift {
        self.drift
    }

    /// When the lease is over at the latest for its holder: counted from *before
    /// the send*, on the holder's clock, shortened for drift on both sides.
    #[must_use]
    pub fn ends_at(&self, sent_at: Moment, left: Duration) -> Moment {
        let usable = self
            .drift
            .shorten(left.min(self.ttl))
            .saturating_sub(ROUNDING);
        sent_at + usable
    }

    /// Until when the holder says that it leads: early enough to stop the app.
    #[must_use]
    pub fn leads_until(&self, ends_at: Moment) -> Moment {
        ends_at - self.stop_budget
    }

    /// How long others must wait where a store may have forgotten a lease of `ttl`.
    #[must_use]
    pub fn hold(&self, longest_ttl: Duration) -> Duration {
        self.drift.lengthen(longest_ttl.max(self.ttl)) + ROUNDING
    }

    /// The longest leaderless time after a crash while the store is healthy: the
    /// lease, the store's own step in noticing its end, two calls, and the delay
    /// with which the slowest candidate campaigns.
    #[must_use]
    pub fn worst_case_failover(&self, store_step: Duration, campaign_delay: Duration) -> Duration {
        self.drift.lengthen(self.ttl) + store_step + self.call_timeout * 2 + campaign_delay
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_whole_sum_is_checked_not_pairs() {
        let timing = |renew, call, stop| {
            Timing::new(ms(3000), ms(renew), ms(call), ms(stop), Drift::ONE_PERCENT)
        };
        assert!(timing(1000, 500, 1400).is_ok());
        let error = timing(1000, 1000, 1000).unwrap_err();
        assert!(matches!(error, TimingError::Sum { .. }), "{error}");
        assert!(error.to_string().contains("ttl 3s"), "{error}");
        assert!(timing(0, 500, 0).is_err());
        assert!(timing(1000, 0, 0).is_err());
    }

    #[test]
    fn drift_shortens_a_lease_and_lengthens_a_wait() {
        let drift: Drift = "1%".parse().unwrap();
        assert_eq!(drift, Drift::ONE_PERCENT);
        assert_eq!(drift.lengthen(ms(1000)), ms(1010));
        assert_eq!(drift.shorten(ms(1010)), ms(990));
        for bad in ["1", "-1%", "11%", "x%", "", "NaN%"] {
            assert!(bad.parse::<Drift>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_lease_counts_from_the_send_and_never_above_what_was_asked() {
        let timing = Timing::new(ms(1000), ms(300), ms(150), ms(200), Drift::ONE_PERCENT).unwrap();
        let sent = Moment::from_millis(5_000);
        let ends = timing.ends_at(sent, ms(60_000));
        assert_eq!(
            ends.since(sent),
            Drift::ONE_PERCENT.shorten(ms(1000)) - ms(2)
        );
        assert_eq!(ends.since(timing.leads_until(ends)), ms(200));
        assert_eq!(timing.ends_at(sent, ms(1)), sent);
    }
}
