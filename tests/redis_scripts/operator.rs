//! What an operator meets: readable keys, wake-ups, and records that are broken.

use super::redis_server::{RedisServer, Reply};
use super::{
    ACQUIRE, CHANNEL, CHECKPOINT, LEADER, OBSERVE, READ_CHECKPOINT, RELEASE, RENEW, STATE, Scripts,
    WRITE_CHECKPOINT, session,
};

/// One of each script, with arguments that would work on an empty store or hold.
fn everything(scripts: &mut Scripts, epoch: &str) -> Vec<(&'static str, Reply)> {
    let own = session(1);
    let record = r#"{"node":"n"}"#;
    let all: [(&str, &str, Vec<&str>); 6] = [
        (
            "acquire",
            ACQUIRE,
            vec![
                &own, record, "60000", "60600", "0", "0", "r", "PUBLISH", CHANNEL,
            ],
        ),
        ("renew", RENEW, vec![epoch, &own, "60000", "r"]),
        (
            "release",
            RELEASE,
            vec![epoch, &own, "60000", "60600", "r", "PUBLISH", CHANNEL, ""],
        ),
        ("observe", OBSERVE, vec![]),
        ("read_checkpoint", READ_CHECKPOINT, vec![]),
        (
            "write_checkpoint",
            WRITE_CHECKPOINT,
            vec![epoch, &own, "", "x", "r"],
        ),
    ];
    all.into_iter()
        .map(|(name, script, words)| (name, scripts.words(script, &words)))
        .collect()
}

fn field(scripts: &mut Scripts, name: &str) -> String {
    scripts.command(&["HGET", STATE, name]).text().to_owned()
}

#[test]
fn the_state_reads_like_a_status_page() {
    let server = RedisServer::start();
    let mut scripts = Scripts::on(&server);
    let own = session(1);
    let record = r#"{"node":"a","url":"http://a:8080","metadata":"AP8="}"#;
    let words = [
        &own, record, "60000", "60600", "0", "0", "run1", "PUBLISH", CHANNEL,
    ];
    let won = scripts.words(ACQUIRE, &words);
    let (now, epoch) = (won.list()[1].number(), won.list()[2].number().to_string());
    assert_eq!(won.list()[0].text(), "won");
    assert_eq!(field(&mut scripts, "epoch"), epoch);
    assert_eq!(field(&mut scripts, "session"), own);
    assert_eq!(field(&mut scripts, "record"), record);
    assert_eq!(field(&mut scripts, "ttl_ms"), "60000");
    assert_eq!(field(&mut scripts, "hold_ms"), "60600");
    assert_eq!(field(&mut scripts, "acquired_ms"), now.to_string());
    assert_eq!(field(&mut scripts, "server"), "run1");
    assert_eq!(field(&mut scripts, "ended"), "0");
    assert_eq!(field(&mut scripts, "hold_until_ms"), "0");
    assert_eq!(
        field(&mut scripts, "expires_ms"),
        (now + 60_000).to_string()
    );
    let leader = scripts.command(&["GET", LEADER]);
    assert_eq!(leader.text(), format!("{epoch}:{own}"));

    let kept = scripts.words(RENEW, &[&epoch, &own, "90000", "run2"]);
    let now = kept.list()[1].number();
    let expires = (now + 90_000).to_string();
    assert_eq!(field(&mut scripts, "expires_ms"), expires);
    assert_eq!(field(&mut scripts, "server"), "run2");
    let key = scripts.command(&["PEXPIRETIME", LEADER]).number();
    assert_eq!(key.to_string(), expires, "the key and its account disagree");
    let forever = scripts.command(&["TTL", STATE]);
    assert_eq!(forever, Reply::Number(-1));
}

#[test]
fn a_grant_and_a_release_are_told_and_a_renewal_is_not() {
    let server = RedisServer::start();
    let mut scripts = Scripts::on(&server);
    let mut listener = server.raw();
    listener.command(&["SUBSCRIBE", CHANNEL]);
    let mut heard = || listener.read().unwrap().list()[2].text().to_owned();
    let own = session(1);
    let release = |scripts: &mut Scripts, epoch: &str, prefer: &str| {
        let words = [
            epoch, &own, "60000", "60600", "r", "PUBLISH", CHANNEL, prefer,
        ];
        scripts.words(RELEASE, &words).list()[0].text().to_owned()
    };
    for prefer in ["", "-", "node with  spaces", "ended 1"] {
        let won = scripts.acquire(&own, "0", "r");
        let epoch = won.list()[2].number().to_string();
        // The same grant again, and a renewal: nobody waits for these.
        assert_eq!(scripts.acquire(&own, "0", "r").list()[0].text(), "won");
        scripts.words(RENEW, &[&epoch, &own, "60000", "r"]);
        assert_eq!(heard(), format!("began {epoch}"));
        assert_eq!(release(&mut scripts, &epoch, prefer), "released");
        assert_eq!(release(&mut scripts, &epoch, prefer), "released");
        assert_eq!(
            heard(),
            format!("ended {epoch} {prefer}").trim_end_matches(' ')
        );
    }
}

#[test]
fn epochs_are_compared_as_numbers() {
    let server = RedisServer::start();
    let mut scripts = Scripts::on(&server);
    // Read as text, 9 is above 10, 1e+15 is no number, and 2^53 is not exact.
    let beyond_the_clock = [
        ("4000000000009", "4000000000010", "4000000000011"),
        ("4000000000010", "4000000000009", "4000000000011"),
        ("999999999999999", "0", "1000000000000000"),
        ("1000000000000000", "0", "1000000000000001"),
        ("0", "1000000000000000", "1000000000000001"),
        ("9007199254740989", "0", "9007199254740990"),
        ("0", "9007199254740990", "9007199254740991"),
    ];
    for (stored, floor, granted) in beyond_the_clock {
        scripts.command(&["FLUSHALL"]);
        if stored != "0" {
            let low = session(1);
            // One below, so that the grant is `stored` itself.
            let below = (stored.parse::<u64>().unwrap() - 1).to_string();
            let raised = scripts.acquire(&low, &below, "r");
            assert_eq!(raised.list()[0].text(), "hold");
            scripts.command(&["HSET", STATE, "hold_until_ms", "0"]);
            let won = scripts.acquire(&low, &below, "r");
            assert_eq!(won.list()[2].number().to_string(), stored);
            let words = [stored, &low, "1", "1", "r", "PUBLISH", CHANNEL, ""];
            assert_eq!(scripts.words(RELEASE, &words).list()[0].text(), "released");
        }
        let mut won = scripts.acquire(&session(2), floor, "r");
        if won.list()[0].text() == "hold" {
            scripts.command(&["HSET", STATE, "hold_until_ms", "0"]);
            won = scripts.acquire(&session(2), floor, "r");
        }
        assert_eq!(
            won.list()[2].number().to_string(),
            granted,
            "after {stored}"
        );
        let leader = scripts.command(&["GET", LEADER]);
        assert_eq!(leader.text(), format!("{granted}:{}", session(2)));
        assert_eq!(field(&mut scripts, "epoch"), granted);
    }
    let last = scripts.acquire(&session(2), "9007199254740991", "r");
    let last = if let Reply::List(_) = last {
        scripts.command(&["HSET", STATE, "hold_until_ms", "0"]);
        scripts.acquire(&session(2), "9007199254740991", "r")
    } else {
        last
    };
    assert!(last.error().starts_with("EXHAUSTED"), "{last:?}");
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_left_alone() {
    let server = RedisServer::start();
    let mut scripts = Scripts::on(&server);
    let own = session(1);
    let lease = |epoch: &str| format!("{epoch}:{own}");
    let broken: Vec<(&str, Vec<Vec<String>>)> = {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let leader = |value: &str| vec![words(&["SET", LEADER, value, "PX", "60000"])];
        let state = |name: &str, value: &str| vec![words(&["HSET", STATE, name, value])];
        vec![
            (
                LEADER,
                vec![words(&["DEL", LEADER]), words(&["LPUSH", LEADER, "x"])],
            ),
            (STATE, vec![words(&["SET", STATE, "x"])]),
            (LEADER, leader("nonsense")),
            (LEADER, leader(&lease("ten"))),
            (LEADER, leader(&lease("0"))),
            (LEADER, leader(&lease("-5"))),
            (LEADER, leader(&lease("1e3"))),
            (LEADER, leader(&lease("0x10"))),
            (LEADER, leader(&lease(" 7"))),
            (LEADER, leader(&lease("9007199254740992"))),
            (LEADER, leader(&lease("99999999999999999999"))),
            (LEADER, leader("7:somebody")),
            (LEADER, leader("7:")),
            (LEADER, leader("")),
            (LEADER, vec![words(&["PERSIST", LEADER])]),
            (STATE, state("epoch", "ten")),
            (STATE, state("epoch", "")),
            (STATE, state("epoch", "0")),
            (STATE, state("epoch", "1e+15")),
            (STATE, state("ttl_ms", "-1")),
            (STATE, state("hold_until_ms", "nan")),
            (STATE, state("expires_ms", "inf")),
            (STATE, state("session", "someone")),
            (STATE, state("ended", "yes")),
            (STATE, state("checkpoint", "7")),
            (STATE, vec![words(&["HDEL", STATE, "epoch"])]),
            (STATE, vec![words(&["HDEL", STATE, "server"])]),
        ]
    };
    for (key, commands) in broken {
        scripts.command(&["FLUSHALL"]);
        let won = scripts.acquire(&own, "0", "r");
        let epoch = won.list()[2].number().to_string();
        for words in &commands {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let reply = scripts.command(&words);
            assert!(!matches!(reply, Reply::Error(_)), "{words:?}: {reply:?}");
        }
        let before = scripts.dump();
        for (name, reply) in everything(&mut scripts, &epoch) {
            let error = reply.error();
            let told = error.starts_with("CORRUPT ") && error.contains(key);
            assert!(
                told && error.contains("DEL"),
                "{name} after {commands:?}: {error}"
            );
        }
        assert_eq!(scripts.dump(), before, "after {commands:?}");
    }
}

#[test]
fn a_broken_checkpoint_stops_only_the_checkpoint() {
    let server = RedisServer::start();
    let mut scripts = Scripts::on(&server);
    for words in [
        vec!["SET", CHECKPOINT, "x"],
        vec!["HSET", CHECKPOINT, "revision", "x", "bytes", "y"],
        vec!["HSET", CHECKPOINT, "revision", "7.0", "bytes", "y"],
    ] {
        scripts.command(&["FLUSHALL"]);
        scripts.command(&words);
        let before = scripts.dump().pop();
        let won = scripts.acquire(&session(1), "0", "r");
        let epoch = won.list()[2].number().to_string();
        for (name, reply) in everything(&mut scripts, &epoch) {
            let concerned = name.ends_with("checkpoint");
            assert_eq!(
                matches!(reply, Reply::Error(_)),
                concerned,
                "{name}: {reply:?}"
            );
        }
        assert_eq!(scripts.dump().pop(), before);
    }
}

#[test]
fn a_repair_as_the_error_tells_it_works() {
    let server = RedisServer::start();
    let mut scripts = Scripts::on(&server);
    let own = session(1);
    let first = scripts.acquire(&own, "0", "r").list()[2].number();
    scripts.command(&["HSET", STATE, "epoch", "ten"]);
    assert!(matches!(scripts.acquire(&own, "0", "r"), Reply::Error(_)));
    scripts.command(&["DEL", STATE]);
    let again = scripts.acquire(&own, &first.to_string(), "r");
    assert_eq!(again.list()[0].text(), "won");
    assert!(again.list()[2].number() > first);
}

#[test]
fn a_full_store_refuses_a_grant_whole_and_keeps_a_lease() {
    let server = RedisServer::start();
    let mut scripts = Scripts::on(&server);
    let won = scripts.acquire(&session(1), "0", "r");
    let epoch = won.list()[2].number().to_string();
    scripts.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let kept = scripts.words(RENEW, &[&epoch, &session(1), "60000", "r"]);
    assert_eq!(kept.list()[0].text(), "kept");
    let words = [
        &epoch,
        &session(1),
        "60000",
        "60600",
        "r",
        "PUBLISH",
        CHANNEL,
        "",
    ];
    assert_eq!(scripts.words(RELEASE, &words).list()[0].text(), "released");
    let before = scripts.dump();
    let refused = scripts.acquire(&session(2), "0", "r");
    assert!(refused.error().starts_with("OOM"), "{refused:?}");
    assert_eq!(scripts.dump(), before);
}

/// What another server acknowledged and lost is not given to another value.
#[test]
fn a_revision_is_not_given_twice_across_servers() {
    let server = RedisServer::start();
    let mut scripts = Scripts::on(&server);
    let epoch = scripts.acquire(&session(1), "0", "old").list()[2]
        .number()
        .to_string();
    let write = |scripts: &mut Scripts, at: &str| {
        // As on a replica that never had a value.
        scripts.command(&["DEL", CHECKPOINT]);
        scripts.command(&["HSET", STATE, "checkpoint", ""]);
        let words = [epoch.as_str(), &session(1), "", "x", at];
        let written = scripts.words(WRITE_CHECKPOINT, &words);
        let (_, seq) = written.list()[2].text().split_once('.').unwrap();
        seq.parse::<u64>().unwrap()
    };
    assert_eq!(write(&mut scripts, "old"), 1);
    // Two that took its place one after the other, and nobody renewed in between.
    let (first, other) = (write(&mut scripts, "new"), write(&mut scripts, "newer"));
    assert!(
        first > 1_000_000 && other > 1_000_000 && first != other,
        "{first} {other}"
    );
    // A renewal there makes them one server's, and a third one begins above them.
    let kept = scripts.words(RENEW, &[&epoch, &session(1), "60000", "new"]);
    assert_eq!(kept.list()[0].text(), "kept");
    let third = write(&mut scripts, "third");
    assert!(third > first + 1_000_000, "{third}");
}
