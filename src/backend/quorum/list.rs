//! The members that a disk's promises were made among.
//!
//! What was promised under one list of members must be met under the next one. It is where
//! the two differ by one member: of A with n members and B = A + x a majority is ⌊n/2⌋+1 and
//! ⌊(n+1)/2⌋+1; together n+2, for even n as for odd, and all of them are among the n+1 of B.
//! So they share a member, which is in A, for x is in no majority of A; and it has its disk
//! with it. Between lists that differ by two, 5 and 3 members, or one exchanged for another,
//! no member need be shared: both may elect a leader, and issue one epoch.
//!
//! A second change must not make two steps of it either, whether anybody stopped or not. So
//! it is accepted only where, in each election on the disk, a holder has been elected under
//! the present list and its value is on this disk: a majority's grants made it the holder,
//! and they meet every grant and every value of the list before. Whoever votes under the
//! second list then knows by itself all that was promised under the first. To go back by the
//! same step is always possible, for any two majorities of these two lists meet.
//!
//! This is each disk's own judgement. It does not keep two halves of one cluster from taking
//! two different steps at once (of 1,2,3,4 to 1,2,3 and to 1,2,4), nor a disk from being lost
//! meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lease::{ElectionName, Epoch};
use crate::peers::MemberId;
use crate::quorum::Record;

/// What the disk knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    members: MemberIds,
    /// The list before the last change.
    before: Option<MemberIds>,
    /// Elections that the disk had a record of at that change, and what they had granted.
    unsettled: BTreeMap<ElectionName, Option<Epoch>>,
}

/// Members, in the order of their rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberIds(BTreeSet<MemberId>);

impl fmt::Display for MemberIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.0.iter().map(MemberId::as_str).collect();
        f.write_str(&ids.join(","))
    }
}

impl FromIterator<MemberId> for MemberIds {
    fn from_iter<I: IntoIterator<Item = MemberId>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

/// Why a disk takes no part among these members.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListRefused {
    /// More than one member came or went.
    #[error(
        "its promises were made among the members {on_disk}, and this start lists {given}: where more \
         than one member differs, both lists could elect a leader. Start with {on_disk}, or change \
         the list by one member at a time, the same way on all nodes"
    )]
    Apart {
        /// With which it was started last.
        on_disk: MemberIds,
        /// With which it is started now.
        given: MemberIds,
    },
    /// The change before is not complete here.
    #[error(
        "its promises were made among the members {before}, then {on_disk}, and this start lists {given} \
         before that change was complete: nobody was seen to lead {} under {on_disk}. Start all nodes with \
         {on_disk}, let each of these elections have a leader, and change the list again then",
        listed(elections)
    )]
    Unsettled {
        /// Before the last change.
        before: MemberIds,
        /// With which it was started last.
        on_disk: MemberIds,
        /// With which it is started now.
        given: MemberIds,
        /// In which nobody has led since.
        elections: Vec<ElectionName>,
    },
}

fn listed(elections: &[ElectionName]) -> String {
    let names: Vec<String> = elections.iter().map(ElectionName::to_string).collect();
    names.join(", ")
}

impl List {
    /// A disk without promises, or one that knows of no list: of an older version.
    pub fn first(members: MemberIds) -> Self {
        Self {
            members,
            before: None,
            unsettled: BTreeMap::new(),
        }
    }

    /// The list after a start with `given`, where that is safe for what `records` promise.
    pub fn started_with(
        self,
        given: &MemberIds,
        records: &BTreeMap<ElectionName, Record>,
    ) -> Result<Self, ListRefused> {
        if *given == self.members {
            return Ok(self);
        }
        if self.members.0.symmetric_difference(&given.0).count() > 1 {
            return Err(ListRefused::Apart {
                on_disk: self.members,
                given: given.clone(),
            });
        }
        let elections = self.still_unsettled(records);
        if let Some(before) = self.before
            && before != *given
            && !elections.is_empty()
        {
            return Err(ListRefused::Unsettled {
                before,
                on_disk: self.members,
                given: given.clone(),
                elections,
            });
        }
        let known = |(name, record): (&ElectionName, &Record)| (name.clone(), record.known);
        Ok(Self {
            members: given.clone(),
            before: Some(self.members),
            unsettled: records.iter().map(known).collect(),
        })
    }

    fn still_unsettled(&self, records: &BTreeMap<ElectionName, Record>) -> Vec<ElectionName> {
        let open = |(name, known): &(&ElectionName, &Option<Epoch>)| {
            let led = records.get(*name).and_then(led_and_brought);
            led.is_none() || led <= **known
        };
        let unsettled = self.unsettled.iter().filter(open);
        unsettled.map(|(name, _)| name.clone()).collect()
    }
}

/// The newest grant, where its holder has brought the value of a majority to this disk:
/// only who was granted the lease by a majority writes.
fn led_and_brought(record: &Record) -> Option<Epoch> {
    let (grant, stored) = (record.grant.as_ref()?, record.checkpoint.as_ref()?);
    (grant.epoch == stored.under && !record.joining).then_some(grant.epoch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lease::{Profile, SessionId};
    use crate::quorum::{Grant, Stored};
    use crate::time::UnixMs;

    fn members(count: usize) -> MemberIds {
        let id = |number: usize| number.to_string().parse::<MemberId>().unwrap();
        (1..=count).map(id).collect()
    }

    fn name() -> ElectionName {
        "orders".parse().unwrap()
    }

    /// Granted under `epoch`, with the value that was written under `under`.
    fn record(epoch: u64, under: u64) -> BTreeMap<ElectionName, Record> {
        let epoch = Epoch::new(epoch).unwrap();
        let grant = Grant {
            epoch,
            member: "1".parse().unwrap(),
            session: SessionId::from_bits(1),
            lease_ms: 3_000,
            profile: Profile {
                node: "n1".parse().unwrap(),
                url: None,
                metadata: Vec::new(),
            },
            since: UnixMs(0),
        };
        let record = Record {
            known: Some(epoch),
            grant: Some(grant),
            checkpoint: Some(Stored {
                under: Epoch::new(under).unwrap(),
                revision: None,
                bytes: Vec::new(),
            }),
            ..Record::default()
        };
        [(name(), record)].into()
    }

    /// The arithmetic that all of it rests on.
    #[test]
    fn majorities_of_lists_that_differ_by_one_member_share_one() {
        for shorter in 1..=crate::peers::MOST_MEMBERS {
            let longer = shorter + 1;
            assert!((shorter / 2 + 1) + (longer / 2 + 1) > longer, "{shorter}");
        }
    }

    #[test]
    fn one_member_comes_or_goes_and_none_is_exchanged() {
        let list = List::first(members(4));
        let none = BTreeMap::new();
        for count in [3, 4, 5] {
            let next = list.clone().started_with(&members(count), &none).unwrap();
            assert_eq!(next.members, members(count));
        }
        let mut exchanged = members(4);
        exchanged.0.pop_last();
        exchanged.0.insert("9".parse().unwrap());
        for given in [members(2), members(6), exchanged] {
            let refused = list.clone().started_with(&given, &none).unwrap_err();
            assert!(matches!(refused, ListRefused::Apart { .. }), "{refused}");
        }
    }

    /// Five members granted epoch 7, and the first two of them do not know it. With four it
    /// cannot be missed; with three it could, had nobody been elected by four meanwhile.
    #[test]
    fn the_next_change_waits_until_each_election_had_a_leader_since_the_last() {
        let list = List::first(members(5));
        let list = list.started_with(&members(4), &record(5, 5)).unwrap();
        for not_yet in [record(5, 5), record(6, 5)] {
            let again = list.clone().started_with(&members(4), &not_yet).unwrap();
            let refused = again.started_with(&members(3), &not_yet).unwrap_err();
            let ListRefused::Unsettled { elections, .. } = &refused else {
                unreachable!("{refused}");
            };
            assert_eq!(*elections, [name()]);
            let text = refused.to_string();
            assert!(text.contains("lead orders under 1,2,3,4"), "{text}");
        }
        let back = list.clone().started_with(&members(5), &record(6, 5));
        let back = back.unwrap();
        assert!(back.started_with(&members(6), &record(6, 5)).is_err());
        list.started_with(&members(3), &record(8, 8)).unwrap();
    }
}
