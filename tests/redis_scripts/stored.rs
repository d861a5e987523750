//! Compares what the store holds with what the register holds.

use std::collections::BTreeMap;

use super::super::parts::{fields_of, known_field};
use super::super::redis_server::Reply;
use super::super::{CHECKPOINT, LEADER, STATE};
use super::Pair;

impl Pair {
    /// What is stored, key by key and field by field.
    pub(super) fn compare_stored(&mut self) {
        let flat = self.scripts.command(&["HGETALL", STATE]);
        let found: BTreeMap<&str, String> = flat
            .list()
            .chunks(2)
            .map(|pair| (known_field(pair[0].text()), pair[1].text().to_owned()))
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
}
