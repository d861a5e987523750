//! Time, and the only place that reads a clock.
//!
//! Two kinds of time are kept apart by type. A [`Moment`] is a reading of a
//! monotonic clock that goes on while the machine sleeps; every deadline is one.
//! A [`UnixMs`] is wall-clock time: it is shown to people and seeds epochs, and
//! no safety argument compares two machines' wall clocks.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

#[cfg(not(target_os = "linux"))]
compile_error!("tenure needs Linux: its deadlines rest on CLOCK_BOOTTIME");

/// A reading of a suspend-aware monotonic clock, in nanoseconds since its origin.
///
/// Moments of different machines, or of different boots, are not comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `nanos` nanoseconds after the clock's origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `millis` milliseconds after the clock's origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the clock's origin, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this moment is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds of a span, rounded down; what stores and JSON carry.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of a span, rounded up; for waits that must not end early.
#[must_use]
pub fn millis_up(span: Duration) -> u64 {
    let whole = millis(span);
    whole.saturating_add(u64::from(Duration::from_millis(whole) < span))
}

/// Wall-clock time in milliseconds since 1970, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// This time moved by `span` towards the future.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This time moved by `span` towards the past.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

/// RFC 3339 in UTC with milliseconds, as the HTTP API prints it.
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => write!(f, "{} ms after 1970", self.0),
        }
    }
}

/// Where the shell gets its time from; the pure core is handed a [`Moment`].
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment of a clock that never goes back and counts suspend.
    fn now(&self) -> Moment;
    /// The present wall-clock time, which may jump.
    fn wall(&self) -> UnixMs;
}

/// `CLOCK_BOOTTIME`: monotonic, and it goes on while the machine is suspended,
/// which std's `Instant` does not (rust-lang/rust#87906).
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Moment {
        let read = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(read.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(read.tv_nsec).unwrap_or(0);
        Moment(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    fn wall(&self) -> UnixMs {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMs(millis(since))
    }
}

/// A clock that moves only when told to, for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock {
    state: Mutex<(Moment, UnixMs)>,
}

impl ManualClock {
    /// A clock that stands at `now` and at `wall`.
    #[must_use]
    pub fn new(now: Moment, wall: UnixMs) -> Self {
        Self {
            state: Mutex::new((now, wall)),
        }
    }

    /// Moves both readings forward by `span`.
    pub fn advance(&self, span: Duration) {
        let mut state = self.lock();
        *state = (state.0 + span, state.1.after(span));
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn set_wall(&self, wall: UnixMs) {
        self.lock().1 = wall;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Moment, UnixMs)> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        self.lock().0
    }
    fn wall(&self) -> UnixMs {
        self.lock().1
    }
}

/// A timer on `CLOCK_BOOTTIME`: it fires on time to the microsecond, and at once
/// when the machine wakes from a sleep that outlasted it. Tokio's own timer
/// rounds up to a millisecond and stands still during suspend.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<rustix::fd::OwnedFd>,
}

impl Alarm {
    /// A timer of its own.
    ///
    /// # Errors
    /// Where the kernel has no descriptor left, or outside a tokio runtime.
    pub fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Boottime, flags)?;
        // Deprecated because a type's descriptor could change while registered
        // (tokio-rs/tokio#8587). An OwnedFd's cannot, and the replacement is an
        // unsafe function, which this crate forbids.
        #[allow(deprecated)]
        let timer = AsyncFd::new(descriptor)?;
        Ok(Self { timer })
    }

    /// Sleeps until `clock` has reached `moment`. Dropping the future is safe.
    ///
    /// # Errors
    /// Where the kernel refuses the timer.
    pub async fn until(&mut self, clock: &dyn Clock, moment: Moment) -> std::io::Result<()> {
        loop {
            let left = moment.since(clock.now());
            if left.is_zero() {
                return Ok(());
            }
            self.arm(left)?;
            self.timer.readable().await?.clear_ready();
        }
    }

    fn arm(&self, left: Duration) -> std::io::Result<()> {
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let interval = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = Itimerspec {
            it_interval: interval,
            it_value: value,
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// Waits for `work` at most for `limit`; `None` where it took longer.
///
/// This bounds a wait; it decides nothing about leadership, which always
/// compares a [`Moment`] with [`Clock::now`].
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Sleeps for `span` of running time: for pauses between retries, where a
/// machine's sleep in between does no harm.
pub async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}
