//! Ports of the loopback for servers that are told theirs before they start.
//!
//! They lie outside the range from which the system gives a port to each connection and to
//! whoever asks for any: between the look at a port and the start of its server, and while a
//! server is down, no other process is given it by chance.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// All of one length: a proxy that puts one in the place of another changes no other byte.
const ALL: RangeInclusive<u16> = 10_000..=65_535;
/// Fewer are too few for the tests of one process.
const ENOUGH: usize = 1_000;

/// A port at which nobody listens, and another one each time.
pub fn free_port() -> u16 {
    static OURS: OnceLock<(RangeInclusive<u16>, AtomicU32)> = OnceLock::new();
    // Other processes of this suite begin elsewhere.
    let (ours, next) = OURS.get_or_init(|| {
        (
            outside(given_by_the_system()),
            AtomicU32::new(fastrand::u32(..)),
        )
    });
    for _ in ours.clone() {
        let at = next.fetch_add(1, Ordering::Relaxed) as usize % ours.len();
        let port = ours.clone().nth(at).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("none of the ports {ours:?} is free");
}

pub fn free_ports(count: usize) -> Vec<u16> {
    (0..count).map(|_| free_port()).collect()
}

fn given_by_the_system() -> RangeInclusive<u16> {
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let told = told.unwrap_or_default();
    let mut bounds = told.split_whitespace().map(str::parse);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        // What the IANA says.
        _ => 49_152..=65_535,
    }
}

/// The larger part of all ports, below that range or above it; any port where it leaves
/// too few.
fn outside(given: RangeInclusive<u16>) -> RangeInclusive<u16> {
    let below = *ALL.start()..=given.start().saturating_sub(1);
    let parts = match given.end().checked_add(1) {
        Some(next) => vec![below, next.max(*ALL.start())..=*ALL.end()],
        None => vec![below],
    };
    let larger = parts.into_iter().max_by_key(ExactSizeIterator::len);
    larger.filter(|it| it.len() >= ENOUGH).unwrap_or(ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lie_outside_what_the_system_gives() {
        assert_eq!(outside(32_768..=60_999), 10_000..=32_767);
        assert_eq!(outside(49_152..=65_535), 10_000..=49_151);
        assert_eq!(outside(1_024..=20_000), 20_001..=65_535);
        assert_eq!(outside(1_024..=5_000), ALL);
        for all in [1_024..=65_535, 0..=65_535, 10_500..=65_000] {
            assert_eq!(outside(all), ALL);
        }
        let given = given_by_the_system();
        for port in free_ports(20) {
            assert!(!given.contains(&port) || outside(given.clone()) == ALL);
        }
    }

    #[test]
    fn each_is_another_one() {
        let ports: std::collections::BTreeSet<u16> = free_ports(100).into_iter().collect();
        assert_eq!(ports.len(), 100);
    }
}
