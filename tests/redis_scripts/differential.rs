//! The scripts and the reference register, given the same random operations at the
//! same moments, must answer the same and store the same.
//!
//! Replay one sequence: `TENURE_SEED=42 TENURE_SEQUENCES=1 cargo test differential`.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure::lease::register::{LeaderKey, Present, Register, State};
use tenure::lease::{
    Acquired, Bid, CheckpointWrite, CheckpointWritten, Claim, Epoch, Holder, NodeId, Profile,
    Released, Renewed, Revision, SessionId,
};
use tenure::time::UnixMs;

use super::redis_server::{RedisServer, Reply};
use super::{
    ACQUIRE, CHANNEL, CHECKPOINT, LEADER, OBSERVE, READ_CHECKPOINT, RELEASE, RENEW, STATE, Scripts,
    WRITE_CHECKPOINT,
};

const SEQUENCES: u64 = 200;
const OPERATIONS: usize = 60;
/// PTTL reads the clock a moment before or after TIME does.
const LEFT_SLACK_MS: u64 = 1_000;
/// A script whose TIME is this close to the expiry of the key may find either.
const UNSURE_MS: u64 = 2;

/// What an answer is made of. `Left` is compared with slack.
#[derive(Clone, Debug)]
enum Part {
    Word(String),
    Bytes(Vec<u8>),
    Number(u64),
    Left(u64),
}

fn word(text: impl ToString) -> Part {
    Part::Word(text.to_string())
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}

fn agrees(part: &Part, reply: &Reply) -> bool {
    match part {
        Part::Word(text) => reply.text() == text,
        Part::Bytes(bytes) => reply.bytes() == bytes,
        Part::Number(number) => reply.number() == *number,
        Part::Left(left) => reply.number().abs_diff(*left) <= LEFT_SLACK_MS,
    }
}

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

fn record_of(profile: Option<&Profile>) -> String {
    profile.map_or_else(String::new, |profile| {
        serde_json::to_string(profile).unwrap()
    })
}

fn revision_text(revision: Option<Revision>) -> String {
    revision.map_or_else(String::new, |revision| revision.to_string())
}

fn holder_parts(holder: &Holder, left: Option<u64>) -> Vec<Part> {
    let unknown = holder.profile.node == NodeId::unknown();
    let ttl = match left {
        // Where the TTL is unknown, what is left stands in for it.
        Some(left) if unknown && holder.ttl == Duration::from_millis(left) => Part::Left(left),
        _ => Part::Number(ms(holder.ttl)),
    };
    let profile = (!unknown).then_some(&holder.profile);
    let mut parts = vec![
        Part::Number(holder.epoch.get()),
        word(&holder.session),
        word(record_of(profile)),
        Part::Number(holder.since.0),
        ttl,
    ];
    parts.extend(left.map(Part::Left));
    parts
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
        let words: [&[u8]; 8] = [
            bid.session.as_str().as_bytes(),
            record.as_bytes(),
            ttl.as_bytes(),
            hold.as_bytes(),
            floor.as_bytes(),
            if bid.incumbent { b"1" } else { b"0" },
            self.server.as_bytes(),
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
        let words: [&[u8]; 7] = [
            epoch.as_bytes(),
            claim.session.as_str().as_bytes(),
            ttl.as_bytes(),
            hold.as_bytes(),
            self.server.as_bytes(),
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
        let words: [&[u8]; 4] = [
            epoch.as_bytes(),
            write.session.as_str().as_bytes(),
            expected.as_bytes(),
            &write.bytes,
        ];
        let reply = self.run(WRITE_CHECKPOINT, &words)?;
        // In Redis a lease that is over is gone whoever looks.
        self.model.observe(self.present());
        match self.model.write_checkpoint(&write, stored) {
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

    /// What operators and failovers do to keys.
    fn meddle(&mut self) {
        let what = self.random.u8(0..9);
        self.log.push(format!("meddle {what}"));
        match what {
            0 | 1 => {
                self.scripts.command(&["DEL", LEADER]);
                self.model.leader = None;
            }
            2 => {
                self.scripts.command(&["DEL", STATE]);
                self.model.state = None;
            }
            3 => {
                self.scripts.command(&["DEL", CHECKPOINT]);
                self.checkpoint = None;
            }
            4 => {
                self.server = if self.server == "run-a" {
                    "run-b"
                } else {
                    "run-a"
                };
            }
            5 => self.set_back_state(),
            6 => self.set_back_leader(),
            7 => self.set_back_clock(),
            _ if self.random.u8(0..8) == 0 => self.near_the_last_epoch(),
            _ => {}
        }
    }

    fn set_back_state(&mut self) {
        let Some(old) = self.random.choice(&self.states).cloned() else {
            return;
        };
        self.put_state(&old);
        self.model.state = Some(old);
    }

    fn set_back_leader(&mut self) {
        let Some(claim) = self.random.choice(&self.claims).cloned() else {
            return;
        };
        let leader = LeaderKey {
            epoch: claim.epoch,
            session: claim.session,
            expires_ms: self.now_ms + 50_000,
        };
        let value = format!("{}:{}", leader.epoch, leader.session);
        let expires = leader.expires_ms.to_string();
        self.scripts
            .command(&["SET", LEADER, &value, "PXAT", &expires]);
        self.model.leader = Some(leader);
    }

    /// As after a clock that was set back: what stands, stands for too long.
    fn set_back_clock(&mut self) {
        if let Some(mut state) = self.model.state.clone()
            && state.hold_until_ms > 0
        {
            state.hold_until_ms += 10_000_000;
            self.put_state(&state);
            self.model.state = Some(state);
        }
        if let Some(leader) = &mut self.model.leader {
            leader.expires_ms += 10_000_000;
            let expires = leader.expires_ms.to_string();
            self.scripts.command(&["PEXPIREAT", LEADER, &expires]);
        }
    }

    fn near_the_last_epoch(&mut self) {
        let Some(mut state) = self.model.state.clone() else {
            return;
        };
        let below = self.random.u64(0..3);
        state.epoch = Epoch::new(Epoch::MAX.get() - below).unwrap();
        self.put_state(&state);
        self.model.state = Some(state);
    }

    fn put_state(&mut self, state: &State) {
        let fields = fields_of(state);
        let mut words = vec!["HSET", STATE];
        for (name, value) in &fields {
            words.extend([*name, value.as_str()]);
        }
        self.scripts.command(&words);
    }

    /// What is stored, key by key and field by field.
    fn compare_stored(&mut self) {
        let flat = self.scripts.command(&["HGETALL", STATE]);
        let found: BTreeMap<&str, String> = flat
            .list()
            .chunks(2)
            .map(|pair| (leak(pair[0].text()), pair[1].text().to_owned()))
            .collect();
        let expected = self.model.state.as_ref().map(fields_of).unwrap_or_default();
        assert_eq!(found, expected, "state, after:\n{}", self.log.join("\n"));

        let leader = self.scripts.command(&["GET", LEADER]);
        let expires = self.scripts.command(&["PEXPIRETIME", LEADER]);
        match (&self.model.leader, leader) {
            (None, found) => assert_eq!(found, Reply::Nil, "{}", self.log.join("\n")),
            // A short lease may have run out since.
            (Some(leader), Reply::Nil) => {
                let expires_ms = leader.expires_ms;
                let over = expires_ms <= self.time();
                assert!(over, "the lease is gone, after:\n{}", self.log.join("\n"));
            }
            (Some(leader), found) => {
                assert_eq!(found.text(), format!("{}:{}", leader.epoch, leader.session));
                if let Reply::Number(at @ 0..) = expires {
                    assert_eq!(u64::try_from(at).unwrap(), leader.expires_ms);
                }
            }
        }
        let checkpoint = self.scripts.command(&["HGET", CHECKPOINT, "revision"]);
        let expected = self.checkpoint.as_ref().map(|(revision, _)| *revision);
        match expected {
            None => assert_eq!(checkpoint, Reply::Nil),
            Some(revision) => assert_eq!(checkpoint.text(), revision.to_string()),
        }
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

fn leak(text: &str) -> &'static str {
    FIELDS
        .iter()
        .find(|name| **name == text)
        .copied()
        .unwrap_or("unknown")
}

const FIELDS: [&str; 11] = [
    "epoch",
    "session",
    "record",
    "ttl_ms",
    "hold_ms",
    "acquired_ms",
    "expires_ms",
    "server",
    "hold_until_ms",
    "ended",
    "checkpoint",
];

fn fields_of(state: &State) -> BTreeMap<&'static str, String> {
    let session = state.session.as_ref();
    let values = [
        state.epoch.to_string(),
        session.map_or_else(String::new, ToString::to_string),
        record_of(state.profile.as_ref()),
        state.ttl_ms.to_string(),
        state.hold_ms.to_string(),
        state.acquired.0.to_string(),
        state.expires_ms.to_string(),
        state.server.clone(),
        state.hold_until_ms.to_string(),
        u8::from(state.ended).to_string(),
        revision_text(state.checkpoint),
    ];
    FIELDS.into_iter().zip(values).collect()
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
