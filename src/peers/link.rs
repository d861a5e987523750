//! What waits for one peer, and what is known of it. No I/O, no clock; of the channels in it
//! nothing is ever awaited here: an answer is put into one, and an end is seen from one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::frame::Body;
use super::handshake::Known;
use super::mesh::{ACKNOWLEDGED_WITHIN, CallError};
use crate::time::Moment;

/// The most bytes that wait for one peer.
const QUEUE_BYTES: usize = 4 << 20;
/// The most bytes that are under way to one peer; one frame may be longer.
const WINDOW_BYTES: usize = 256 << 10;
/// A message that is so long may be too long for the link, and is not tried for ever.
const LONG: usize = 64 << 10;
/// How often a long message is tried.
const TRIES: u32 = 3;

/// How long a frame may take, there and acknowledged: a link that carries less than a
/// megabyte in a second is too slow for the longest ones.
pub(super) fn allowed(bytes: usize) -> Duration {
    ACKNOWLEDGED_WITHIN + Duration::from_micros(bytes.try_into().unwrap_or(u64::MAX))
}

/// A frame that waits, or waits for its acknowledgement.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub seq: u64,
    pub body: Body,
    bytes: usize,
    /// Connections that were lost while it was the oldest one under way.
    tries: u32,
}

struct Call {
    answer: oneshot::Sender<Result<Value, CallError>>,
    sent: bool,
}

/// One peer.
#[derive(Default)]
pub(super) struct Link {
    pub known: Known,
    pub heard: Option<Moment>,
    /// Of its present incarnation: the last frame that was handed up.
    pub delivered: u64,
    /// Counts its connections to this node; only the newest one is listened to.
    pub incoming: u64,
    /// Dropped when a newer one begins; closed where the newest one has ended.
    newest: Option<oneshot::Sender<()>>,
    /// Whether this node's connection to it stands.
    pub connected: bool,
    /// Messages and calls that were thrown away because the queue was full, or that no
    /// connection could carry.
    pub dropped: u64,
    /// The newest reason why there is no connection.
    pub trouble: Option<String>,
    reached: u64,
    last_seq: u64,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    in_flight: VecDeque<(Moment, Queued)>,
    in_flight_bytes: usize,
    /// When something of the peer arrived last on this node's connection.
    progress: Moment,
    calls: BTreeMap<u64, Call>,
}

impl Link {
    /// A connection of the peer begins, and ends the one before: its number, and what ends
    /// when a newer one begins.
    pub fn begins(&mut self) -> (u64, oneshot::Receiver<()>) {
        let (newest, superseded) = oneshot::channel();
        self.newest = Some(newest);
        self.incoming += 1;
        (self.incoming, superseded)
    }

    /// Whether a connection of the peer to this node stands.
    pub fn speaks(&self) -> bool {
        self.newest
            .as_ref()
            .is_some_and(|newest| !newest.is_closed())
    }

    /// Puts a frame of so many bytes at the end; the oldest make room where there is none.
    pub fn push(&mut self, body: Body, bytes: usize, room: usize) -> u64 {
        while self.queue.len() >= room.max(1)
            || (!self.queue.is_empty() && self.queue_bytes + bytes > QUEUE_BYTES)
        {
            let oldest = self.pop();
            self.dropped += 1;
            if let Some(call) = oldest.and_then(|oldest| self.calls.remove(&oldest.seq)) {
                let _ = call
                    .answer
                    .send(Err(CallError::NotSent("the queue is full".to_owned())));
            }
        }
        self.last_seq += 1;
        let seq = self.last_seq;
        self.queue_bytes += bytes;
        self.queue.push_back(Queued {
            seq,
            body,
            bytes,
            tries: 0,
        });
        seq
    }

    fn pop(&mut self) -> Option<Queued> {
        let next = self.queue.pop_front()?;
        self.queue_bytes -= next.bytes;
        Some(next)
    }

    /// The same, for a call.
    pub fn ask(
        &mut self,
        body: Body,
        bytes: usize,
        room: usize,
    ) -> (u64, oneshot::Receiver<Result<Value, CallError>>) {
        // Whoever dropped its call has not said so.
        self.calls.retain(|_, call| !call.answer.is_closed());
        let seq = self.push(body, bytes, room);
        let (answer, awaited) = oneshot::channel();
        self.calls.insert(
            seq,
            Call {
                answer,
                sent: false,
            },
        );
        (seq, awaited)
    }

    /// The caller waits no longer. Whether the request was sent.
    pub fn give_up(&mut self, seq: u64) -> bool {
        if let Some(at) = self.queue.iter().position(|queued| queued.seq == seq) {
            let gone = self.queue.remove(at);
            self.queue_bytes -= gone.map_or(0, |gone| gone.bytes);
        }
        self.calls.remove(&seq).is_none_or(|call| call.sent)
    }

    /// The next to write, where not too much is under way; it counts as sent from now on.
    pub fn take(&mut self, now: Moment) -> Option<Queued> {
        let bytes = self.queue.front()?.bytes;
        if !self.in_flight.is_empty() && self.in_flight_bytes + bytes > WINDOW_BYTES {
            return None;
        }
        let next = self.pop()?;
        self.in_flight_bytes += bytes;
        if let Some(call) = self.calls.get_mut(&next.seq) {
            call.sent = true;
        }
        self.in_flight.push_back((now, next.clone()));
        Some(next)
    }

    /// A heartbeat, where nothing else is under way.
    pub fn beat(&mut self, now: Moment, room: usize) -> Option<Queued> {
        if self.queue.is_empty() && self.in_flight.is_empty() {
            self.push(Body::Heartbeat, 0, room);
        }
        self.take(now)
    }

    /// By when something must have arrived of the peer, if anything is under way to it. Each
    /// sign that the link works gives the oldest frame its whole time again: it may have
    /// stood behind others.
    pub fn due(&self) -> Option<Moment> {
        let (sent, oldest) = self.in_flight.front()?;
        Some((*sent).max(self.progress) + allowed(oldest.bytes))
    }

    /// Something arrived on this node's connection.
    pub fn progressed(&mut self, now: Moment) {
        self.progress = now;
    }

    /// The peer has everything up to this one.
    pub fn acknowledged(&mut self, seq: u64) {
        while self
            .in_flight
            .front()
            .is_some_and(|(_, frame)| frame.seq <= seq)
        {
            let acknowledged = self.in_flight.pop_front();
            self.in_flight_bytes -= acknowledged.map_or(0, |(_, frame)| frame.bytes);
        }
    }

    /// The answer to a call.
    pub fn answered(&mut self, seq: u64, body: Value) {
        if let Some(call) = self.calls.remove(&seq) {
            let _ = call.answer.send(Ok(body));
        }
    }

    /// A connection stands. What another start of the peer may have had is not sent
    /// to this one.
    pub fn reached(&mut self, incarnation: u64) {
        if std::mem::replace(&mut self.reached, incarnation) != incarnation {
            self.in_flight.clear();
        }
        let again = std::mem::take(&mut self.in_flight);
        self.in_flight_bytes = 0;
        for (_, frame) in again.into_iter().rev() {
            if matches!(frame.body, Body::Message { .. }) {
                self.queue_bytes += frame.bytes;
                self.queue.push_front(frame);
            }
        }
        (self.connected, self.trouble) = (true, None);
    }

    /// The connection is gone: of calls under way nobody knows what became of them. The length
    /// of a message that was tried often enough and is given up, where there is one.
    pub fn lost(&mut self, why: &str) -> Option<usize> {
        let stood = std::mem::take(&mut self.connected);
        self.trouble = Some(why.to_owned());
        let (sent, kept) = std::mem::take(&mut self.calls)
            .into_iter()
            .partition(|(_, call)| call.sent);
        self.calls = kept;
        let sent: BTreeMap<u64, Call> = sent;
        for call in sent.into_values() {
            let _ = call
                .answer
                .send(Err(CallError::Indeterminate(why.to_owned())));
        }
        if stood { self.too_long() } else { None }
    }

    fn too_long(&mut self) -> Option<usize> {
        let (_, oldest) = self.in_flight.front_mut()?;
        let long = oldest.bytes >= LONG && matches!(oldest.body, Body::Message { .. });
        oldest.tries += 1;
        if !long || oldest.tries < TRIES {
            return None;
        }
        let (_, given_up) = self.in_flight.pop_front()?;
        self.in_flight_bytes -= given_up.bytes;
        self.dropped += 1;
        Some(given_up.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_millis(1);

    fn taken(link: &mut Link) -> Vec<u64> {
        std::iter::from_fn(|| link.take(NOW))
            .map(|frame| frame.seq)
            .collect()
    }

    fn message() -> Body {
        Body::Message { body: Value::Null }
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_to_the_same_start_alone() {
        let mut link = Link::default();
        link.reached(1);
        (0..3).for_each(|_| assert!(link.push(message(), 9, 9) > 0));
        let (call, mut answer) = link.ask(Body::Request { body: Value::Null }, 9, 9);
        assert_eq!(taken(&mut link), [1, 2, 3, call]);
        link.acknowledged(1);
        link.lost("cut");
        assert!(matches!(
            answer.try_recv(),
            Ok(Err(CallError::Indeterminate(_)))
        ));
        link.push(message(), 9, 9);
        link.reached(1);
        assert_eq!(
            taken(&mut link),
            [2, 3, 5],
            "in order, and no request twice"
        );
        link.lost("gone");
        link.reached(2);
        assert_eq!(
            taken(&mut link),
            [] as [u64; 0],
            "another start gets none of it"
        );
    }

    #[test]
    fn a_call_that_made_room_or_never_left_was_not_sent() {
        let mut link = Link::default();
        let (_, mut answer) = link.ask(Body::Request { body: Value::Null }, 9, 1);
        link.push(message(), 9, 1);
        assert!(matches!(answer.try_recv(), Ok(Err(CallError::NotSent(_)))));
        assert_eq!(link.dropped, 1);
        let (call, _answer) = link.ask(Body::Request { body: Value::Null }, 9, 2);
        assert!(!link.give_up(call));
        assert_eq!(taken(&mut link), [2]);
    }

    #[test]
    fn a_message_that_no_connection_carries_is_given_up_and_a_short_one_never() {
        for (bytes, given_up) in [(LONG, Some(LONG)), (LONG - 1, None)] {
            let mut link = Link::default();
            let long = link.push(message(), bytes, 9);
            let next = link.push(message(), 1, 9);
            for tried in 1..=TRIES {
                assert_eq!(link.lost("away"), None, "not while there was no connection");
                link.reached(1);
                assert_eq!(taken(&mut link), [long, next]);
                let last = given_up.filter(|_| tried == TRIES);
                assert_eq!(link.lost("no acknowledgement"), last);
            }
            link.reached(1);
            let left = if given_up.is_some() {
                vec![next]
            } else {
                vec![long, next]
            };
            assert_eq!(taken(&mut link), left);
            assert_eq!(link.dropped, u64::from(given_up.is_some()));
        }
    }

    #[test]
    fn what_is_under_way_and_what_waits_are_bounded_in_bytes() {
        let mut link = Link::default();
        link.reached(1);
        let half = WINDOW_BYTES / 2;
        let [first, second, third] = [half, half, 1].map(|bytes| link.push(message(), bytes, 9));
        assert_eq!(taken(&mut link), [first, second]);
        link.acknowledged(first);
        assert_eq!(taken(&mut link), [third]);
        link.acknowledged(third);
        let longer = link.push(message(), 2 * WINDOW_BYTES, 9);
        link.push(message(), 1, 9);
        assert_eq!(taken(&mut link), [longer], "alone");
        let waiting = (0..9).map(|_| link.push(message(), QUEUE_BYTES / 2, 99));
        assert_eq!(waiting.count(), 9);
        assert_eq!((link.queue_bytes, link.dropped), (QUEUE_BYTES, 8));
    }

    #[test]
    fn a_frame_has_the_time_that_its_length_needs_after_the_last_sign_of_the_link() {
        let mut link = Link::default();
        link.reached(1);
        assert_eq!(link.due(), None);
        let first = link.push(message(), 100_000, 9);
        link.push(message(), 0, 9);
        link.take(NOW);
        link.take(NOW);
        assert_eq!(link.due(), Some(NOW + Duration::from_millis(400)));
        let later = NOW + Duration::from_millis(390);
        link.progressed(later);
        link.acknowledged(first);
        assert_eq!(link.due(), Some(later + Duration::from_millis(300)));
    }

    #[test]
    fn a_newer_connection_of_a_peer_ends_the_one_before() {
        let mut link = Link::default();
        assert!(!link.speaks());
        let (first, mut superseded) = link.begins();
        assert!(link.speaks() && superseded.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let (second, newest) = link.begins();
        assert!(
            second > first && superseded.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        );
        assert!(link.speaks());
        drop(newest);
        assert!(!link.speaks());
    }
}
