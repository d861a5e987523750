//! Reaches one peer, and sends what waits for it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::MemberId;
use super::frame::{Body, Decoder, Frame};
use super::handshake::{check, hello};
use super::listener::{LONGEST_HELLO, admit};
use super::mesh::{BEGUN_WITHIN, Shared};
use super::sockets::{Incoming, Outgoing, Stream};
use super::wireframe::{Ended, fill, part, read, write};
use crate::time::{pause, within};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// The most reasons that are told between two connections.
const MOST_REASONS: usize = 16;

pub(super) async fn run(shared: Arc<Shared>, id: MemberId) {
    let (mut wait, mut told) = (FIRST_PAUSE, BTreeSet::new());
    loop {
        let ended = session(&shared, id).await;
        let why = ended.told();
        let lost = shared.link(id, |link| {
            let stood = link.connected;
            (stood, link.lost(&why), link.speaks())
        });
        let (stood, given_up, speaks) = lost.unwrap_or_default();
        if let Some(bytes) = given_up {
            tracing::warn!(peer = %id, bytes, "a message is given up: the link to the peer is too \
                slow for its length");
        }
        let gone =
            matches!(&ended, Ended::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        // Whose own connection stands is no dead process: something refuses in its place.
        if gone && !speaks {
            let verdict = shared.state().detector.refused(id);
            shared.tell(verdict).await;
        }
        if stood {
            (wait, told) = (FIRST_PAUSE, BTreeSet::new());
        }
        // Once a reason: a peer may be away for days.
        if told.len() < MOST_REASONS && !told.contains(&why) {
            tracing::warn!(peer = %id, reason = %why, "no connection to a peer");
            told.insert(why);
        }
        pause(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(LAST_PAUSE);
    }
}

/// One connection, until it ends.
async fn session(shared: &Shared, id: MemberId) -> Ended {
    let (mut from, mut to) = match connect(shared, id).await {
        Ok(stream) => tokio::io::split(stream),
        Err(ended) => return ended,
    };
    let mut decoder = Decoder::new(LONGEST_HELLO);
    let began = begin(shared, id, &mut from, &mut to, &mut decoder);
    let ended = match within(BEGUN_WITHIN, began).await {
        Some(Ok(incarnation)) => {
            decoder.trust();
            shared.link(id, |link| link.reached(incarnation));
            tracing::info!(peer = %id, incarnation, "connected to a peer");
            match serve(shared, id, incarnation, &mut from, &mut to, &mut decoder).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            }
        }
        Some(Err(ended)) => ended,
        None => Ended::Slow("it accepts connections and does not answer"),
    };
    if let Some(reason) = ended.owed() {
        let _ = write(&mut to, &shared.frame(0, Body::Refused { reason })).await;
        part(&mut from, &mut to).await;
    }
    ended
}

async fn connect(shared: &Shared, id: MemberId) -> Result<Box<dyn Stream>, Ended> {
    let Some(endpoint) = shared.options.members.address(id) else {
        return Err(Ended::Closed);
    };
    let (host, port) = (&endpoint.host, endpoint.port);
    let stream = match shared.network.connect(host, port, BEGUN_WITHIN).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(Ended::Slow("it cannot be reached: nothing answers there"));
        }
        Err(error) => return Err(error.into()),
    };
    match &shared.secure {
        Some(secure) => secure.dial(host, stream).await,
        None => Ok(stream),
    }
}

async fn begin(
    shared: &Shared,
    id: MemberId,
    from: &mut Incoming,
    to: &mut Outgoing,
    decoder: &mut Decoder,
) -> Result<u64, Ended> {
    let options = &shared.options;
    let said = hello(&options.identity, &options.members, id);
    write(to, &shared.frame(0, Body::Hello(said))).await?;
    let answer = read(from, decoder).await?;
    if let Body::Refused { reason } = answer.body {
        return Err(Ended::RefusedBy(reason));
    }
    let said = check(&answer, &options.identity, &options.members, Some(id))?;
    admit(shared, id, &said.disk, answer.inc)?;
    shared.heard(id).await;
    Ok(answer.inc)
}

async fn serve(
    shared: &Shared,
    id: MemberId,
    incarnation: u64,
    from: &mut Incoming,
    to: &mut Outgoing,
    decoder: &mut Decoder,
) -> Result<std::convert::Infallible, Ended> {
    let mut beat_at = shared.clock.now();
    loop {
        while let Some(frame) = decoder.next_frame()? {
            take(shared, id, incarnation, frame)?;
            shared.heard(id).await;
        }
        let now = shared.clock.now();
        while let Some(Some(next)) = shared.link(id, |link| link.take(now)) {
            write(to, &shared.frame(next.seq, next.body)).await?;
        }
        let now = shared.clock.now();
        if now >= beat_at {
            beat_at = now + shared.options.heartbeat;
            let beat = shared.link(id, |link| link.beat(now, shared.options.queue));
            if let Some(Some(next)) = beat {
                write(to, &shared.frame(next.seq, next.body)).await?;
            }
        }
        let due = shared.link(id, |link| link.due()).flatten();
        let due = due.map_or(beat_at, |due| due.min(beat_at));
        let woken = async {
            match shared.wake.get(&id) {
                Some(wake) => wake.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            filled = fill(from, decoder) => {
                filled?;
                let now = shared.clock.now();
                shared.link(id, |link| link.progressed(now));
                continue;
            }
            () = woken => {}
            () = pause(due.since(shared.clock.now())) => {}
        }
        let now = shared.clock.now();
        let due = shared.link(id, |link| link.due()).flatten();
        if due.is_some_and(|due| now >= due) {
            return Err(Ended::Slow("it did not acknowledge a frame in time"));
        }
    }
}

fn take(shared: &Shared, id: MemberId, incarnation: u64, frame: Frame) -> Result<(), Ended> {
    if let Body::Refused { reason } = frame.body {
        return Err(Ended::RefusedBy(reason));
    }
    if frame.from != id || frame.inc != incarnation {
        return Err(Ended::RefusedBy(
            "another node answers on its connection".to_owned(),
        ));
    }
    shared.link(id, |link| match frame.body {
        Body::Ack => link.acknowledged(frame.seq),
        Body::Reply { body } => link.answered(frame.seq, body),
        _ => {}
    });
    Ok(())
}
