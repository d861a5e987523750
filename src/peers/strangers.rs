//! Who connects and has not proved to be a peer: how many are let in, and what of them is
//! told in the log. Pure: every call is told the time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::Moment;

/// The most strangers at a time.
const MOST: usize = 128;
/// The most from one address: all members of a cluster may share a machine.
const MOST_FROM_ONE: usize = 32;
/// The most addresses that are remembered as peers'.
const PROVED: usize = 64;
/// For so long a line is not told again.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// The most lines about one address in that span.
const LINES_FROM_ONE: usize = 4;
/// The most addresses that lines are told about in that span.
const TOLD_OF: usize = 32;

/// Counts those at the door.
#[derive(Debug, Default)]
pub(super) struct Door {
    state: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    count: BTreeMap<IpAddr, usize>,
    /// Where peers came from: strangers elsewhere do not keep these out.
    proved: BTreeSet<IpAddr>,
}

/// Whom an address stands for: of IPv6 a whole network is one party's.
fn party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// One who was let in. Dropped when it is a stranger no longer, or gone.
#[derive(Debug)]
pub(super) struct Stranger {
    door: Arc<Door>,
    address: IpAddr,
}

impl Door {
    /// Lets one in; `None` where there are too many.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Stranger> {
        let address = party(address);
        let mut inside = self.inside();
        let of_this_one = inside.count.get(&address).copied().unwrap_or_default();
        let full = inside.count.values().sum::<usize>() >= MOST;
        if of_this_one >= MOST_FROM_ONE || (full && !inside.proved.contains(&address)) {
            return None;
        }
        inside.count.insert(address, of_this_one + 1);
        Some(Stranger {
            door: Arc::clone(self),
            address,
        })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// It is a peer.
    pub fn proved(self) {
        let mut inside = self.door.inside();
        if inside.proved.len() < PROVED {
            inside.proved.insert(self.address);
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut inside = self.door.inside();
        if let Some(count) = inside.count.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inside.count.remove(&self.address);
            }
        }
    }
}

/// Limits the lines about strangers, so that a noisy one neither fills the log nor hides
/// another.
#[derive(Debug, Default)]
pub(super) struct Gate {
    since: Option<Moment>,
    told: BTreeMap<IpAddr, BTreeSet<String>>,
    not_told: u64,
}

impl Gate {
    /// Whether to tell this line; then, how many were kept back before it.
    pub fn pass(&mut self, now: Moment, address: IpAddr, line: &str) -> Option<u64> {
        if self.since.is_none_or(|since| now >= since + LOG_EVERY) {
            self.since = Some(now);
            self.told.clear();
        }
        let address = party(address);
        let known = self.told.len();
        let room = self.told.contains_key(&address) || known < TOLD_OF;
        let told = room.then(|| self.told.entry(address).or_default());
        match told {
            Some(told) if told.len() < LINES_FROM_ONE && !told.contains(line) => {
                told.insert(line.to_owned());
                Some(std::mem::take(&mut self.not_told))
            }
            _ => {
                self.not_told += 1;
                None
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn a_noisy_stranger_hides_no_other_and_does_not_fill_the_log() {
        let mut gate = Gate::default();
        let mut now = Moment::from_millis(7);
        assert_eq!(gate.pass(now, address(1), "garbage"), Some(0));
        for _ in 0..9 {
            assert_eq!(gate.pass(now, address(1), "garbage"), None);
        }
        assert_eq!(gate.pass(now, address(2), "another cluster"), Some(9));
        assert_eq!(gate.pass(now, address(1), "another cluster"), Some(0));
        let lines = (0..100)
            .filter(|n| gate.pass(now, address(1), &n.to_string()).is_some())
            .count();
        assert_eq!(lines, LINES_FROM_ONE - 2);
        let told = (3..=255)
            .filter(|n| gate.pass(now, address(*n), "garbage").is_some())
            .count();
        assert_eq!(told, TOLD_OF - 2);
        now = now + LOG_EVERY;
        assert!(gate.pass(now, address(1), "garbage").is_some());
    }

    #[test]
    fn who_fills_the_door_leaves_room_for_others_until_all_is_full() {
        let door = Arc::new(Door::default());
        let enter = |n| door.enter(address(n));
        enter(255).unwrap().proved();
        let mut first: Vec<_> = (0..MOST_FROM_ONE).filter_map(|_| enter(1)).collect();
        assert_eq!(first.len(), MOST_FROM_ONE);
        assert!(enter(1).is_none() && enter(2).is_some());
        let others: Vec<_> = (2..=200).filter_map(enter).collect();
        assert!(enter(255).is_some(), "peers came from there");
        assert_eq!(others.len() + first.len(), MOST);
        first.pop();
        assert!(enter(1).is_some(), "who leaves makes room");
    }

    #[test]
    fn a_network_of_ipv6_is_one_party_and_an_ipv4_address_is_one_however_it_is_written() {
        let party = |text: &str| party(text.parse().unwrap());
        assert_eq!(party("2001:db8::1"), party("2001:db8::f:f"));
        assert_ne!(party("2001:db8::1"), party("2001:db8:0:1::1"));
        assert_eq!(party("::ffff:10.0.0.1"), party("10.0.0.1"));
        assert_ne!(party("10.0.0.2"), party("10.0.0.1"));
    }
}
