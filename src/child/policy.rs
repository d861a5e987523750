//! What follows when the app ends by itself: a pure function of its ends so far.

use std::collections::VecDeque;
use std::time::Duration;

use super::message::Ended;
use crate::config::{CrashLoop, Restart};
use crate::time::Moment;

/// A crash loop's pause doubles at most so far.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// What follows an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The sidecar ends with this code.
    Exit(u8),
    /// This node is no candidate for that long.
    Rest(Duration),
    /// The same, and for longer, because of a crash loop.
    StayOut(Duration),
}

/// The ends so far.
#[derive(Debug)]
pub struct Policy {
    restart: Restart,
    once: bool,
    limit: CrashLoop,
    ends: VecDeque<Moment>,
    /// Quick ends in a row.
    streak: u32,
    /// Crash loops in a row.
    loops: u32,
}

impl Policy {
    pub fn new(restart: Restart, limit: CrashLoop, once: bool) -> Self {
        Self {
            restart,
            once,
            limit,
            ends: VecDeque::new(),
            streak: 0,
            loops: 0,
        }
    }

    /// The app ended by itself at `now`, having run for `ran`.
    pub fn ended(&mut self, now: Moment, ran: Duration, how: Ended) -> Next {
        let exits = match self.restart {
            Restart::Never => true,
            Restart::OnFailure => how.is_success(),
            Restart::Always => false,
        };
        if exits || self.once {
            return Next::Exit(how.exit_code());
        }
        if ran >= self.limit.within {
            self.streak = 0;
            self.loops = 0;
        }
        let limit = self.limit;
        self.ends.retain(|end| now.since(*end) < limit.within);
        self.ends.push_back(now);
        if self.ends.len() >= usize::try_from(limit.ends).unwrap_or(usize::MAX) {
            self.ends.clear();
            self.streak = 0;
            self.loops += 1;
            let doubled = limit.within.saturating_mul(power(self.loops - 1));
            return Next::StayOut(doubled.min(LONGEST_PAUSE.max(limit.within)));
        }
        self.streak += 1;
        Next::Rest(self.backoff())
    }

    /// Doubles with each quick end, and stays so short that a crash loop is seen as one.
    fn backoff(&self) -> Duration {
        let longest = limit_share(self.limit);
        let doubled = (longest / 8).saturating_mul(power(self.streak - 1));
        doubled.min(longest)
    }
}

fn limit_share(limit: CrashLoop) -> Duration {
    limit.within / limit.ends.saturating_mul(2).max(1)
}

fn power(exponent: u32) -> u32 {
    1 << exponent.min(20)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CRASH: Ended = Ended::Signal(9);
    const QUICK: Duration = Duration::from_millis(5);

    fn policy(restart: Restart) -> Policy {
        Policy::new(restart, CrashLoop::DEFAULT, false)
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn codes_pass_through_where_the_policy_says_so() {
        let ended = |restart, how| policy(restart).ended(at(1), QUICK, how);
        assert_eq!(ended(Restart::Never, Ended::Code(3)), Next::Exit(3));
        assert_eq!(ended(Restart::Never, Ended::Signal(15)), Next::Exit(143));
        assert_eq!(ended(Restart::OnFailure, Ended::Code(0)), Next::Exit(0));
        assert!(matches!(ended(Restart::OnFailure, CRASH), Next::Rest(_)));
        assert!(matches!(
            ended(Restart::Always, Ended::Code(0)),
            Next::Rest(_)
        ));
        let mut once = Policy::new(Restart::Always, CrashLoop::DEFAULT, true);
        assert_eq!(once.ended(at(1), QUICK, Ended::Code(4)), Next::Exit(4));
    }

    #[test]
    fn pauses_double_and_a_loop_stays_out_for_twice_as_long_each_time() {
        let mut policy = policy(Restart::OnFailure);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let next = policy.ended(at(now), QUICK, CRASH);
            let pause = match next {
                Next::Rest(pause) | Next::StayOut(pause) => pause,
                Next::Exit(_) => panic!("{next:?}"),
            };
            now += pause.as_secs() + 1;
            pauses.push(pause.as_millis());
        }
        let rests = [750, 1500, 3000, 6000];
        assert_eq!(pauses[..5], [&rests[..], &[60_000]].concat());
        assert_eq!(pauses[5..], [&rests[..], &[120_000]].concat());
        // An app that ran well begins anew.
        let next = policy.ended(at(now + 1000), Duration::from_secs(900), CRASH);
        assert_eq!(next, Next::Rest(Duration::from_millis(750)));
        assert_eq!(policy.loops, 0);
    }

    #[test]
    fn ends_far_apart_are_no_loop() {
        let mut policy = policy(Restart::OnFailure);
        for minute in 0..50 {
            let next = policy.ended(at(minute * 61), Duration::from_secs(30), CRASH);
            assert!(matches!(next, Next::Rest(_)), "{next:?}");
        }
    }
}
