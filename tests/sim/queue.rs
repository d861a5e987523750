//! The events to come, in the order of true time and, among equals, of arrival.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::clock::TrueNs;

pub struct Queue<E> {
    order: BinaryHeap<Reverse<(TrueNs, u64)>>,
    events: BTreeMap<u64, E>,
    next: u64,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Self {
            order: BinaryHeap::new(),
            events: BTreeMap::new(),
            next: 0,
        }
    }

    pub fn push(&mut self, at: TrueNs, event: E) {
        self.order.push(Reverse((at, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    pub fn pop(&mut self) -> Option<(TrueNs, E)> {
        let Reverse((at, id)) = self.order.pop()?;
        let event = self.events.remove(&id)?;
        Some((at, event))
    }
}
