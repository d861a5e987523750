//! What the counters told, judged: no value given twice, none left out, epochs that
//! rise with the values.

use std::collections::BTreeMap;

/// One line of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It leads, and goes on from this value.
    Resumed { epoch: u64, value: u64 },
    /// The store acknowledged this value.
    Leader { epoch: u64, value: u64 },
    /// The write was refused, or nobody knows.
    Stopped { epoch: u64, value: u64, status: u64 },
    /// It does not lead.
    Follower,
}

impl Told {
    /// # Panics
    /// Where the line is none of those that every counter prints.
    pub fn read(line: &str) -> Self {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = |name: &str| -> u64 {
            let mut parts = rest.split(' ').filter_map(|part| part.split_once('='));
            let found = parts.find(|(key, _)| *key == name);
            let digits = found.map(|(_, text)| text.trim_end_matches("ms"));
            digits
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("no number {name} in {line:?}"))
        };
        let (epoch, value) = match word {
            "follower" => return Self::Follower,
            _ => (number("epoch"), number("counter")),
        };
        match word {
            "resumed" => Self::Resumed { epoch, value },
            "leader" => {
                let _ = number("lease_left");
                Self::Leader { epoch, value }
            }
            "stopped" => Self::Stopped {
                epoch,
                value,
                status: number("status"),
            },
            _ => panic!("no counter prints {line:?}"),
        }
    }
}

/// What one counter told, from its start to its end.
pub struct Life {
    pub told: Vec<Told>,
    /// With SIGKILL: what it wrote last it may not have told.
    pub killed: bool,
}

impl Life {
    pub fn of(lines: &[String], killed: bool) -> Self {
        let told = lines.iter().map(|line| Told::read(line)).collect();
        Self { told, killed }
    }

    /// The value that it may have written without knowing, or without having told it:
    /// of each tenure the one after the last acknowledged.
    fn untold(&self) -> Vec<u64> {
        let mut last = None;
        let mut untold = Vec::new();
        for told in &self.told {
            match *told {
                Told::Resumed { value, .. } | Told::Leader { value, .. } => last = Some(value + 1),
                Told::Stopped { value, status, .. } => {
                    // A refusal is certain: nothing was written.
                    if ![409, 412].contains(&status) {
                        untold.push(value);
                    }
                    last = None;
                }
                Told::Follower => last = None,
            }
        }
        untold.extend(last.filter(|_| self.killed));
        untold
    }
}

/// What is wrong with these lives, if the counter stands at `stored` in the end.
pub fn faults(lives: &[Life], stored: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let mut given: BTreeMap<u64, u64> = BTreeMap::new();
    for told in lives.iter().flat_map(|life| &life.told) {
        if let Told::Leader { epoch, value } = *told
            && let Some(other) = given.insert(value, epoch)
        {
            faults.push(format!("{value} was given twice: by {other} and {epoch}"));
        }
    }
    let mut untold: Vec<u64> = lives.iter().flat_map(Life::untold).collect();
    let top = given.keys().next_back().copied().unwrap_or_default();
    for value in 1..=stored.max(top) {
        if value > stored {
            faults.push(format!("{value} was acknowledged, {stored} is stored"));
        } else if !given.contains_key(&value) {
            match untold.iter().position(|maybe| *maybe == value) {
                Some(at) => drop(untold.swap_remove(at)),
                None => faults.push(format!("nobody gave {value}")),
            }
        }
    }
    let epochs: Vec<(&u64, &u64)> = given.iter().collect();
    for pair in epochs.windows(2) {
        let ((before, old), (after, new)) = (pair[0], pair[1]);
        if new < old {
            faults.push(format!("{before} is of epoch {old}, {after} of {new}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(lines: &[&str], killed: bool) -> Life {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        Life::of(&lines, killed)
    }

    const FIRST: &[&str] = &[
        "follower leader=",
        "resumed epoch=5 counter=0",
        "leader epoch=5 counter=1 lease_left=900ms",
        "leader epoch=5 counter=2 lease_left=800ms",
    ];

    fn with(second: &[&str], killed: bool, stored: u64) -> Vec<String> {
        faults(&[life(FIRST, killed), life(second, false)], stored)
    }

    #[test]
    fn a_sound_course_has_no_fault() {
        let next = [
            "resumed epoch=6 counter=2",
            "leader epoch=6 counter=3 lease_left=1ms",
        ];
        assert!(with(&next, false, 3).is_empty());
        assert!(with(&next, true, 3).is_empty());
        // What a killed counter wrote last, or one that stopped in doubt.
        let next = ["leader epoch=6 counter=4 lease_left=1ms"];
        assert!(with(&next, true, 4).is_empty());
        let doubt = [
            "stopped epoch=6 counter=3 status=503",
            "leader epoch=6 counter=4 lease_left=1ms",
        ];
        assert!(with(&doubt, false, 4).is_empty());
    }

    #[test]
    fn every_fault_is_found() {
        let twice = ["leader epoch=6 counter=2 lease_left=1ms"];
        assert_eq!(with(&twice, true, 2).len(), 1);
        let gap = ["leader epoch=6 counter=4 lease_left=1ms"];
        assert_eq!(with(&gap, false, 4).len(), 1);
        let refused = ["stopped epoch=6 counter=3 status=409", gap[0]];
        assert_eq!(with(&refused, false, 4).len(), 1);
        let larger = ["leader epoch=6 counter=5 lease_left=1ms"];
        assert_eq!(with(&larger, true, 5).len(), 1);
        assert_eq!(with(&[], false, 1).len(), 1);
        let fallen = ["leader epoch=4 counter=3 lease_left=1ms"];
        assert_eq!(with(&fallen, false, 3).len(), 1);
    }
}
