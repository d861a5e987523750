//! What goes over the mesh: a member's word, and of which election.

use serde::{Deserialize, Serialize};

use crate::lease::{Drift, ElectionName};
use crate::quorum::Envelope;

/// One word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Said {
    pub election: ElectionName,
    /// What the speaker takes for the bound of clocks. Who assumes another one binds its vote
    /// for too short a time, or counts on it for too long.
    pub drift_ppm: u32,
    pub said: Box<Envelope>,
}

impl Said {
    pub fn new(election: &ElectionName, drift: Drift, said: Box<Envelope>) -> Self {
        Self {
            election: election.clone(),
            drift_ppm: drift.ppm(),
            said,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lease::{Epoch, NodeId, Profile, Revision, SessionId};
    use crate::peers::{DiskId, MemberId};
    use crate::quorum::ring::{Seat, Token};
    use crate::quorum::{Asked, Grant, Message, Roster, Stored, View};
    use crate::time::UnixMs;

    #[test]
    fn every_word_comes_back_as_it_was_said() {
        let member: MemberId = "a".parse().unwrap();
        let node: NodeId = "node a".parse().unwrap();
        let epoch = Epoch::new(Epoch::MAX.get()).unwrap();
        let session = SessionId::from_bits(u128::MAX);
        let grant = Grant {
            epoch,
            member,
            session: session.clone(),
            lease_ms: 3000,
            profile: Profile {
                node: node.clone(),
                url: Some("http://h/".to_owned()),
                metadata: vec![0, 255],
            },
            since: UnixMs(u64::MAX),
        };
        let stored = Stored {
            under: epoch,
            revision: Some(Revision::next(None, epoch)),
            bytes: vec![0, 1, 255],
        };
        let view = View {
            known: Some(epoch),
            live: Some(grant.clone()),
            lease_left_ms: 17,
        };
        let seat = Seat {
            member,
            candidate: true,
            view: view.clone(),
            silent: [member].into(),
        };
        let ack = |of, checkpoint| Message::Ack {
            epoch,
            of,
            ok: true,
            known: None,
            checkpoint,
        };
        let messages = [
            Message::Election {
                epoch,
                session: session.clone(),
            },
            Message::Ok {
                epoch,
                willing: true,
                superior: false,
                view: view.clone(),
            },
            Message::Coordinator {
                grant: grant.clone(),
            },
            Message::Heartbeat {
                grant: grant.clone(),
                seq: u64::MAX,
            },
            Message::Release {
                epoch,
                session,
                prefer: Some(node),
            },
            Message::Write {
                grant,
                stored: stored.clone(),
            },
            ack(Asked::Claim, Some(stored.clone())),
            ack(Asked::Heartbeat(7), None),
            ack(Asked::Release, None),
            ack(Asked::Write(stored.revision), None),
            Message::Read {
                ask: 1 << 53,
                value: true,
            },
            Message::State {
                ask: 3,
                leads: true,
                view,
                checkpoint: Some(stored.clone()),
            },
            Message::Token(Token {
                round: 9,
                initiator: member,
                path: vec![seat],
            }),
            Message::TokenAck {
                round: 9,
                initiator: member,
            },
            Message::Elected { round: 9 },
            Message::Join,
            Message::Welcome {
                known: Some(epoch),
                lease_ms: 1,
                checkpoint: Some(stored),
            },
            Message::Replaced,
        ];
        for message in messages {
            let envelope = Envelope {
                disk: DiskId::random().unwrap(),
                disks: Roster::default(),
                message,
            };
            let election = "orders".parse().unwrap();
            let said = Said::new(&election, Drift::ONE_PERCENT, Box::new(envelope));
            let wire = serde_json::to_value(&said).unwrap().to_string();
            let body: serde_json::Value = serde_json::from_str(&wire).unwrap();
            assert_eq!(Said::deserialize(&body).unwrap(), said, "{wire}");
        }
    }
}
