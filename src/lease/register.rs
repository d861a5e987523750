//! A lease register: the rules by which one election's record changes.
//!
//! Pure data and pure functions, and the reference for every store: the memory
//! and file stores keep this very value, the Redis scripts say the same in Lua and
//! are compared with it operation by operation. A store supplies two things, its
//! clock and atomicity.
//!
//! The record has two halves that a store may lose independently, as when somebody
//! deletes a key: the [`LeaderKey`], which expires, and the [`State`], which never
//! does. Where they contradict each other, the bidder, or the server that answers,
//! the register *holds*: it grants nothing until the longest lease that may be
//! standing is over. The hold is written down, so that nodes without any memory
//! obey it too. Only the incumbent, still inside its lease, passes a hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Acquired, Bid, CheckpointWrite, CheckpointWritten, Claim, Epoch, EpochError, HoldReason,
    Holder, NodeId, Observed, Profile, Released, Renewed, Revision, SessionId,
};
use crate::time::{UnixMs, millis, millis_up};

/// The store's clock and identity at the moment of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// The clock that leases expire by, in milliseconds.
    pub lease_ms: u64,
    /// The clock that epochs are at least at.
    pub wall: UnixMs,
    /// Which server this is. Another one may not have the newest data.
    pub server: &'a str,
}

/// The half that expires: who holds the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderKey {
    /// The tenure in force.
    pub epoch: Epoch,
    /// The session it was granted to.
    pub session: SessionId,
    /// The last millisecond of the lease, by the store's clock.
    pub expires_ms: u64,
}

/// The half that never expires: what the newest tenure was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The newest epoch; a hold may have raised it above any that was granted here.
    pub epoch: Epoch,
    /// Whose it is; `None` where a hold raised it.
    pub session: Option<SessionId>,
    /// What the holder told about itself.
    pub profile: Option<Profile>,
    /// The lease it asked for.
    pub ttl_ms: u64,
    /// How long a hold for it lasts.
    pub hold_ms: u64,
    /// When it was granted.
    pub acquired: UnixMs,
    /// The last millisecond of its lease, by the store's clock.
    pub expires_ms: u64,
    /// The server that granted or last renewed it.
    pub server: String,
    /// No grant before this millisecond; 0 for none.
    pub hold_until_ms: u64,
    /// The holder released it.
    pub ended: bool,
    /// The newest revision ever written to the checkpoint.
    pub checkpoint: Option<Revision>,
    /// The revisions of this epoch begin above this: numbers up to it may have been
    /// given by another server, and be lost with it.
    #[serde(default)]
    pub revision_base: u64,
}

/// More revisions than one server gives before another takes its place and is told so.
const REVISIONS_OF_A_SERVER: u64 = 1 << 20;

/// One election's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Who holds the lease, if anybody.
    pub leader: Option<LeaderKey>,
    /// The newest tenure, if there ever was one.
    pub state: Option<State>,
}

impl State {
    /// What revisions begin above at a server. Where it is another than the one that
    /// vouches for the lease, it may lack the newest of them: they were acknowledged,
    /// and are not given to other values.
    fn base_at(&self, server: &str) -> u64 {
        if self.server == server {
            return self.revision_base;
        }
        let own = self.checkpoint.filter(|newest| newest.epoch == self.epoch);
        let newest = own.map_or(0, |newest| newest.seq);
        newest
            .max(self.revision_base)
            .saturating_add(REVISIONS_OF_A_SERVER * (1 + mark(server)))
    }
}

/// Keeps two servers apart that took the place of the same third one, one after the
/// other, before a renewal told of either.
fn mark(server: &str) -> u64 {
    let step = |mark, byte| (mark * 31 + u64::from(byte)) % 4096;
    server.bytes().fold(0, step)
}

impl Register {
    /// The newest epoch that the record knows of.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        let leader = self.leader.as_ref().map(|leader| leader.epoch);
        leader.max(self.state.as_ref().map(|state| state.epoch))
    }

    /// Asks for the lease.
    ///
    /// # Errors
    /// Where no epoch is left.
    pub fn acquire(&mut self, bid: &Bid, present: Present<'_>) -> Result<Acquired, EpochError> {
        self.expire(present);
        let known = self.epoch();
        // A claim to be the incumbent counts only while nobody was granted since.
        let incumbent = bid.incumbent && bid.floor.is_some() && known <= bid.floor;
        if let Some(holder) = self.holder(bid.ttl)
            && holder.session != bid.session
            && Some(holder.epoch) == known.max(bid.floor)
        {
            self.cut_to_ttl(present);
            let left = self.left(present).min(holder.ttl);
            return Ok(Acquired::Held { holder, left });
        }
        if let Some(epoch) = self.own_live_epoch(bid, present) {
            self.extend(millis(bid.ttl), present);
            return Ok(Acquired::Won {
                epoch,
                left: bid.ttl,
            });
        }
        if !incumbent && let Some(why) = self.contradiction(bid, present) {
            self.begin_hold(bid, present);
            let retry_in = self.hold_left(present);
            return Ok(Acquired::Hold { retry_in, why });
        }
        let retry_in = self.hold_left(present);
        if !incumbent && !retry_in.is_zero() {
            let why = HoldReason::Standing;
            return Ok(Acquired::Hold { retry_in, why });
        }
        let epoch = Epoch::next(known, bid.floor, present.wall)?;
        self.grant(epoch, bid, present);
        Ok(Acquired::Won {
            epoch,
            left: bid.ttl,
        })
    }

    /// Prolongs a lease; never creates one.
    pub fn renew(&mut self, claim: &Claim, present: Present<'_>) -> Renewed {
        self.expire(present);
        if !self.held_by(claim) {
            return Renewed::Lost(self.holder(claim.ttl));
        }
        // Without its state the lease cannot be judged by others: the holder gets a
        // new epoch instead, and the record is whole again.
        let whole = self
            .state
            .as_ref()
            .is_some_and(|state| state.epoch == claim.epoch);
        if !whole {
            return Renewed::Lost(None);
        }
        self.extend(millis(claim.ttl), present);
        Renewed::Kept { left: claim.ttl }
    }

    /// Gives a lease back, and notes that its epoch ended.
    pub fn release(&mut self, claim: &Claim, present: Present<'_>) -> Released {
        self.expire(present);
        if !self.held_by(claim) {
            // The answer to the first release may have been lost.
            let before = self.state.as_ref().is_some_and(|state| {
                state.ended
                    && state.epoch == claim.epoch
                    && state.session.as_ref() == Some(&claim.session)
            });
            return if before {
                Released::Released
            } else {
                Released::NotHeld
            };
        }
        self.leader = None;
        if self.epoch() < Some(claim.epoch) {
            self.state = Some(self.state_after(claim, present));
        }
        if let Some(state) = &mut self.state
            && state.epoch == claim.epoch
        {
            state.ended = true;
        }
        Released::Released
    }

    /// The state of a lease whose state was lost, told by its holder.
    fn state_after(&self, claim: &Claim, present: Present<'_>) -> State {
        State {
            epoch: claim.epoch,
            session: Some(claim.session.clone()),
            profile: None,
            ttl_ms: millis(claim.ttl),
            hold_ms: millis_up(claim.hold),
            acquired: present.wall,
            expires_ms: present.lease_ms,
            server: present.server.to_owned(),
            hold_until_ms: 0,
            ended: false,
            checkpoint: self.state.as_ref().and_then(|state| state.checkpoint),
            revision_base: 0,
        }
    }

    /// Looks at the record.
    pub fn observe(&mut self, present: Present<'_>) -> Observed {
        self.expire(present);
        let left = self.left(present);
        // An unknown TTL does not shorten what is left.
        let holder = self.holder(left).map(|holder| {
            let left = left.min(holder.ttl);
            (holder, left)
        });
        Observed {
            epoch: self.epoch(),
            holder,
        }
    }

    /// Decides a checkpoint write, where `stored` is the revision that the store
    /// holds. On `Written` the store puts the value under that revision.
    pub fn write_checkpoint(
        &mut self,
        write: &CheckpointWrite,
        stored: Option<Revision>,
    ) -> CheckpointWritten {
        let server = self.state.as_ref().map(|state| state.server.clone());
        self.write_checkpoint_at(write, stored, &server.unwrap_or_default())
    }

    /// The same, at a server that may be another than the one that granted the lease.
    pub fn write_checkpoint_at(
        &mut self,
        write: &CheckpointWrite,
        stored: Option<Revision>,
        server: &str,
    ) -> CheckpointWritten {
        let epoch = self.epoch();
        let stale = CheckpointWritten::Stale {
            epoch,
            revision: stored,
        };
        let Some(state) = &mut self.state else {
            return stale;
        };
        let holds = state.session.as_ref() == Some(&write.session) && !state.ended;
        if epoch != Some(write.epoch) || state.epoch != write.epoch || !holds {
            return stale;
        }
        if stored != write.expected {
            return CheckpointWritten::Mismatch { revision: stored };
        }
        let base = state.base_at(server);
        let newest = stored.max(state.checkpoint);
        let revision = Revision::next_above(newest, write.epoch, base);
        state.checkpoint = Some(revision);
        CheckpointWritten::Written(revision)
    }

    fn expire(&mut self, present: Present<'_>) {
        let over = |leader: &LeaderKey| leader.expires_ms < present.lease_ms;
        if self.leader.as_ref().is_some_and(over) {
            self.leader = None;
        }
    }

    /// A server's clock that was set back would keep the lease by as much, and its holder may
    /// be gone. Nobody counts on it for longer than a TTL from now.
    fn cut_to_ttl(&mut self, present: Present<'_>) {
        if let (Some(leader), Some(state)) = (&mut self.leader, &mut self.state)
            && state.epoch == leader.epoch
        {
            let longest_ms = present.lease_ms.saturating_add(state.ttl_ms);
            if leader.expires_ms > longest_ms {
                leader.expires_ms = longest_ms;
                state.expires_ms = longest_ms;
            }
        }
    }

    fn left(&self, present: Present<'_>) -> Duration {
        let expires_ms = self.leader.as_ref().map_or(0, |leader| leader.expires_ms);
        Duration::from_millis(expires_ms.saturating_sub(present.lease_ms))
    }

    fn held_by(&self, claim: &Claim) -> bool {
        let same =
            |leader: &LeaderKey| leader.epoch == claim.epoch && leader.session == claim.session;
        self.leader.as_ref().is_some_and(same)
    }

    /// The epoch that the bidder holds already, by a grant whose answer it lost. An
    /// epoch not above the floor is dead to the bidder.
    fn own_live_epoch(&self, bid: &Bid, present: Present<'_>) -> Option<Epoch> {
        let leader = self.leader.as_ref()?;
        let state = self.state.as_ref()?;
        let own = leader.session == bid.session
            && state.epoch == leader.epoch
            && state.server == present.server;
        (own && Some(leader.epoch) > bid.floor).then_some(leader.epoch)
    }

    /// Whether the record, the bidder's memory and the answering server disagree on
    /// who may be leading. Reached only where no other session holds the newest
    /// epoch; the bidder's own lease, even a dead one, is no riddle.
    fn contradiction(&self, bid: &Bid, present: Present<'_>) -> Option<HoldReason> {
        let known = self.epoch();
        if bid.floor > known {
            return Some(HoldReason::StoreWentBack);
        }
        let state = self.state.as_ref()?;
        match &self.leader {
            Some(leader) if Some(leader.epoch) < known => return Some(HoldReason::StoreWentBack),
            None if !state.ended
                && state.session.is_some()
                && state.expires_ms >= present.lease_ms =>
            {
                return Some(HoldReason::LeaseVanished);
            }
            _ => {}
        }
        (state.server != present.server).then_some(HoldReason::ServerChanged)
    }

    /// Raises the record to what the bidder has seen, and holds from now on.
    fn begin_hold(&mut self, bid: &Bid, present: Present<'_>) {
        let Some(epoch) = self.epoch().max(bid.floor) else {
            return;
        };
        let before = self.state.as_ref();
        let hold_ms = before
            .map_or(0, |state| state.hold_ms)
            .max(millis_up(bid.hold));
        self.state = Some(State {
            epoch,
            session: None,
            profile: None,
            ttl_ms: before.map_or(0, |state| state.ttl_ms).max(millis(bid.ttl)),
            hold_ms,
            acquired: before.map_or(present.wall, |state| state.acquired),
            expires_ms: 0,
            server: present.server.to_owned(),
            hold_until_ms: present.lease_ms.saturating_add(hold_ms),
            ended: false,
            checkpoint: before.and_then(|state| state.checkpoint),
            revision_base: 0,
        });
        self.leader = None;
    }

    fn hold_left(&self, present: Present<'_>) -> Duration {
        let Some(state) = &self.state else {
            return Duration::ZERO;
        };
        let left = state.hold_until_ms.saturating_sub(present.lease_ms);
        Duration::from_millis(left.min(state.hold_ms))
    }

    fn grant(&mut self, epoch: Epoch, bid: &Bid, present: Present<'_>) {
        let ttl_ms = millis(bid.ttl);
        let expires_ms = present.lease_ms.saturating_add(ttl_ms);
        self.leader = Some(LeaderKey {
            epoch,
            session: bid.session.clone(),
            expires_ms,
        });
        self.state = Some(State {
            epoch,
            session: Some(bid.session.clone()),
            profile: Some(bid.profile.clone()),
            ttl_ms,
            hold_ms: millis_up(bid.hold),
            acquired: present.wall,
            expires_ms,
            server: present.server.to_owned(),
            hold_until_ms: 0,
            ended: false,
            checkpoint: self.state.as_ref().and_then(|state| state.checkpoint),
            revision_base: 0,
        });
    }

    fn extend(&mut self, ttl_ms: u64, present: Present<'_>) {
        let expires_ms = present.lease_ms.saturating_add(ttl_ms);
        if let Some(leader) = &mut self.leader {
            leader.expires_ms = expires_ms;
        }
        if let Some(state) = &mut self.state {
            state.expires_ms = expires_ms;
            if state.server != present.server {
                state.revision_base = state.base_at(present.server);
                present.server.clone_into(&mut state.server);
            }
        }
    }

    /// The holder of the live lease; `ttl` stands in where its state was lost.
    fn holder(&self, ttl: Duration) -> Option<Holder> {
        let leader = self.leader.as_ref()?;
        let state = self
            .state
            .as_ref()
            .filter(|state| state.epoch == leader.epoch);
        let unknown = || Profile {
            node: NodeId::unknown(),
            url: None,
            metadata: Vec::new(),
        };
        Some(Holder {
            epoch: leader.epoch,
            session: leader.session.clone(),
            profile: state
                .and_then(|state| state.profile.clone())
                .unwrap_or_else(unknown),
            since: state.map_or(UnixMs(0), |state| state.acquired),
            ttl: state.map_or(ttl, |state| Duration::from_millis(state.ttl_ms)),
        })
    }
}
