//! The scripts and the reference register, given the same random operations at the
//! same moments, must answer the same and store the same.
//!
//! Replay one sequence: `TENURE_SEED=42 TENURE_SEQUENCES=1 cargo test differential`.

#[path = "meddling.rs"]
mod meddling;
#[path = "stored.rs"]
mod stored;

use std::collections::BTreeMap;
use std::time::Duration;

use tenure::lease::register::{Present, Register, State};
use tenure::lease::{
    Acquired, Bid, CheckpointWrite, CheckpointWritten, Claim, Epoch, Profile, Released, Renewed,
    Revision, SessionId,
};
use tenure::time::UnixMs;

use super::parts::{Part, agrees, holder_parts, ms, record_of, revision_text, word};
use super::redis_server::{RedisServer, Reply};
use super::{
    ACQUIRE, CHANNEL, OBSERVE, READ_CHECKPOINT, RELEASE, RENEW, Scripts, WRITE_CHECKPOINT,
};

const SEQUENCES: u64 = 200;
const OPERATIONS: usize = 60;
/// A script whose TIME is this close to the expiry of the key may find either.
const UNSURE_MS: u64 = 2;

/// One sequence: the store, the model, and what the nodes remember.
struct Pair {
    scripts: Scripts,
    model: Register,
    checkpoint: Option<(Revision, Vec<u8>)>,
    random: fastrand::Rng,
    server: &'static str,
    claims: Vec<Claim>,
    states: Vec<State>,
    seen: BTreeMap<String, u32>,
    log: Vec<String>,
    now_ms: u64,
}

impl Pair {
    fn new(server: &RedisServer, seed: u64) -> Self {
        let mut scripts = Scripts::on(server);
        scripts.command(&["FLUSHALL"]);
        Self {
            scripts,
            model: Register::default(),
            checkpoint: None,
            random: fastrand::Rng::with_seed(seed),
            server: "run-a",
            claims: Vec::new(),
            states: Vec::new(),
            seen: BTreeMap::new(),
            log: Vec::new(),
            now_ms: 0,
        }
    }

    fn session(&mut self) -> SessionId {
        SessionId::from_bits(self.random.u128(1..=3))
    }

    fn present(&self) -> Present<'static> {
        Present {
            lease_ms: self.now_ms,
            wall: UnixMs(self.now_ms),
            server: self.server,
        }
    }

    fn time(&mut self) -> u64 {
        let time = self.scripts.command(&["TIME"]);
        let part = |at: usize| time.list()[at].text().parse::<u64>().unwrap();
        part(0) * 1_000 + part(1) / 1_000
    }

    /// A key about to expire is waited out, so that both sides see it gone.
    fn avoid_the_edge(&mut self) {
        while let Some(expires_ms) = self.model.leader.as_ref().map(|leader| leader.expires_ms) {
            let near = expires_ms.saturating_sub(15)..=expires_ms + UNSURE_MS;
            if !near.contains(&self.time()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs a script and takes its time; false where it hit the very edge.
    fn run(&mut self, script: &str, words: &[&[u8]]) -> Option<Reply> {
        self.avoid_the_edge();
        let reply = self.scripts.run(script, words);
        self.now_ms = match &reply {
            Reply::List(parts) => parts[1].number(),
            // An error tells no time. Only "no epoch is left" is expected, which
            // stays true a moment later.
            _ => self.time(),
        };
        let leader = self.model.leader.as_ref();
        let unsure =
            leader.is_some_and(|leader| leader.expires_ms.abs_diff(self.now_ms) <= UNSURE_MS);
        (!unsure).then_some(reply)
    }

    fn compare(&mut self, reply: &Reply, kind: &str, parts: &[Part]) {
        *self.seen.entry(kind.to_owned()).or_default() += 1;
        self.log.push(format!("  {reply:?}"));
        let list = reply.list();
        let (found, rest) = (list[0].text(), &list[2..]);
        let expected_kind = kind.split(' ').next().unwrap();
        let same = found == expected_kind
            && rest.len() == parts.len()
            && parts
                .iter()
                .zip(rest)
                .all(|(part, reply)| agrees(part, reply));
        assert!(
            same,
            "the register says {kind} {parts:?}, after:\n{}",
            self.log.join("\n")
        );
    }

    fn floor(&mut self) -> Option<Epoch> {
        let known = self.model.epoch().map_or(1, Epoch::get);
        let past = self.claims.last().map_or(1, |claim| claim.epoch.get());
        let number = match self.random.u8(0..10) {
            0..=3 => return None,
            4 | 5 => known,
            6 => known.saturating_sub(1).max(1),
            7 => known + self.random.u64(1..100),
            8 => past,
            _ => self.random.u64(1..1_000),
        };
        Epoch::new(number).ok()
    }

    fn ttl(&mut self) -> Duration {
        let short = self.random.u8(0..8) == 0;
        Duration::from_millis(if short { 30 } else { 60_000 })
    }

    fn hold(&mut self) -> Duration {
        Duration::from_micros(*self.random.choice(&[0, 1_500, 20_000, 60_600_000]).unwrap())
    }

    fn bid(&mut self) -> Bid {
        let node = format!("node {}", self.random.u8(0..3)).parse().unwrap();
        Bid {
            session: self.session(),
            profile: Profile {
                node,
                url: self.random.bool().then(|| "http://a:1/\"ü\"".to_owned()),
                metadata: (0..self.random.usize(0..4))
                    .map(|_| self.random.u8(..))
                    .collect(),
            },
            ttl: self.ttl(),
            floor: self.floor(),
            incumbent: self.random.u8(0..4) == 0,
            hold: self.hold(),
        }
    }

    /// A tenure that was granted at some time, or one that never was.
    fn claim(&mut self) -> Claim {
        let newest = self.claims.len().saturating_sub(1);
        let at = if self.random.bool() {
            newest
        } else {
            self.random.usize(0..=newest)
        };
        let mut claim = self.claims.get(at).cloned().unwrap_or(Claim {
            epoch: Epoch::new(7).unwrap(),
            session: SessionId::from_bits(1),
            ttl: Duration::from_secs(60),
            hold: Duration::from_secs(60),
        });
        if self.random.u8(0..6) == 0 {
            claim.session = self.session();
        }
        claim.ttl = self.ttl();
        claim
    }

    fn acquire(&mut self) -> Option<()> {
        let bid = self.bid();
        self.log.push(format!("acquire of {} {bid:?}", self.server));
        let (ttl, hold) = (ms(bid.ttl).to_string(), millis_up(bid.hold).to_string());
        let floor = bid.floor.map_or(0, Epoch::get).to_string();
        let record = record_of(Some(&bid.profile));
        let words: [&[u8]; 9] = [
            bid.session.as_str().as_bytes(),
            record.as_bytes(),
            ttl.as_bytes(),
            hold.as_bytes(),
            floor.as_bytes(),
            if bid.incumbent { b"1" } else { b"0" },
            self.server.as_bytes(),
            b"PUBLISH",
            CHANNEL.as_bytes(),
        ];
        let reply = self.run(ACQUIRE, &words)?;
        match self.model.acquire(&bid, self.present()) {
            Err(_) => {
                *self.seen.entry("exhausted".to_owned()).or_default() += 1;
                let told = matches!(&reply, Reply::Error(text) if text.starts_with("EXHAUSTED"));
                assert!(told, "{reply:?} after:\n{}", self.log.join("\n"));
            }
            Ok(Acquired::Won { epoch, left }) => {
                let parts = [Part::Number(epoch.get()), Part::Number(ms(left))];
                self.compare(&reply, "won", &parts);
                self.claims.push(Claim {
                    epoch,
                    session: bid.session,
                    ttl: bid.ttl,
                    hold: bid.hold,
                });
            }
            Ok(Acquired::Held { holder, left }) => {
                self.compare(&reply, "held", &holder_parts(&holder, Some(ms(left))));
            }
            Ok(Acquired::Hold { retry_in, why }) => {
                let why = serde_json::to_value(why).unwrap();
                let why = why.as_str().unwrap();
                let parts = [Part::Number(ms(retry_in)), word(why)];
                self.compare(&reply, &format!("hold {why}"), &parts);
            }
        }
        Some(())
    }

    fn renew(&mut self) -> Option<()> {
        let claim = self.claim();
        self.log.push(format!("renew at {} {claim:?}", self.server));
        let (epoch, ttl) = (claim.epoch.to_string(), ms(claim.ttl).to_string());
        let words: [&[u8]; 4] = [
            epoch.as_bytes(),
            claim.session.as_str().as_bytes(),
            ttl.as_bytes(),
            self.server.as_bytes(),
        ];
        let reply = self.run(RENEW, &words)?;
        match self.model.renew(&claim, self.present()) {
            Renewed::Kept { left } => {
                self.compare(&reply, "kept", &[Part::Number(ms(left))]);
            }
            Renewed::Lost(None) => self.compare(&reply, "lost nobody", &[]),
            Renewed::Lost(Some(holder)) => {
                // The register does not tell what is left; the script does.
                let list = reply.list();
                let told = Reply::List(list[..list.len() - 1].to_vec());
                self.compare(&told, "lost holder", &holder_parts(&holder, None));
            }
        }
        Some(())
    }

    fn release(&mut self) -> Option<()> {
        let claim = self.claim();
        self.log
            .push(format!("release at {} {claim:?}", self.server));
        let (epoch, ttl) = (claim.epoch.to_string(), ms(claim.ttl).to_string());
        let hold = millis_up(claim.hold).to_string();
        let words: [&[u8]; 8] = [
            epoch.as_bytes(),
            claim.session.as_str().as_bytes(),
            ttl.as_bytes(),
            hold.as_bytes(),
            self.server.as_bytes(),
            b"PUBLISH",
            CHANNEL.as_bytes(),
            b"",
        ];
        let reply = self.run(RELEASE, &words)?;
        let kind = match self.model.release(&claim, self.present()) {
            Released::Released => "released",
            Released::NotHeld => "not_held",
        };
        self.compare(&reply, kind, &[]);
        Some(())
    }

    fn observe(&mut self) -> Option<()> {
        self.log.push("observe".to_owned());
        let reply = self.run(OBSERVE, &[])?;
        let observed = self.model.observe(self.present());
        let known = observed.epoch.map_or(0, Epoch::get);
        let mut parts = vec![Part::Number(known)];
        let kind = match &observed.holder {
            None => "observed nobody",
            Some((holder, left)) => {
                parts.extend(holder_parts(holder, Some(ms(*left))));
                "observed holder"
            }
        };
        self.compare(&reply, kind, &parts);
        Some(())
    }

    fn write_checkpoint(&mut self) -> Option<()> {
        let claim = self.claim();
        let stored = self.checkpoint.as_ref().map(|(revision, _)| *revision);
        let known = self.model.state.as_ref().and_then(|state| state.checkpoint);
        let expected = *self
            .random
            .choice(&[stored, stored, stored, stored, known, None])
            .unwrap();
        let bytes: Vec<u8> = (0..self.random.usize(0..40))
            .map(|_| self.random.u8(..))
            .collect();
        let write = CheckpointWrite {
            epoch: claim.epoch,
            session: claim.session,
            expected,
            bytes,
        };
        self.log.push(format!("{write:?}"));
        let epoch = write.epoch.to_string();
        let expected = revision_text(expected);
        let words: [&[u8]; 5] = [
            epoch.as_bytes(),
            write.session.as_str().as_bytes(),
            expected.as_bytes(),
            &write.bytes,
            self.server.as_bytes(),
        ];
        let reply = self.run(WRITE_CHECKPOINT, &words)?;
        // In Redis a lease that is over is gone whoever looks.
        self.model.observe(self.present());
        match self.model.write_checkpoint_at(&write, stored, self.server) {
            CheckpointWritten::Written(revision) => {
                self.compare(&reply, "written", &[word(revision)]);
                self.checkpoint = Some((revision, write.bytes));
            }
            CheckpointWritten::Stale { epoch, revision } => {
                let known = Part::Number(epoch.map_or(0, Epoch::get));
                self.compare(&reply, "stale", &[known, word(revision_text(revision))]);
            }
            CheckpointWritten::Mismatch { revision } => {
                self.compare(&reply, "mismatch", &[word(revision_text(revision))]);
            }
        }
        Some(())
    }

    fn read_checkpoint(&mut self) -> Option<()> {
        self.log.push("read checkpoint".to_owned());
        let reply = self.run(READ_CHECKPOINT, &[])?;
        let known = self.model.state.as_ref().and_then(|state| state.checkpoint);
        match (self.checkpoint.clone(), known) {
            (Some((revision, bytes)), _) => {
                self.compare(&reply, "present", &[word(revision), Part::Bytes(bytes)]);
            }
            (None, Some(revision)) => self.compare(&reply, "lost", &[word(revision)]),
            (None, None) => self.compare(&reply, "absent", &[]),
        }
        Some(())
    }

    /// Plays a sequence; false where a moment could not be told from the edge.
    fn play(&mut self) -> bool {
        for _ in 0..OPERATIONS {
            let done = match self.random.u8(0..100) {
                0..=37 => self.acquire(),
                38..=52 => self.renew(),
                53..=66 => self.release(),
                67..=73 => self.observe(),
                74..=84 => self.write_checkpoint(),
                85..=88 => self.read_checkpoint(),
                _ => {
                    self.meddle();
                    Some(())
                }
            };
            if done.is_none() {
                return false;
            }
            self.compare_stored();
            self.states.extend(self.model.state.clone());
        }
        true
    }
}

fn millis_up(span: Duration) -> u64 {
    tenure::time::millis_up(span)
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn differential_scripts_and_register_agree() {
    let server = RedisServer::start();
    let first = number_from_env("TENURE_SEED").unwrap_or(1);
    let count = number_from_env("TENURE_SEQUENCES").unwrap_or(SEQUENCES);
    let mut seen = BTreeMap::<String, u32>::new();
    let mut unsure = 0;
    for seed in first..first + count {
        let mut pair = Pair::new(&server, seed);
        pair.log.push(format!("TENURE_SEED={seed}"));
        if !pair.play() {
            unsure += 1;
        }
        for (kind, times) in pair.seen {
            *seen.entry(kind).or_default() += times;
        }
    }
    println!("{count} sequences of {OPERATIONS}, {unsure} cut short: {seen:?}");
    assert!(
        unsure * 10 <= count,
        "{unsure} of {count} sequences were unsure"
    );
    if count >= SEQUENCES {
        for kind in [
            "won",
            "held",
            "hold store_went_back",
            "hold lease_vanished",
            "hold server_changed",
            "hold standing",
            "exhausted",
            "kept",
            "lost nobody",
            "lost holder",
            "released",
            "not_held",
            "observed nobody",
            "observed holder",
            "written",
            "stale",
            "mismatch",
            "present",
            "lost",
            "absent",
        ] {
            let times = seen.get(kind).copied().unwrap_or(0);
            assert!(times >= 5, "{kind} was answered {times} times only");
        }
    }
}
