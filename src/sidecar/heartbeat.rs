//! A sign of life that only the election loops themselves can give.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::time::Moment;

/// Counts up while *every* election loop turns, and stops where one of them does not.
///
/// No timer stands behind it: the count is raised by a turn of a loop, on the loop's own
/// thread, and only when all the others have turned since it was raised last.
#[derive(Debug)]
pub(super) struct Heart {
    every: Duration,
    beats: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Moment,
    /// What each loop has done since the last beat.
    loops: Vec<Loop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loop {
    Silent,
    Turned,
    /// In order: nothing is expected of it any more.
    Ended,
}

impl Heart {
    /// Beats at most `every` apart while each of so many loops turns twice in that time.
    pub fn new(loops: usize, every: Duration, now: Moment) -> Self {
        Self {
            every,
            beats: watch::channel(0).0,
            state: Mutex::new(State {
                last: now,
                loops: vec![Loop::Silent; loops],
            }),
        }
    }

    /// How often each loop has to turn.
    pub fn turn_every(&self) -> Duration {
        self.every / 2
    }

    pub fn beats(&self) -> watch::Receiver<u64> {
        self.beats.subscribe()
    }

    /// A loop has turned.
    pub fn turned(&self, which: usize, now: Moment) {
        self.note(which, Loop::Turned, now);
    }

    /// A loop has ended as it was asked to.
    pub fn ended(&self, which: usize, now: Moment) {
        self.note(which, Loop::Ended, now);
    }

    fn note(&self, which: usize, what: Loop, now: Moment) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = state.loops.get_mut(which) {
            *it = what;
        }
        let all = !state.loops.contains(&Loop::Silent);
        if all && now.since(state.last) >= self.turn_every() {
            state.last = now;
            for it in &mut state.loops {
                if *it == Loop::Turned {
                    *it = Loop::Silent;
                }
            }
            self.beats.send_modify(|beats| *beats += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn it_beats_while_all_loops_turn_and_not_otherwise() {
        let heart = Heart::new(2, Duration::from_millis(100), at(0));
        let beats = heart.beats();
        for turn in 1..=4 {
            heart.turned(0, at(turn * 50));
            heart.turned(1, at(turn * 50));
        }
        assert_eq!(*beats.borrow(), 4);
        // One of them stands still: the other's turns are no sign of life.
        for turn in 5..=40 {
            heart.turned(0, at(turn * 50));
        }
        assert_eq!(*beats.borrow(), 4);
        heart.turned(1, at(2_001));
        assert_eq!(*beats.borrow(), 5);
        // Nothing is expected of a loop that ended in order.
        heart.ended(1, at(2_010));
        heart.turned(0, at(2_100));
        heart.turned(0, at(2_200));
        assert_eq!(*beats.borrow(), 7);
    }

    #[test]
    fn a_busy_loop_beats_no_more_often_than_is_worth_a_message() {
        let heart = Heart::new(1, Duration::from_millis(100), at(0));
        for now in 1..=1_000 {
            heart.turned(0, at(now));
        }
        assert_eq!(*heart.beats().borrow(), 20);
    }
}
