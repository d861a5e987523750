//! Takes the connections of the others, and what comes over them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::frame::{Body, Decoder, Frame};
use super::handshake::{Known, Refusal, check, compare, hello};
use super::link::Link;
use super::mesh::{BEGUN_WITHIN, Event, ReplyHandle, Shared};
use super::secure::Shown;
use super::sockets::{Incoming, Listener, Outgoing, Stream};
use super::strangers::{Door, Gate, Stranger};
use super::wireframe::{Ended, part, read, write};
use super::{DiskId, MemberId};
use crate::time::{pause, within};

/// The longest first frame: nobody has proved anything yet.
pub(super) const LONGEST_HELLO: usize = 16 << 10;

pub(super) async fn run(shared: Arc<Shared>, mut socket: Box<dyn Listener>) {
    let (mut open, mut gate) = (JoinSet::new(), Gate::default());
    let door = Arc::new(Door::default());
    loop {
        tokio::select! {
            Some(ended) = open.join_next(), if !open.is_empty() => match ended {
                Ok((place, (Some(peer), ended))) => gone(place, peer, &ended),
                Ok((place, (None, ended))) => refused(&shared, &mut gate, place, &ended),
                Err(_) => {}
            },
            taken = socket.accept() => match taken {
                Ok((stream, place)) => match door.enter(place.ip()) {
                    Some(stranger) => {
                        let shared = Arc::clone(&shared);
                        open.spawn(async move { (place, incoming(&shared, stream, stranger).await) });
                    }
                    None => refused(&shared, &mut gate, place, &Ended::Slow(
                        "too many connections wait there that have not said who they are")),
                },
                Err(error) => {
                    let place = (IpAddr::from([0, 0, 0, 0]), 0).into();
                    refused(&shared, &mut gate, place, &Ended::Io(error));
                    // No descriptors left, as a rule: it passes.
                    pause(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

fn gone(place: SocketAddr, peer: MemberId, ended: &Ended) {
    tracing::info!(from = %place, %peer, reason = ended.told(), "a peer's connection ended");
}

fn refused(shared: &Shared, gate: &mut Gate, place: SocketAddr, ended: &Ended) {
    if matches!(ended, Ended::Closed) {
        // Whoever only looks whether the port is open: a load balancer, as a rule.
        tracing::debug!(from = %place, "a connection was closed before a word");
        return;
    }
    let (now, reason) = (shared.clock.now(), ended.told());
    if let Some(not_told) = gate.pass(now, place.ip(), &reason) {
        tracing::warn!(from = %place, reason, not_told, "a connection was not taken");
    }
}

/// Whether this start on this disk is the peer's; what is new is remembered.
pub(super) fn admit(
    shared: &Shared,
    id: MemberId,
    disk: &DiskId,
    incarnation: u64,
) -> Result<(), Refusal> {
    let now = shared.clock.now();
    let after = shared.options.suspect_after;
    let admitted = shared.link(id, |link| {
        link.known.alive = link.heard.is_some_and(|heard| now < heard + after);
        compare(&link.known, id, disk, incarnation)?;
        if link.known.incarnation != incarnation {
            link.delivered = 0;
        }
        link.known = Known {
            disk: Some(disk.clone()),
            incarnation,
            alive: true,
        };
        Ok(())
    });
    let admitted = admitted.unwrap_or(Err(Refusal::NoHello));
    if matches!(admitted, Err(Refusal::ChangedDisk { .. })) {
        let (from, disk) = (id, disk.clone());
        // It comes again: nothing is lost where there is no room.
        let _ = shared.events.try_send(Event::OtherDisk { from, disk });
    }
    admitted
}

/// One connection, until it ends: whose it was, if that was proved, and why it ended.
async fn incoming(
    shared: &Shared,
    stream: Box<dyn Stream>,
    stranger: Stranger,
) -> (Option<MemberId>, Ended) {
    let (stream, shown) = match &shared.secure {
        Some(secure) => match secure.accept(stream).await {
            Ok((stream, shown)) => (stream, Some(shown)),
            Err(ended) => return (None, ended),
        },
        None => (stream, None),
    };
    let (mut from, mut to) = tokio::io::split(stream);
    let mut decoder = Decoder::new(LONGEST_HELLO);
    let began = begin(shared, shown.as_ref(), &mut from, &mut to, &mut decoder);
    let (id, ended) = match within(BEGUN_WITHIN, began).await {
        Some(Ok((id, incarnation))) => {
            stranger.proved();
            decoder.trust();
            let ended = serve(shared, id, incarnation, &mut from, &mut to, &mut decoder).await;
            (Some(id), ended)
        }
        Some(Err(ended)) => (None, ended),
        None => (None, Ended::Slow("it connected and said nothing whole")),
    };
    if let Some(reason) = ended.owed() {
        let _ = write(&mut to, &shared.frame(0, Body::Refused { reason })).await;
        part(&mut from, &mut to).await;
    }
    (id, ended)
}

/// A peer's connection, until it ends or the peer makes another one.
async fn serve(
    shared: &Shared,
    id: MemberId,
    incarnation: u64,
    from: &mut Incoming,
    to: &mut Outgoing,
    decoder: &mut Decoder,
) -> Ended {
    let Some((mine, superseded)) = shared.link(id, Link::begins) else {
        return Ended::Closed;
    };
    let (way, frames) = mpsc::channel(1024);
    let sender = Sender {
        id,
        incarnation,
        connection: mine,
    };
    tokio::select! {
        ended = take(shared, &sender, from, decoder, way) => ended,
        ended = answer(to, frames) => ended,
        _ = superseded => Ended::Closed,
    }
}

/// Who is at the other end of a connection.
struct Sender {
    id: MemberId,
    incarnation: u64,
    /// The number of the connection among those of this peer.
    connection: u64,
}

async fn begin(
    shared: &Shared,
    shown: Option<&Shown>,
    from: &mut Incoming,
    to: &mut Outgoing,
    decoder: &mut Decoder,
) -> Result<(MemberId, u64), Ended> {
    let options = &shared.options;
    let frame = read(from, decoder).await?;
    let said = check(&frame, &options.identity, &options.members, None)?;
    vouched(shared, shown, frame.from)?;
    admit(shared, frame.from, &said.disk, frame.inc)?;
    let said = hello(&options.identity, &options.members, frame.from);
    write(to, &shared.frame(0, Body::Welcome(said))).await?;
    shared.heard(frame.from).await;
    Ok((frame.from, frame.inc))
}

/// With TLS, a member speaks for itself alone: its certificate is for its host.
fn vouched(shared: &Shared, shown: Option<&Shown>, id: MemberId) -> Result<(), Refusal> {
    let endpoint = shared.options.members.address(id);
    match (shown, endpoint.map(|endpoint| &endpoint.host)) {
        (Some(shown), Some(host)) if !shown.is_for(host) => Err(Refusal::Certificate {
            id,
            host: host.clone(),
        }),
        _ => Ok(()),
    }
}

/// Writes acknowledgements and answers.
async fn answer(to: &mut Outgoing, mut frames: mpsc::Receiver<Frame>) -> Ended {
    while let Some(frame) = frames.recv().await {
        if let Err(ended) = write(to, &frame).await {
            return ended;
        }
    }
    Ended::Closed
}

async fn take(
    shared: &Shared,
    sender: &Sender,
    from: &mut Incoming,
    decoder: &mut Decoder,
    way: mpsc::Sender<Frame>,
) -> Ended {
    let (id, mine) = (sender.id, Some(sender.connection));
    loop {
        let frame = match within(shared.options.suspect_after, read(from, decoder)).await {
            Some(Ok(frame)) => frame,
            Some(Err(ended)) => return ended,
            None => return Ended::Slow("nothing was heard on it for too long"),
        };
        if let Body::Refused { reason } = frame.body {
            return Ended::RefusedBy(reason);
        }
        let newest = shared.link(id, |link| link.incoming);
        if newest != mine || frame.from != id || frame.inc != sender.incarnation {
            return Ended::Closed;
        }
        shared.heard(id).await;
        // Room first: what counts as delivered is handed up in the same breath. A connection
        // that ends while it waits has delivered nothing, and the next one brings it again.
        let Ok(room) = shared.events.reserve().await else {
            return Ended::Closed;
        };
        let seq = frame.seq;
        let event = event(shared, frame, &way);
        let newest = shared.link(id, |link| {
            // A newer connection may have begun while this one waited.
            if Some(link.incoming) == mine && seq > link.delivered {
                link.delivered = seq;
                if let Some(event) = event {
                    room.send(event);
                }
            }
            link.incoming
        });
        if newest != mine || way.send(shared.frame(seq, Body::Ack)).await.is_err() {
            return Ended::Closed;
        }
    }
}

/// What a frame says to the layer above.
fn event(shared: &Shared, frame: Frame, way: &mpsc::Sender<Frame>) -> Option<Event> {
    let (from, incarnation) = (frame.from, frame.inc);
    match frame.body {
        Body::Message { body } => Some(Event::Message {
            from,
            incarnation,
            body,
        }),
        Body::Request { body } => {
            let frame = Box::new(shared.frame(frame.seq, Body::Ack));
            let reply = ReplyHandle {
                frame,
                way: way.clone(),
            };
            Some(Event::Request {
                from,
                incarnation,
                body,
                reply,
            })
        }
        _ => None,
    }
}
